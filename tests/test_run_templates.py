"""The job folders of `tyard init` through the command line, with TensorFlow's real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TYARD = [sys.executable, "-m", "tensoryard"]


def tyard(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TYARD, *arguments], cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a workspace of its own that holds the digits."""
    (tmp_path / ".tensoryard").mkdir()
    fetched = tyard("data", "fetch", "digits", cwd=tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    return tmp_path


def test_workers_of_the_multi_worker_template_train_one_model(folder: Path) -> None:
    assert tyard("init", "job", "--kind", "multi_worker", "--data", "digits", cwd=folder).returncode == 0

    ran = tyard("run", "job", "--set", "script_params.--epochs=2", cwd=folder)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = json.loads(tyard("runs", "show", "latest", "--json", cwd=folder).stdout)
    assert shown["stage"] == "Completed"
    assert len(shown["metrics"]["accuracy"]) == 2
    registered = tyard("models", "register", "digits", "--run", "latest", "--path", "outputs/model", cwd=folder)
    assert registered.returncode == 0, registered.stderr


def test_a_resumed_run_goes_on_after_the_last_epoch_of_the_earlier_one(folder: Path) -> None:
    assert tyard("init", "job", "--kind", "single", "--data", "digits", cwd=folder).returncode == 0
    assert tyard("run", "job", "--set", "script_params.--epochs=2", cwd=folder).returncode == 0
    first = json.loads(tyard("runs", "list", "--json", cwd=folder).stdout)[0]["id"]

    resumed = tyard("run", "job", "--set", "script_params.--epochs=3", "--set", f"resume_from={first}", cwd=folder)

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "Resumed after epoch 2" in resumed.stdout
    assert "Epoch 3/3" in resumed.stdout
    assert "Epoch 2/3" not in resumed.stdout
