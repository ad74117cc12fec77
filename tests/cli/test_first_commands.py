"""The commands that a newcomer and a CI server start with."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"\d[\d.,]*")


@pytest.mark.long
def test_the_demo_registers_the_next_version_each_time_and_builds_nothing_again(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def demo() -> str:
        done = subprocess.run(
            [ROOT / "tools" / "demo"],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    first = demo()
    job = tmp_path / "demo" / "job.yaml"
    job.write_text(job.read_text().replace("--epochs: 20", "--epochs: 2"))
    second = demo()

    assert "Registered `digits:1` from run `digits-0001`" in first
    assert "Registered `digits:2` from run `digits-0002`" in second
    assert "Epoch 2/2: " in second  # what the user changed stays
    argv = [sys.executable, "-m", "tensoryard", "runs", "show", "digits-0002", "--json"]
    environ = {**os.environ, "TYARD_WORKSPACE": str(tmp_path / ".tensoryard")}
    shown = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["environment"]["cached"]
    block = re.search(r"^\$ make demo\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    said = {NUMBER.sub("0", line) for line in first.splitlines()}
    assert [line for line in block[1].splitlines() if NUMBER.sub("0", line) not in said] == []


def test_ci_runs_make_test_and_fails_skipped_tests(tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "make $* with CI=$CI"\n')
    make.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    environ["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    said = subprocess.run([ROOT / ".ci" / "run"], env=environ, capture_output=True, text=True, check=True).stdout

    assert said == "make test with CI=1\n"
