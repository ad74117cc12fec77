"""Runs in a real image on this machine: what they see, how they end, and that nothing is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entering import USER, run_folder, said_in
from launching import Yard, exists, parameter_server, wait_until
from services.images import OneImage, mounts_of
from tensoryard.environment import Environment
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.image_folders import files_of
from tensoryard.job import DatastoreReference

pytestmark = pytest.mark.xdist_group("images")  # one worker makes what they share
IN_IMAGE = {"runtime": "image"}
SAY_WHERE = """
import json, os, sys, six
seen = {"prefix": sys.prefix, "six": six.__version__, "base": open("/etc/this-is").read(), "cwd": os.getcwd(),
        "pid": os.getpid(), "environ": dict(os.environ)}
open(f"outputs/{os.environ['TYARD_TASK']}.json", "w").write(json.dumps(seen))
print("seen")
"""
WAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "single": ({}, ["worker-0"]),
    "mpi": ({"distributed_training": "mpi", "process_count_per_node": 2}, ["rank-0", "rank-1"]),
    "multi_worker": ({"distributed_training": "multi_worker_mirrored", "node_count": 2}, ["worker-0", "worker-1"]),
    "parameter_server": (
        {"distributed_training": parameter_server(worker_count=1, parameter_server_count=1)},
        ["chief-0", "ps-0", "worker-0"],
    ),
}
WAITS = """
import os, time
count = {count}
while len(os.listdir("outputs")) < count: time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def _in_that_image(yard: Yard, six_image: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run of the yard gets it; the machine's own variables are not the image's."""
    plain = yard.controller

    def controller(workspace: Any = None, builder: Any = None) -> Any:
        return plain(workspace, builder or OneImage(six_image))

    monkeypatch.setattr(yard, "controller", controller)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/this/machine")


def in_folder(function: Any) -> Any:
    return pytest.mark.parametrize("yard", ["folder"], indirect=True)(function)


@in_folder
@pytest.mark.parametrize("way", WAYS)
def test_every_task_runs_in_the_image(yard: Yard, six_image: Environment, way: str) -> None:
    fields, tasks = WAYS[way]
    run = yard.run(SAY_WHERE + WAITS.format(count=len(tasks)), **fields, **IN_IMAGE)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    for task in tasks:
        seen = yard.record(run, f"outputs/{task}.json")
        assert (seen["prefix"], seen["six"], seen["base"]) == ("/opt/environment", "1.16.0", "the base\n")
        assert seen["cwd"] == str(yard.work_folder(run) / "source")
        # The process that its supervisor started is the script itself.
        assert seen["pid"] == yard.record(run, f"tasks/{task}.json")["pid"]
    assert yard.leftovers(run) == []
    wait_until(lambda: not mounts_of(six_image), "nothing of the image is mounted")


def test_what_a_run_writes_and_logs_is_kept(yard: Yard) -> None:
    run = yard.run(SAY_WHERE + "open('logs/own.txt', 'w').write('mine')", **IN_IMAGE)
    assert run.state().stage == "Completed"
    assert yard.log(run) == "seen\n"
    assert {"outputs/worker-0.json", "logs/own.txt"} <= set(run.file_names())


@in_folder
def test_the_digest_is_recorded_with_the_run(yard: Yard, six_image: Environment) -> None:
    run = yard.run(SAY_WHERE, **IN_IMAGE)
    (event,) = [event for event in run.events()[0] if event.fact == "environment"]
    assert event.data["image"] == six_image.image
    digest = six_image.image.partition("@sha256:")[2]
    how = "each task enters it by a mount namespace of its own, without a container program"
    assert f"image {digest[:12]}: {how}\n" in yard.log(run, "preparing")


@in_folder
def test_variables_are_the_image_s_then_the_job_s(yard: Yard) -> None:
    run = yard.run(SAY_WHERE, environment_variables={"GREETING": "hello", "LD_LIBRARY_PATH": "/mine"}, **IN_IMAGE)
    seen = yard.record(run, "outputs/worker-0.json")["environ"]
    assert seen["PATH"] == "/opt/environment/bin:/usr/local/bin:/usr/bin:/bin"
    assert (seen["GREETING"], seen["LD_LIBRARY_PATH"]) == ("hello", "/mine")
    assert seen["HOME"] == str(yard.work_folder(run) / "home")
    other = yard.run(SAY_WHERE, environment_variables={"HOME": "/my home"}, **IN_IMAGE)
    seen = yard.record(other, "outputs/worker-0.json")["environ"]
    assert ("LD_LIBRARY_PATH" in seen, seen["HOME"]) == (False, "/my home")


@in_folder
def test_data_of_the_datastore_is_seen_in_the_image(yard: Yard) -> None:
    yard.workspace.store.put("data/mnist/train", b"digits")
    run = yard.run(
        "import os, sys; print(open(sys.argv[2] + '/train').read(), open(os.environ['TYARD_INPUT_ALL']).read())",
        script_params={"--data": DatastoreReference("default", "mnist")},
        inputs={"all": DatastoreReference("default", "mnist/train", "download")},
        **IN_IMAGE,
    )
    assert yard.log(run) == "digits digits\n"


@in_folder
def test_the_image_stays_as_it_is_whatever_a_script_does(yard: Yard, six_image: Environment) -> None:
    run = yard.run("open('/etc/this-is', 'w').write('mine'); print(open('/etc/this-is').read())", **IN_IMAGE)
    assert yard.log(run) == "mine\n"
    assert Path(files_of(Path(six_image.unpacked)).find("/etc/this-is") or "").read_text() == "the base\n"


@in_folder
@pytest.mark.parametrize(
    ("script", "expected"),
    [("raise SystemExit(7)", (7, None)), ("import os; os.kill(os.getpid(), 9)", (None, "SIGKILL"))],
)
def test_an_end_is_told_as_without_an_image(yard: Yard, script: str, expected: tuple[int | None, str | None]) -> None:
    run = yard.run(script, **IN_IMAGE)
    task = yard.record(run, "tasks/worker-0.json")
    assert run.state().stage == "Failed"
    assert (task["exit_code"], task["signal"]) == expected


@in_folder
def test_a_script_dies_with_its_supervisor_even_when_that_is_killed(yard: Yard, six_image: Environment) -> None:
    run = yard.submit("import os, time; print(os.getpid(), flush=True); time.sleep(600)", **IN_IMAGE)
    yard.start_controller()
    pid = int(yard.wait_for_file(run, "logs/worker-0.log"))
    assert mounts_of(six_image)
    supervisor = json.loads(yard.wait_for_file(run, "tasks/worker-0.started.json"))["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not exists(pid), "the script is gone")
    yard.wait_for_stage(run, "Failed")
    wait_until(lambda: not mounts_of(six_image), "nothing of the image is mounted")


@in_folder
def test_a_cancel_reaches_a_script_and_what_it_started(yard: Yard) -> None:
    script = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: (print("told"), sys.exit(0)))
print(child.pid, flush=True)
time.sleep(600)
"""
    run = yard.submit(script, **IN_IMAGE)
    yard.start_controller()
    child = int(yard.wait_for_file(run, "logs/worker-0.log"))
    run.request_cancel()
    yard.wait_for_stage(run, "Canceled")
    assert "told" in yard.log(run)
    assert not exists(child)
    assert yard.leftovers(run) == []


@in_folder
@pytest.mark.long
def test_a_script_that_ignores_being_told_to_end_is_killed(yard: Yard, six_image: Environment) -> None:
    deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); "
    run = yard.submit(f"{deaf}time.sleep(600)", **IN_IMAGE)
    yard.start_controller()
    pid = int(yard.wait_for_file(run, "logs/worker-0.log"))
    run.request_cancel()
    yard.wait_for_stage(run, "Canceled")
    assert yard.record(run, "tasks/worker-0.json")["signal"] == "SIGKILL"
    assert not exists(pid)
    assert yard.leftovers(run) == []
    wait_until(lambda: not mounts_of(six_image), "nothing of the image is mounted")


