"""`tyard doctor`: what this machine has and lacks, what each is for, and how to get it."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec

from tensoryard.cli.tables import print_json, print_table
from tensoryard.errors import StoreError, UsageError
from tensoryard.text import size

_ENVIRONMENT_BYTES = 4 * 10**9  # TensorFlow with CUDA is the largest that people build


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    One thing looked at.

    found: what was seen, in words; fix: a command or a step, when it is missing; required: by every job.
    """

    name: str
    ok: bool
    found: str
    needed_for: str
    fix: str | None = None
    required: bool = False


@click.command()
@click.option("--registry", is_flag=True, help="Check the workspace's models instead, on whatever store it has.")
@click.option("--read-files", is_flag=True, help="With --registry: read every stored byte of every version.")
@click.option("--cluster", is_flag=True, help="Check Slurm's nodes and their machines instead, on the head.")
@click.option("--repair", is_flag=True, help="With --cluster: do what each fix says, where a program can.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, registry: bool, read_files: bool, cluster: bool, repair: bool, as_json: bool) -> None:
    """
    Say what this machine has and lacks, or what is wrong with the registry or a cluster, each with its fix.

    Exit code 1 when something that every job needs is missing, or anything is wrong with the registry or the cluster.

    \b
    Examples:
      tyard doctor
      tyard doctor --registry --json
      tyard doctor --cluster --repair
    """
    if registry and cluster:
        raise UsageError("doctor: got `--registry` and `--cluster`, expected one of them")
    if repair and not cluster:
        raise UsageError("doctor: `--repair` needs `--cluster`", "tyard doctor --cluster --repair")
    if cluster and not read_files:
        from tensoryard.cli.doctor_cluster import check_cluster

        ok = check_cluster(repair=repair, as_json=as_json)
    elif registry:
        ok = _check_registry(read_files=read_files, as_json=as_json)
    elif read_files:
        raise UsageError("doctor: `--read-files` needs `--registry`", "tyard doctor --registry --read-files")
    else:
        ok = _check_machine(as_json=as_json)
    if not ok:
        ctx.exit(1)


def _check_machine(*, as_json: bool) -> bool:
    """Prints what this machine has and lacks; whether there is all that every job needs."""
    findings = examine()
    if as_json:
        print_json(findings)
    else:
        rows = [("ok" if one.ok else "missing", one.name, one.found, one.needed_for) for one in findings]
        print_table(("", "WHAT", "FOUND", "NEEDED FOR"), rows)
        fixes = [one for one in findings if not one.ok and one.fix]
        if fixes:
            click.echo("\nFixes")
            print_table((), [("", one.name, one.fix or "") for one in fixes])
    return all(one.ok or not one.required for one in findings)


def _check_registry(*, read_files: bool, as_json: bool) -> bool:
    """Prints what is wrong with the workspace's models; whether nothing is."""
    from tensoryard.registry.check import check_registry
    from tensoryard.workspace import Workspace

    checked = check_registry(Workspace.from_config().store, read_files=read_files)
    if as_json:
        print_json(checked)
        return not checked.findings
    for finding in checked.findings:
        of = f"{finding.model}:{finding.version}" if finding.version else finding.model or "models"
        click.echo(f"{of}: {finding.what}\n  at   {finding.key}\n  fix  {finding.fix}\n")
    looked_at = f"models: {checked.models}, versions: {checked.versions}, files: {checked.files}"
    click.echo(f"Checked {looked_at}; {len(checked.findings) or 'nothing'} wrong", err=True)
    return not checked.findings


def examine() -> list[Finding]:
    """Every finding, what every job needs first. Starts a few short programs, changes nothing."""
    from tensoryard.cli.doctor_images import examine_images

    return [
        _python(),
        _uv(),
        _program("bash", "every job: launch scripts", {"apt-get": "bash", "brew": "bash"}, required=True),
        *_folders(),
        _machine(),
        _environments(),
        _controller(),
        _gpu(),
        _program("mpirun", "mpi jobs over MPI; without it Horovod uses Gloo", _MPI),
        _program("mpicxx", "building Horovod with MPI", _MPI),
        _program("cmake", "building Horovod", {"apt-get": "cmake", "brew": "cmake"}),
        _program("g++", "building Horovod", {"apt-get": "g++", "brew": "gcc"}),
        _program("make", "building Horovod", {"apt-get": "make", "brew": "make"}),
        _conda(),
        *examine_images(),
    ]


_MPI = {"apt-get": "libopenmpi-dev openmpi-bin", "brew": "open-mpi"}


def _python() -> Finding:
    return Finding(
        name="python", ok=True, found=f"{platform.python_version()} {sys.executable}", needed_for="tyard itself"
    )


def _uv() -> Finding:
    fix = f"{sys.executable} -m pip install uv"
    try:
        from tensoryard.environment.command import uv

        found = _output(uv("--version"))
    except (ImportError, OSError):
        found = None
    return Finding(
        name="uv",
        ok=found is not None,
        found=found or "-",
        needed_for="every job: building environments",
        fix=fix,
        required=True,
    )


def _program(name: str, needed_for: str, packages: dict[str, str], *, required: bool = False) -> Finding:
    path = shutil.which(name)
    return Finding(
        name=name,
        ok=path is not None,
        found=path or "-",
        needed_for=needed_for,
        fix=None if path else _install(packages, name),
        required=required,
    )


def _install(packages: dict[str, str], name: str) -> str:
    for installer, package in packages.items():
        if shutil.which(installer):
            return f"sudo apt-get install {package}" if installer == "apt-get" else f"{installer} install {package}"
    return f"install {name} with this system's package manager"


def _folders() -> list[Finding]:
    from tensoryard.environment.venv import default_cache
    from tensoryard.workspace import SETTINGS, Workspace

    findings = []
    looked_at = [("cache", default_cache(), "every job: environments", "TYARD_CACHE")]
    purpose = "every job: runs, data and models"
    name, fix = "workspace", "export TYARD_WORKSPACE=/a/folder/of/yours"
    try:
        workspace = Workspace.from_config()
        looked_at.insert(0, ("workspace", workspace.root, purpose, "TYARD_WORKSPACE"))
        name, fix = SETTINGS, f"correct or remove {workspace.root / SETTINGS}"
        workspace.settings()
    except UsageError as error:
        finding = Finding(name=name, ok=False, found=error.message, needed_for=purpose, fix=fix, required=True)
        findings.append(finding)
    for name, path, needed_for, variable in looked_at:
        there = _nearest(path)
        writable = os.access(there, os.W_OK | os.X_OK)
        findings.append(
            Finding(
                name=name,
                ok=writable,
                found=str(path) if writable else f"{path} cannot be written",
                needed_for=needed_for,
                fix=None if writable else f"export {variable}=/a/folder/of/yours",
                required=True,
            )
        )
        free = shutil.disk_usage(there).free
        enough = free >= _ENVIRONMENT_BYTES
        findings.append(
            Finding(
                name=f"{name} disk",
                ok=enough,
                found=f"{size(free)} free",
                needed_for=f"{size(_ENVIRONMENT_BYTES)} for an environment with CUDA, and what runs write",
                fix=None if enough else f"tyard env prune --yes; or export {variable}=/a/larger/disk",
            )
        )
    return findings


def _nearest(path: Path) -> Path:
    """The path, or the folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding(
        name="machine",
        ok=True,
        found=f"{cores} cores, {size(memory)} of memory, {platform.system()} {platform.machine()}",
        needed_for="shared by the tasks of local runs",
    )


def _environments() -> Finding:
    from tensoryard.environment.venv import default_cache

    # Their records are not read: one that is damaged must not end this command.
    count = sum(1 for _ in default_cache().glob("environments/[!.]*/environment.json"))
    return Finding(
        name="environments",
        ok=True,
        found=f"{count} built" if count else "none yet: the first run of each kind builds one",
        needed_for="starting a run at once",
    )


def _controller() -> Finding:
    from tensoryard.controller import controller_lock
    from tensoryard.store import keys
    from tensoryard.targets import SERVED_HERE
    from tensoryard.workspace import Workspace

    waiting: list[str] = []
    unserved: list[str] = []
    purpose = "runs that are queued"
    try:
        workspace = Workspace.from_config()
        for target in SERVED_HERE if workspace.root.is_dir() else ():
            queued = list(workspace.store.children(keys.queued(workspace.queue(target))))
            waiting += queued
            if queued:
                with controller_lock(workspace, target) as idle:
                    unserved += queued if idle else []
    except UsageError:
        pass  # another finding tells of a workspace that cannot be
    except StoreError as error:
        return Finding(name="controller", ok=False, found=error.message, needed_for=purpose, fix=error.hint)
    told = unserved or waiting
    runs = ", ".join(told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")
    state = f"not at work, and {runs} waits" if unserved else f"at work on {runs}"
    return Finding(
        name="controller",
        ok=not unserved,
        found=state if waiting else "no run is queued",
        needed_for=purpose,
        fix=f"tyard runs stream {unserved[0]}" if unserved else None,
    )


def _gpu() -> Finding:
    from tensoryard.supervisor import gpu_problem

    problem = gpu_problem()
    cards = None
    if problem is None:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        cards = _output(query) if shutil.which("nvidia-smi") else None
    on_mac = sys.platform == "darwin"
    fix = "there is no CUDA for macOS: run such jobs elsewhere" if on_mac else "sudo ubuntu-drivers install, or "
    return Finding(
        name="gpu",
        ok=problem is None,
        found=problem or (cards or "seen by the driver").replace("\n", "; "),
        needed_for="jobs with use_gpu",
        fix=None if problem is None else fix + ("" if on_mac else "your distribution's package of NVIDIA's driver"),
    )


def _conda() -> Finding:
    from importlib.util import find_spec

    there = find_spec("rattler") is not None
    return Finding(
        name="py-rattler",
        ok=there,
        found="installed" if there else "-",
        needed_for="jobs with conda_packages",
        fix=None if there else "pip install 'tensoryard[conda]'",
    )


def _output(argv: list[str]) -> str | None:
    """What a short program printed, or None when it failed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
