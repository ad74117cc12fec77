"""
A Slurm cluster of Debian's packages on this one machine: real munge, real slurmctld, a real slurmd for every node.

A node has a network, a host name, processes and an /etc/hosts of its own (Linux namespaces): its plug can be pulled.
Nothing of the machine's own munge or Slurm is used. Files of all nodes are the machine's: the shared disk that Slurm
clusters have. Configured by the templates that real nodes get.

What it does not show: control groups, GPUs that compute, a network that is slow. Accounting: `slurm_accounting.py`.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from infra.slurm_config import Node, Partition, SlurmConfig
from services.node_network import free_network, ip, path_of_daemons, remove_what_the_dead_left

CORES = 2
MEMORY_MIB = 2000
SMALL_DISK = 16 << 20
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged", "ip", "unshare")
# Ends with whoever started it, as `unshare --kill-child` passes on.
_PR_SET_PDEATHSIG = 1
_STARTS_WITHIN_S = 300.0
# Once more changes nothing. Not sbatch, nor `scontrol requeue`.
_REPEATABLE = {("squeue",), ("sinfo",), ("sdiag",), ("scancel",), ("scontrol", "show"), ("scontrol", "update")}
# In the node's own namespaces: its network card comes from outside, once it is there. Then what the node runs.
_NODE = """
set -e
mount --bind "$1" /etc/hosts
mount -t tmpfs tmpfs "$5"
hostname "$2"
read -r _
ip link set lo up
ip addr add "$3" dev eth0
ip link set eth0 up
"""


_HERE = {
    # As on clusters that put no job back into the queue unless it asks for that.
    "JobRequeue=1": "JobRequeue=0",
    # A few jobs on three nodes may be looked at all the time.
    "bf_interval=10": "bf_interval=1,sched_interval=1",
}


class SlurmNode:
    """One node while it is up. pid: of its first process, with which all others of it end."""

    def __init__(self, process: "subprocess.Popen[bytes]", pid: int) -> None:
        self.process = process
        self.pid = pid

    def end(self) -> None:
        """Pull the plug: no process of it gets to say a word."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


