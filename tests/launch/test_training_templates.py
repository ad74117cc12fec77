"""The job folders of `tyard init`; their scripts run in test_run_templates.py and test_azureml_page.py."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from tensoryard import context, idx_data, templates
from tensoryard.cli.init import DATA, FILES, KINDS
from tensoryard.cli.main import tyard
from tensoryard.environment.spec import Way, environment_spec
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import UsageError
from tensoryard.job_file import load_job

WAYS = {
    "single": "single",
    "horovod": "mpi",
    "parameter_server": "parameter_server",
    "multi_worker": "multi_worker_mirrored",
}


def init(*arguments: str | Path) -> str:
    """What `tyard init` says."""
    done = CliRunner().invoke(tyard, ["init", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)
    return done.output


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_folder_is_a_job_that_loads(tmp_path: Path, kind: str) -> None:
    said = init(tmp_path / "my-job", "--kind", kind)

    job = load_job(tmp_path / "my-job")
    assert sorted(path.name for path in (tmp_path / "my-job").iterdir()) == sorted(FILES)
    assert (job.experiment, job.way) == ("my-job", WAYS[kind])
    assert [reference.path for reference in job.references().values()] == ["mnist"]
    assert f"tyard run {tmp_path}/my-job/job.yaml" in said
    job.environment_spec()


def test_every_way_of_running_has_a_template() -> None:
    assert set(get_args(Way)) == set(WAYS.values())
    assert set(KINDS) == set(WAYS)


def test_every_data_set_offered_can_be_fetched() -> None:
    assert set(DATA) == set(idx_data.DATASETS)


def test_the_data_named_is_the_data_the_job_reads_and_the_command_printed(tmp_path: Path) -> None:
    said = init(tmp_path / "job", "--data", "digits")

    references = load_job(tmp_path / "job").references().values()
    assert [reference.path for reference in references] == ["digits"]
    assert "tyard data fetch digits" in said


@pytest.mark.parametrize("name", ["on", "1.5", "2026-11-23", "null", "a b", "it's", "né"])
def test_a_folder_with_any_name_gives_a_job_that_loads(tmp_path: Path, name: str) -> None:
    init(tmp_path / name)

    assert load_job(tmp_path / name).experiment == re.sub(r"[^a-zA-Z0-9._-]+", "-", name).strip("-._")


def test_files_that_are_there_are_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("a person's own script")

    with pytest.raises(UsageError, match=r"train\.py is there already"):
        init(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
    assert (tmp_path / "train.py").read_text() == "a person's own script"


def test_an_experiment_with_a_bad_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="experiment"):
        init(tmp_path / "job", "--experiment", 'a"b')

    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_data_ends_the_script_in_one_clear_line(tmp_path: Path) -> None:
    """Started as the launcher does: `tensoryard` on its path is one file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "path").mkdir()
    shutil.copy(Path(context.__file__), tmp_path / "path" / "tensoryard.py")
    # In place of TensorFlow, whose import takes seconds: the script looks for its data without it.
    stand_in = "import sys, unittest.mock\nsys.modules[__name__] = unittest.mock.MagicMock()\n"
    (tmp_path / "path" / "tensorflow.py").write_text(stand_in)

    python = VenvBuilder().ensure(environment_spec(way="single"), print).python
    script = str(templates.folder("training") / "single" / "train.py")
    process = subprocess.run(
        [python, script, "--data-folder", tmp_path / "data", "--epochs", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "path")},
        capture_output=True,
        text=True,
    )

    talk = process.stderr
    lines = [line for line in talk.splitlines() if "train.py:" in line]
    assert process.returncode == 1
    assert lines == [
        f"train.py: no train-images-idx3-ubyte.gz in {tmp_path / 'data'}; "
        "`tyard data fetch --help` lists data sets to put there"
    ]
    assert "Traceback" not in talk
