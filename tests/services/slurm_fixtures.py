"""Fixtures over a real Slurm: one cluster for all tests, as it was at its start for each."""

from collections.abc import Iterator

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
