"""From a job to a queued run."""

import importlib.util
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launching import Yard
from tensoryard.errors import JobError, UsageError
from tensoryard.run import RunRecord, list_runs
from tensoryard.workspace import Workspace

EXAMPLE = 'for example {"concurrent_runs": 2}'


def test_a_submitted_run_is_queued_and_remembers_its_job(yard: Yard) -> None:
    run = yard.submit("", tags={"team": "vision"}, script_params={"--epochs": 3})
    assert run.id == "test-0001"
    again = RunRecord(run.store, run.id)
    assert again.job == run.job
    assert again.job.tags == {"team": "vision"}
    assert yard.queued() == [run.id]
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


def test_the_source_folder_is_not_needed_after_submission(yard: Yard, tmp_path: Path) -> None:
    run = yard.submit("print('kept')")
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    yard.serve()
    assert yard.log(run) == "kept\n"


def test_a_gpu_that_is_not_there_is_told_before_anything_is_made(yard: Yard) -> None:
    with pytest.raises(JobError, match=r"^use_gpu: got `true`, but this machine has no usable GPU: the NVIDIA"):
        # No GPU is left to see, where there is one.
        yard.submit("", use_gpu=True, environment_variables={"CUDA_VISIBLE_DEVICES": ""})
    assert not yard.workspace.root.exists()


def test_conda_packages_need_their_extra_at_submission(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def without_rattler(name: str, *rest: Any) -> Any:
        return None if name == "rattler" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_rattler)
    with pytest.raises(JobError, match=r"^conda_packages: zlib need the extra `conda`") as refused:
        yard.submit("", conda_packages=("zlib",))
    assert refused.value.hint == "pip install 'tensoryard[conda]'"


def test_a_run_has_the_name_of_who_submitted_it(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.delenv("LOGNAME", raising=False)
    assert yard.submit("").state().facts["submitted"]["user"] == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            '{\n"concurrent_runs": "two"}',
            ": line 2: concurrent_runs: got `two`, expected a whole number",
            None,
        ),
        ('{"concurrent_runs": 0}', ": line 1: concurrent_runs: got `0`, expected a whole number, at least 1", None),
        ('{"concurent_runs": 2}', ": line 1: unknown field `concurent_runs`", "did you mean `concurrent_runs`?"),
        (
            '{"name": "a"\n"b"}',
            ": line 2: is not JSON: expecting ',' delimiter",
            'for example {"concurrent_runs": 2}',
        ),
        ("[]", ': got a list, expected a mapping such as {"concurrent_runs": 2}', None),
        (b"\xff", ": is not UTF-8", "save the file as UTF-8"),
    ],
)
def test_wrong_settings_are_told_at_submission(yard: Yard, text: str | bytes, message: str, hint: str | None) -> None:
    yard.workspace.root.mkdir()
    path = yard.workspace.root / "workspace.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as refused:
        yard.submit("")
    assert (refused.value.message, refused.value.hint) == (f"{path}{message}", hint)
    assert [entry.name for entry in yard.workspace.root.iterdir()] == ["workspace.json"]


def test_the_environment_names_a_workspace_or_the_folder_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path))
    assert Workspace.from_config().root == tmp_path
    (tmp_path / ".tensoryard").mkdir()
    assert Workspace.from_config().root == tmp_path / ".tensoryard"
    monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "new" / "one"))
    assert Workspace.from_config().root == tmp_path / "new" / "one"
    assert [entry.name for entry in tmp_path.iterdir()] == [".tensoryard"]


@pytest.mark.parametrize(
    ("place", "what"), [("file", "is not a folder"), ("file/x", "cannot be made"), ("/proc/x", "cannot be made")]
)
def test_an_impossible_workspace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, what: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / place))
    with pytest.raises(UsageError, match=f"^TYARD_WORKSPACE: `{tmp_path / place}` {what}"):
        Workspace.from_config()
