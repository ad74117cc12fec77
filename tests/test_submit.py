"""From a job to a queued run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launching import Yard
from tensoryard.errors import JobError
from tensoryard.run import RunRecord, list_runs
from tensoryard.store import keys


def test_a_submitted_run_is_queued_and_remembers_its_job(yard: Yard) -> None:
    run = yard.submit("", tags={"team": "vision"}, script_params={"--epochs": 3})
    assert run.id == "test-0001"
    again = RunRecord(run.store, run.id)
    assert again.job == run.job
    assert again.job.tags == {"team": "vision"}
    assert list(run.store.children(keys.queued("local"))) == [run.id]
    assert again.state().stage == "NotStarted"
    assert again.state().facts["submitted"]["snapshot"] == run.snapshot().digest


def test_runs_are_numbered_across_experiments(yard: Yard) -> None:
    names = [yard.submit("", experiment=name).id for name in ("a", "b-1", "a")]
    assert names == ["a-0001", "b-1-0002", "a-0003"]
    assert [run.id for run in list_runs(yard.workspace.store)] == names[::-1]
    assert [run.id for run in list_runs(yard.workspace.store, "a")] == ["a-0003", "a-0001"]


def test_two_that_submit_at_once_get_two_numbers(
    yard: Yard, processes: Callable[[int, Callable[[int], None]], list[int]]
) -> None:
    yard.source("")
    assert processes(8, lambda index: [yard.submit("").id for _ in range(5)] and None) == [0] * 8
    assert [run.id for run in list_runs(yard.workspace.store)] == [f"test-{n:04d}" for n in range(40, 0, -1)]


def test_requirements_are_read_at_submission(yard: Yard) -> None:
    requirements = yard.source("") / "requirements.txt"
    requirements.write_text("numpy>=1.26\n")
    run = yard.submit("", pip_requirements_file="requirements.txt")
    requirements.write_text("pillow\n")
    assert run.job.pip_packages == ("numpy>=1.26  # requirements.txt line 1",)
    assert run.job.pip_requirements_file is None


def test_a_run_that_goes_on_is_not_resumed_from(yard: Yard) -> None:
    first = yard.submit("")
    with pytest.raises(JobError, match=f"^resume_from: `{first.id}` has not ended yet\n"):
        yard.submit("", resume_from=first.id)


def test_a_run_that_never_started_can_be_resumed_from(yard: Yard) -> None:
    first = yard.submit("")
    first.request_cancel()
    yard.serve()
    run = yard.run("", resume_from=first.id)
    assert run.state().stage == "Completed"


def test_the_source_folder_is_not_needed_after_submission(yard: Yard, tmp_path: Path) -> None:
    run = yard.submit("print('kept')")
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    yard.serve()
    assert yard.log(run) == "kept\n"
