"""Slurm with its accounting: a cluster of its own, on which jobs have accounts, and what they may use is limited."""

from collections.abc import Iterator

import pytest

from launching import Yard, wait_until
from services.slurm import SlurmCluster
from services.slurm_accounting import ACCOUNT, AccountingCluster
from slurm.test_slurm_faults import (  # noqa: F401
    TRAINS,
    end_of,
    enough,
    start,
    test_a_job_that_somebody_else_cancels_is_failed_and_says_so,
    test_jobs_that_are_put_back_into_the_queue_go_on_from_their_checkpoints,
)
from tensoryard.errors import JobError
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

# The imported tests: what Slurm's word decides, once more where it keeps records of jobs.
pytestmark = pytest.mark.parametrize("yard", ["folder"], indirect=True)


@pytest.fixture(scope="module")
def _accounting() -> Iterator[AccountingCluster]:
    cluster = AccountingCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def slurm(_accounting: AccountingCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, _accounting.environ[name])
    yield _accounting
    _accounting.reset()


def of(account: str) -> SlurmTarget:
    return SlurmTarget(SlurmOptions(account=account))


def test_a_run_of_an_account_waits_for_what_the_account_may_use(slurm: SlurmCluster, yard: Yard) -> None:
    slurm.run("sacctmgr", "--immediate", "modify", "account", ACCOUNT, "set", "GrpJobs=1")
    first = start(yard, "single", compute_target=of(ACCOUNT))
    second = yard.submit("print('hello')", compute_target=of(ACCOUNT))
    wait_until(lambda: "AssocGrpJobsLimit" in str(second.state().reason), "its reason is known")
    job = yard.record(second, "launch/slurm.json")["job"]
    assert second.state().reason == (
        f"1 node asked as job {job}: its account has as much Jobs in use as it may (AssocGrpJobsLimit)"
    )
    enough(yard, first)
    assert yard.wait_for_stage(first, "Completed", "Failed") == "Completed"
    assert end_of(slurm, yard, second) == ("Completed", None)
    said = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=Account,State"]
    wait_until(lambda: slurm.run(*said, f"--jobs={job}") == f"{ACCOUNT}|COMPLETED\n", "Slurm has it on its records")
    slurm.run("sacctmgr", "--immediate", "modify", "account", ACCOUNT, "set", "GrpJobs=-1")


def test_an_account_that_is_not_there_is_refused_before_anything_is_made(slurm: SlurmCluster, yard: Yard) -> None:
    with pytest.raises(JobError, match="account `nobody`"):
        yard.submit(TRAINS, compute_target=of("nobody"))
