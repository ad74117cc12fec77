"""A Slurm cluster that starts with no node: its programs have machines made, which are namespaces of this machine."""

from dataclasses import replace
from pathlib import Path

from infra.slurm_config import Partition, SlurmConfig
from services.slurm import SlurmCluster


class CloudCluster(SlurmCluster):
    """Nodes are there when a job needs them. programs: folder of Slurm's resume, suspend and fail."""

    starts_nodes = False

    def __init__(self, programs: Path, count: int = 3) -> None:
        self._programs = programs
        super().__init__(count)

    def _config(self, head: str, addresses: list[str], gpu: Path) -> SlurmConfig:
        made = super()._config(head, addresses, gpu)
        return replace(
            made,
            nodes=tuple(replace(node, state="CLOUD", gpus=0) for node in made.nodes),
            partitions=(Partition(name="main", nodes=",".join(self.names), default=True),),
            slurmctld_parameters=("idle_on_node_suspend", "power_save_interval=1", "power_save_min_interval=0"),
            resume_program=str(self._programs / "resume"),
            suspend_program=str(self._programs / "suspend"),
            resume_fail_program=str(self._programs / "fail"),
            resume_timeout_s=20,
            suspend_time_s=5,
            suspend_timeout_s=5,
        )
