"""The job folders of `tyard init` through the command line, with TensorFlow's real processes."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launching import all_processes
from tensoryard.environment.spec import environment_spec
from tensoryard.environment.venv import VenvBuilder

pytestmark = pytest.mark.long
TYARD = [sys.executable, "-m", "tensoryard"]
SERVES = """
import tensorflow as tf
serve = tf.saved_model.load("model").signatures["serving_default"]
print(serve(images=tf.zeros([3, 8, 8], tf.uint8))["probabilities"].numpy().sum(axis=1).round(3).tolist())
"""


def tyard(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TYARD, *arguments], cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a workspace of its own that holds the digits; what still runs there at the end is killed."""
    (tmp_path / ".tensoryard").mkdir()
    fetched = tyard("data", "fetch", "digits", cwd=tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    yield tmp_path
    for pid, command, environ in all_processes():
        if os.fsencode(tmp_path) in environ + command.encode():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def epochs(log: str) -> dict[int, str]:
    """Loss and accuracy that the script printed for each epoch."""
    lines = re.findall(r"\| Epoch (\d+)/\d+: (loss [\d.]+, accuracy [\d.]+)", log)
    return {int(number): values for number, values in lines}


def test_workers_of_the_multi_worker_template_train_one_model_and_go_on_in_another_run(folder: Path) -> None:
    assert tyard("init", "job", "--kind", "multi_worker", "--data", "digits", cwd=folder).returncode == 0

    ran = tyard("run", "job", "--set", "script_params.--epochs=1", cwd=folder)
    more = ["--set", "script_params.--epochs=2", "--set", "resume_from=latest"]
    resumed = tyard("run", "job", *more, cwd=folder)

    assert ran.returncode == resumed.returncode == 0, ran.stdout + ran.stderr + resumed.stdout + resumed.stderr
    assert [*epochs(ran.stdout)] == [1]
    assert [*epochs(resumed.stdout)] == [2]
    for worker in ("worker-0", "worker-1"):
        assert f"{worker} | Resumed after epoch 1\n" in resumed.stdout
    shown = json.loads(tyard("runs", "show", "latest", "--json", cwd=folder).stdout)
    assert (shown["stage"], [*shown["metrics"]]) == ("Completed", ["loss", "accuracy", "samples_per_second"])
    registered = tyard("models", "register", "digits", "--run", "latest", "--path", "outputs/model", cwd=folder)
    assert registered.returncode == 0, registered.stderr


def test_a_killed_run_goes_on_in_another_and_ends_where_an_unbroken_one_does_whose_model_predicts(
    folder: Path,
) -> None:
    assert tyard("init", "job", "--kind", "single", "--data", "digits", cwd=folder).returncode == 0
    argv = [*TYARD, "run", "job", "--set", "script_params.--epochs=10000"]
    running = subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    said = ""
    while 3 not in epochs(said):
        line = running.stdout.readline()
        assert line, said
        said += line
    started = next(folder.glob(".tensoryard/runs/*/tasks/worker-0.started.json"))
    os.kill(json.loads(started.read_text())["pid"], signal.SIGKILL)
    said += running.stdout.read()  # `communicate` would leave out what has been read ahead
    assert running.wait() == 3
    last = max(epochs(said))

    more = f"script_params.--epochs={last + 7}"
    resumed = tyard("run", "job", "--set", more, "--set", "resume_from=latest", cwd=folder)
    unbroken = tyard("run", "job", "--set", more, cwd=folder)

    assert resumed.returncode == unbroken.returncode == 0, resumed.stdout + unbroken.stdout
    found = epochs(resumed.stdout)
    assert f"Resumed after epoch {min(found) - 1}" in resumed.stdout
    assert 3 < min(found) <= last + 2  # an epoch can be saved and its line not yet printed
    whole = epochs(unbroken.stdout)
    assert found == {epoch: values for epoch, values in whole.items() if epoch in found}
    assert list(whole) == list(range(1, last + 8))  # 10 at least: it has learned by then
    assert float(whole[last + 7].rpartition(" ")[2]) > 0.9

    # Raw images, where nothing but the model is.
    model = folder / "elsewhere" / "model"
    downloaded = tyard("runs", "download", "latest", "outputs/model", "--to", "got", cwd=folder)
    assert downloaded.returncode == 0, downloaded.stderr
    shutil.copytree(folder / "got" / "outputs" / "model", model)
    python = VenvBuilder().ensure(environment_spec(way="single"), print).python
    served = subprocess.run([python, "-c", SERVES], cwd=model.parent, capture_output=True, text=True, check=True)
    assert served.stdout.strip() == "[1.0, 1.0, 1.0]"