class SlurmCluster:
    """
    A running cluster of nodes `node-1` to `node-N`; `close` ends all of it, and so does the end of this process.

    environ: what a process needs to use it; starts_nodes: not where Slurm itself has them made. Partitions: `main`
    with all nodes, `gpu` with the last, which has one.
    """

    starts_nodes = True
    links = "tys"
    node_runs = 'exec slurmd -D -N "$2" -f "$4"'

    def __init__(self, count: int = 3) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name, path=path_of_daemons()) is None]
        assert not missing, f"the tests need {', '.join(missing)}: run tools/system-packages"
        assert os.getuid() == 0, "the tests of Slurm make nodes out of Linux namespaces: run them as root"
        remove_what_the_dead_left()
        # Not pytest's own folder, which nobody else may enter: daemons check who owns every folder above their files.
        self.folder = Path(tempfile.mkdtemp(prefix=f"tyard-slurm-{os.getpid()}-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.names = [f"node-{number}" for number in range(1, count + 1)]
        self.network = free_network()
        self.bridge = f"{self.links}{os.getpid()}"
        self.up: dict[str, SlurmNode] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._links = 0
        self.conf = self.folder / "slurm.conf"
        self.environ = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": path_of_daemons()}
        try:
            self._lay_out()
            self._daemon("munged", *self._munge_options())
            wait_until(self.munge_socket.exists, "munged listens")
            self.start_accounting()
            self.start_slurmctld()
            if self.starts_nodes:
                for name in self.names:
                    self.start_node(name)
                self.wait_until_idle()
        except BaseException:
            self.close()
            raise

    def run(self, *argv: str, check: bool = True, environ: dict[str, str] | None = None) -> str:
        """What a command of this cluster's printed; environ: in place of the cluster's own."""
        while True:
            done = subprocess.run(
                argv,
                env=environ or self.environ,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            # On a busy machine slurmctld may be late.
            words = tuple(word for word in argv if not word.startswith("-"))
            if "timed out" not in done.stderr or _REPEATABLE.isdisjoint({words[:1], words[:2]}):
                break
        assert not check or done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def start_node(self, name: str) -> None:
        number = self.names.index(name) + 1
        address = self.network.network_address + 1 + number
        hosts = self.folder / "hosts" / name
        hosts.write_text("".join(f"{where} {known}\n" for known, where in self._hosts_of(name).items()))
        inside = ["sh", "-c", _NODE + self.node_runs, "node", str(hosts), name]
        inside += [f"{address}/{self.network.prefixlen}", str(self.conf), str(self.folder / "tmp")]
        namespaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        process = self._daemon("unshare", *namespaces, *inside, log=f"{name}.out", stdin=subprocess.PIPE)
        pid = _first_child(process.pid)
        self._links += 1
        card = f"{self.bridge}n{self._links}"[-15:]
        wait_until(lambda: _has_own_network(pid), f"{name} has a network")
        ip("link", "add", card, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        ip("link", "set", card, "master", self.bridge, "up")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        self.up[name] = SlurmNode(process, pid)

    def kill_node(self, name: str) -> None:
        """As if its power failed: Slurm is not told."""
        self.up.pop(name).end()

    def start_accounting(self) -> None:
        """Before slurmctld: there is none here."""

    def start_slurmctld(self) -> None:
        self.slurmctld = self._daemon("slurmctld", "-D", "-f", str(self.conf), log="slurmctld.out")
        wait_until(lambda: "UP" in self.run("scontrol", "ping", check=False), "slurmctld answers")

    def stop_slurmctld(self) -> None:
        """It writes down what it knows first."""
        self.slurmctld.terminate()
        self.slurmctld.wait()

    def kill_slurmctld(self) -> None:
        """It has forgotten, after its start, what came after its last `save`: jobs of earlier tests may run again."""
        self.slurmctld.kill()
        self.slurmctld.wait()

    def save(self) -> bytes:
        """
        What slurmctld would know of jobs after its death: it writes every 5 s.

        Taken when all that it knows now is in it: a mark is in the file that was put into every job.
        """
        mark = os.urandom(8).hex()
        for job in self.jobs():
            self.run("scontrol", "update", f"jobid={job.split()[0]}", f"comment={mark}")
        saved = b""

        def is_saved() -> bool:
            nonlocal saved
            with contextlib.suppress(FileNotFoundError):  # for a moment, while it is replaced
                saved = (self.folder / "state" / "job_state").read_bytes()
            return mark.encode() in saved

        wait_until(is_saved, "slurmctld has saved its state")
        return saved

    def forget(self, saved: bytes | None = None) -> None:
        """What slurmctld, killed, had saved of jobs is that of an earlier `save`, or nothing."""
        state = self.folder / "state"
        for name in ("job_state", "job_state.old"):
            (state / name).unlink(missing_ok=True)
        if saved is not None:
            (state / "job_state").write_bytes(saved)
            return
        # Nodes remember, and drain when a number comes again.
        with self.conf.open("a") as file:
            file.write(f"FirstJobId={10_000 + int(time.time()) % 10_000_000}\n")

    def states(self) -> dict[str, str]:
        """The state of every node in Slurm's words, such as `idle` or `down*`."""
        said = self.run("sinfo", "--noheader", "--Node", "--format=%N|%T", check=False)
        return dict(line.split("|", 1) for line in said.split())

    def wait_until_idle(self, *, resume: bool = False) -> None:
        """resume: those that are down or take no more jobs too, now or as they come to it."""

        def are_idle() -> bool:
            found = self.states()
            for name, state in found.items():
                if resume and state.startswith(("down", "drain")):
                    self.run("scontrol", "update", f"NodeName={name}", "State=RESUME", check=False)
            return set(found.values()) == {"idle"}

        wait_until(are_idle, lambda: f"all nodes are idle: {self.states()}")

    def jobs(self) -> list[str]:
        """`id state reason` of every job that has not ended."""
        return self.run("squeue", "--noheader", "--format=%A %T %r").splitlines()

    def reset(self) -> None:
        """Everything as it was at the start: no jobs, every node up."""
        if self.slurmctld.poll() is not None:
            self.start_slurmctld()
        if self.jobs():
            self.run("scancel", "--user=root")
        for name in self.names:
            if name not in self.up:
                self.start_node(name)
        self.wait_until_idle(resume=True)

    def asked(self) -> dict[str, int]:
        """How often slurmctld has been asked for each thing since `forget_asked`, by its own count."""
        counts: dict[str, int] = {}
        for line in self.run("sdiag").splitlines():
            words = line.split()
            if words and words[0].startswith(("REQUEST_", "MESSAGE_")):
                counts[words[0]] = int(
                    next(word for word in words if word.startswith("count:")).removeprefix("count:")
                )
        return counts

    def forget_asked(self) -> None:
        self.run("sdiag", "--reset")

    def close(self) -> None:
        for node in self.up.values():
            node.end()
        for process in reversed(self._started):
            process.kill()
            process.wait()
        subprocess.run(["ip", "link", "delete", self.bridge], env=self.environ, capture_output=True, check=False)
        subprocess.run(["umount", self.small], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def impatient(self) -> bool:
        """Whether a node that is gone is given up soon. 24.11 drops answers for that, now and then."""
        return "22.05" in self.run("slurmctld", "-V")

    @property
    def small(self) -> Path:
        """A disk that is soon full, shared by all nodes."""
        return self.folder / "small"

    @property
    def munge_socket(self) -> Path:
        """Where the cluster's own munge answers."""
        return self.folder / "munge" / "munge.socket.2"

    def _munge_options(self) -> list[str]:
        at = self.folder / "munge"
        files = {"socket": self.munge_socket, "key-file": at / "key", "log-file": at / "log", "pid-file": at / "pid"}
        options = [f"--{name}={path}" for name, path in {**files, "seed-file": at / "seed"}.items()]
        # It would refuse /tmp, in which others may make files.
        return ["--foreground", "--force", *options]

    def _lay_out(self) -> None:
        for name in ("munge", "state", "spool", "run", "log", "tmp", "small", "hosts"):
            (self.folder / name).mkdir()
        # Before the nodes are there: each has the mounts that it was started with.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tyard-test", self.small], check=True)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        head = self.network.network_address + 1
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{head}/{self.network.prefixlen}", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        addresses = [str(head + number) for number in range(1, len(self.names) + 1)]
        gpu = self.folder / "gpu0"
        os.mknod(gpu, 0o666 | 0o020000, os.makedev(1, 3))
        config = self._config(str(head), addresses, gpu)
        for name, text in config.files().items():
            for ours, here in _HERE.items():
                text = text.replace(ours, here)
            (self.folder / name).write_text(text)
        with self.conf.open("a") as file:
            # Nodes may say that they have more than this machine; PMIx's files of one must not meet another's.
            file.write(f"\n# of the tests\nSlurmdParameters=config_overrides\nTmpFS={self.folder / 'tmp'}\n")
            if self.impatient:
                file.write("MessageTimeout=5\nTCPTimeout=1\n")

    def _hosts_of(self, name: str) -> dict[str, str]:
        """The names that lead somewhere on a node, and where to."""
        head = self.network.network_address + 1
        known = {"localhost": "127.0.0.1", socket.gethostname(): str(head)}
        return known | {other: str(head + number) for number, other in enumerate(self.names, 1)}

    def _config(self, head: str, addresses: list[str], gpu: Path) -> SlurmConfig:
        nodes = [
            Node(names=name, addresses=address, cpus=CORES, memory_mib=MEMORY_MIB, gpus=int(name == self.names[-1]))
            for name, address in zip(self.names, addresses, strict=True)
        ]
        nodes[-1] = Node(**{**vars(nodes[-1]), "gpu_files": str(gpu)})
        everything = ",".join(self.names)
        with socket.socket() as held:
            held.bind((head, 0))
            self.port = held.getsockname()[1]
        return SlurmConfig(
            cluster="tests",
            head_host=socket.gethostname(),
            head_address=head,
            nodes=tuple(nodes),
            partitions=(
                Partition(name="main", nodes=everything, default=True),
                Partition(name="gpu", nodes=self.names[-1]),
                Partition(name="short", nodes=everything, max_time="1"),
            ),
            memory_per_cpu_mib=MEMORY_MIB // CORES,
            slurmctld_port=self.port,
            slurm_user="root",
            slurmctld_parameters=("idle_on_node_suspend",),
            auth_info=(f"socket={self.munge_socket}", "cred_expire=5"),
            state_dir=str(self.folder / "state"),
            spool_dir=str(self.folder / "spool"),
            run_dir=str(self.folder / "run"),
            log_dir=str(self.folder / "log"),
            cgroup=False,
            slurmd_timeout_s=6 if self.impatient else 10,
        )

    def _daemon(
        self, *argv: str, log: str | None = None, stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        with (self.folder / (log or f"{argv[0]}.out")).open("ab") as out:
            process = subprocess.Popen(
                argv,
                env=self.environ,
                stdin=stdin,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the tests: their ends still need it
                preexec_fn=_die_with_parent,
            )
        self._started.append(process)
        return process


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _first_child(pid: int) -> int:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: path.read_text().split(), "a node's first process is there")
    return int(path.read_text().split()[0])


def _has_own_network(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def wait_until(condition: Callable[[], object], what: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


if __name__ == "__main__":  # a cluster to try things on, as root: PYTHONPATH=tests python -m services.slurm 2
    cluster = SlurmCluster(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    print(f"export SLURM_CONF={cluster.conf}", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        cluster.close()
