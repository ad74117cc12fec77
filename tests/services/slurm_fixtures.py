"""Fixtures over a real Slurm: one cluster for all tests, as it was at its start for each."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from services.slurm import SlurmCluster


@pytest.fixture(scope="session")
def _one_cluster() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def slurm(_one_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """Three idle nodes of a real Slurm, which every process that the test starts uses."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, _one_cluster.environ[name])
    yield _one_cluster
    _one_cluster.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what Slurm and the runs' own records say at that moment: later, nothing is left of them."""
    report = yield
    given = getattr(item, "funcargs", {})
    cluster = given.get("slurm") or given.get("cloud")
    if report.failed and isinstance(cluster, SlurmCluster):
        report.sections += [("Slurm", _account(cluster))]
        if (yard := given.get("yard")) is not None:
            report.sections += [("runs", _records(yard.folder))]
    return report


def _account(cluster: SlurmCluster) -> str:
    """What Slurm says of its jobs and nodes, and the last that its daemons wrote."""
    asks = (
        ("squeue", "--long"),
        ("sinfo", "--list-reasons"),
        ("scontrol", "show", "nodes"),
        ("scontrol", "show", "jobs"),
    )
    said = [f"== {' '.join(ask)}\n{cluster.run(*ask, check=False)[-8000:]}" for ask in asks]
    logs = sorted((cluster.folder / "log").glob("*.log"))
    return "\n".join([*said, *(f"== {path.name}\n{path.read_text(errors='replace')[-5000:]}" for path in logs)])


def _records(folder: Path) -> str:
    """The ends of the small files in which runs and their controllers write what they do."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".jsonl", ".log", ".began", ".ended")]
    files += sorted(folder.rglob("launch/*.json"))
    return "\n".join(f"== {path.relative_to(folder)}\n{path.read_text(errors='replace')[-3000:]}" for path in files)
