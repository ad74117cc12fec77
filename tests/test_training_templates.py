"""The job folders of `tyard init`, and the script of one process in its real environment."""

import os
import re
import shutil
import signal
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


class Script:
    """The train.py of one process, started as the launcher does: `tensoryard` on its path is one file."""

    def __init__(self, folder: Path) -> None:
        self.python = VenvBuilder().ensure(environment_spec(way="single"), print).python
        self.folder = folder
        self.data = folder / "data"
        (folder / "path").mkdir()
        shutil.copy(Path(context.__file__), folder / "path" / "tensoryard.py")
        self.environ = {**os.environ, "PYTHONPATH": str(folder / "path"), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def start(self, run: str, epochs: int) -> subprocess.Popen[str]:
        (self.folder / run).mkdir(exist_ok=True)
        script = str(templates.folder("training") / "single" / "train.py")
        return subprocess.Popen(
            [self.python, script, "--data-folder", self.data, "--epochs", str(epochs)],
            cwd=self.folder / run,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def epochs(self, run: str, epochs: int) -> dict[int, str]:
        """Loss and accuracy that the script prints for each epoch, run to its end."""
        out, talk = self.start(run, epochs).communicate()
        lines = re.findall(r"^Epoch (\d+)/\d+: (loss [\d.]+, accuracy [\d.]+)", out, flags=re.MULTILINE)
        assert lines, talk
        return {int(number): values for number, values in lines}


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


SERVES = """
import tensorflow as tf
serve = tf.saved_model.load("outputs/model").signatures["serving_default"]
print(serve(images=tf.zeros([3, 8, 8], tf.uint8))["probabilities"].numpy().sum(axis=1).round(3).tolist())
"""


def test_a_killed_script_ends_where_an_unbroken_one_does_whose_model_predicts(script: Script) -> None:
    idx_data.fetch("digits", script.data, print)
    killed = script.start("broken", 10_000)
    assert killed.stdout is not None
    seen = next(int(line.split()[1].partition("/")[0]) for line in killed.stdout if line.startswith("Epoch 3/"))
    killed.send_signal(signal.SIGKILL)
    rest = killed.stdout.read()  # `communicate` would leave out what has been read ahead
    killed.communicate()
    last = max(int(number) for number in re.findall(r"^Epoch (\d+)/", rest, re.MULTILINE) or [seen])

    resumed = script.epochs("broken", last + 7)

    unbroken = script.epochs("unbroken", last + 7)  # 10 at least: it has learned by then
    assert min(resumed) > seen
    assert min(resumed) <= last + 2  # an epoch can be saved and its line not yet printed
    assert resumed == {epoch: values for epoch, values in unbroken.items() if epoch in resumed}
    assert list(unbroken) == list(range(1, last + 8))
    assert float(unbroken[last + 7].rpartition(" ")[2]) > 0.9

    shutil.rmtree(script.data)
    argv = [script.python, "-c", SERVES]  # raw images, where nothing but the model is
    said = subprocess.run(argv, cwd=script.folder / "unbroken", capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[1.0, 1.0, 1.0]"


def test_a_folder_without_data_ends_the_script_in_one_clear_line(script: Script) -> None:
    script.data.mkdir()
    # In place of TensorFlow, whose import takes seconds: the script looks for its data without it.
    stand_in = "import sys, unittest.mock\nsys.modules[__name__] = unittest.mock.MagicMock()\n"
    (script.folder / "path" / "tensorflow.py").write_text(stand_in)

    process = script.start("run", 1)
    _, talk = process.communicate()

    lines = [line for line in talk.splitlines() if "train.py:" in line]
    assert process.returncode == 1
    assert lines == [
        f"train.py: no train-images-idx3-ubyte.gz in {script.data}; "
        "`tyard data fetch --help` lists data sets to put there"
    ]
    assert "Traceback" not in talk