def test_a_user_who_is_not_root_enters_an_image(six_image: Environment) -> None:
    shows = (
        "print(os.getuid(), open('/etc/this-is').read(), open('/proc/self/status').read().split('CapEff:')[1][:17])"
    )
    with run_folder(six_image) as folder:
        told, problem = said_in(six_image, folder, shows, plain=True)
        assert (told, problem) == (f"{USER} the base\n \t{0:016x}\n", "")
        assert (folder / "home").stat().st_uid == USER
    wait_until(lambda: not mounts_of(six_image), "nothing of the image is mounted")


@in_folder
def test_a_run_with_gpus_has_beside_it_what_reads_cdi_files(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU it is refused later, on its node."""
    monkeypatch.setattr("tensoryard.submit._gpu_problem", lambda _: None)
    run = yard.run("", use_gpu=True, **IN_IMAGE)
    launch = yard.work_folder(run) / "launch"
    assert (launch / "image_gpus.py").exists()
    said = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(launch)!r}); import yaml; print(yaml.safe_load('a: [b]'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "{'a': ['b']}\n"


@in_folder
def test_an_image_is_built_from_the_job_s_own_dockerfile(yard: Yard, images: ImageBuilder, base_image: str) -> None:
    script = "import os; print(open('/etc/this-is').read(), os.environ['OF_THE_JOB'])"
    source = yard.source(script)
    (source / "greeting").write_text("mine")
    (source / "Dockerfile").write_text(
        f"FROM {base_image}\nRUN ln -s python3 /usr/bin/python\nCOPY greeting /etc/this-is\nENV OF_THE_JOB=yes\n"
    )
    (source / ".dockerignore").write_text("train.py\n")
    first = yard.submit(script, dockerfile="Dockerfile")
    yard.controller(builder=images).serve()
    assert (first.state().stage, yard.log(first)) == ("Completed", "mine yes\n")
    assert "STEP 3/4: COPY greeting /etc/this-is" in yard.log(first, "preparing")
    again = yard.submit(script, dockerfile="Dockerfile")
    yard.controller(builder=images).serve()
    assert again.state().facts["environment"]["cached"]
    image = str(again.state().facts["environment"]["image"])
    assert image == first.state().facts["environment"]["image"]
    digest = image.rpartition(":")[2]
    assert f"image {digest[:12]} in {images.registry}: reused\n" in yard.log(again, "preparing")


@in_folder
def test_a_program_that_is_not_in_the_image_is_named(yard: Yard, images: ImageBuilder, base_image: str) -> None:
    """Debian's own Python is `python3` only."""
    run = yard.submit("", image=base_image)
    yard.controller(builder=images).serve()
    assert run.state().stage == "Failed"
    assert yard.log(run) == "in_image.py: `python` is not in the image\n"
    assert run.state().facts["environment"]["image"].startswith(base_image.removesuffix(":12") + "@sha256:")
