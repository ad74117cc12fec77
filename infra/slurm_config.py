"""
What Slurm is told of a cluster: slurm.conf, gres.conf and cgroup.conf, rendered from templates/node.

The head, its nodes and the tests' clusters are configured by these files and no others; they differ in the values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from infra.node_config import templates
from infra.security import SRUN


@dataclass(frozen=True, kw_only=True)
class Node:
    """
    Nodes that are alike.

    names: one name or a range such as gpu-[1-4]; addresses: theirs, where a name alone does not lead there;
    memory_mib: what a job can have, less than the machine has; gpu_files: their devices, NVIDIA's unless said;
    state: CLOUD for those made when they are needed.
    """

    names: str
    cpus: int
    memory_mib: int
    gpus: int = 0
    gpu_files: str = ""
    addresses: str = ""
    state: str = "UNKNOWN"

    @property
    def devices(self) -> str:
        """The devices of just as many GPUs as there are: slurmd waits in vain for one that is not there."""
        return self.gpu_files or ("/dev/nvidia0" if self.gpus == 1 else f"/dev/nvidia[0-{self.gpus - 1}]")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What a job names to get some nodes; max_time: in Slurm's own words, such as 1-00:00:00."""

    name: str
    nodes: str
    default: bool = False
    max_time: str = "UNLIMITED"


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """
    A cluster. Paths are Debian's unless said; times are in seconds.

    cgroup: whether jobs are held to their share by control groups; without, as in the tests, by Slurm's word alone.
    """

    cluster: str
    head_host: str
    head_address: str
    nodes: tuple[Node, ...]
    partitions: tuple[Partition, ...]
    memory_per_cpu_mib: int
    slurmctld_port: int = 6817
    slurmd_port: int = 6818
    slurm_user: str = "slurm"
    slurmctld_parameters: tuple[str, ...] = ("enable_configless", "idle_on_node_suspend")
    auth_info: tuple[str, ...] = ("cred_expire=60",)
    state_dir: str = "/var/lib/slurm/slurmctld"
    spool_dir: str = "/var/lib/slurm/slurmd"
    run_dir: str = "/run"
    log_dir: str = "/var/log/slurm"
    cgroup: bool = True
    slurmd_timeout_s: int = 60
    slurmctld_timeout_s: int = 30
    resume_program: str | None = None
    suspend_program: str | None = None
    resume_fail_program: str | None = None
    job_start_program: str | None = None
    resume_timeout_s: int = 900
    suspend_time_s: int = 300
    suspend_timeout_s: int = 120

    def files(self) -> dict[str, str]:
        """The text of every file of Slurm's folder of settings, by name."""
        context = asdict(self) | {
            "nodes": self.nodes,
            "srun_ports": SRUN,
            "proctrack_type": "proctrack/cgroup" if self.cgroup else "proctrack/linuxproc",
            "task_plugin": "task/affinity,task/cgroup" if self.cgroup else "task/none",
        }
        names = ("slurm.conf", "gres.conf", *(("cgroup.conf",) if self.cgroup else ()))
        return {name: templates().get_template(f"{name}.j2").render(context) for name in names}
