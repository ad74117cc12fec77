"""
The files that a job is launched with.

`tests/golden/job/<case>/` holds the expected text of each; `pytest tests/launch/test_render.py --update-golden`
records them again, prints what changed and ends red.
"""

import difflib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rendered_jobs import CASES, rendered
from tensoryard.errors import JobError, UsageError
from tensoryard.job import Job
from tensoryard.render import Placement, _environment, launch_script, preload, quote, render

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "job"


def golden_files(case: str) -> dict[str, str]:
    folder = GOLDEN / case
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differences(case: str, expected: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    for name in sorted({*expected, *found}):
        yield from difflib.unified_diff(
            expected.get(name, "").splitlines(keepends=True),
            found.get(name, "").splitlines(keepends=True),
            f"golden/job/{case}/{name}" if name in expected else "no golden",
            "rendered" if name in found else "not rendered",
        )


@pytest.mark.parametrize("case", CASES)
def test_rendered_files_are_the_golden_ones(case: str, update_golden: bool) -> None:
    expected, found = golden_files(case), rendered(case)
    difference = "".join(differences(case, expected, found))
    if update_golden and (difference or expected != found):
        for name in expected.keys() - found.keys():
            (GOLDEN / case / name).unlink()
        for name, text in found.items():
            path = GOLDEN / case / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"recorded {GOLDEN / case}\n{difference}")
    assert expected == found, f"{difference}\nif that is meant: pytest tests/launch/test_render.py --update-golden"


def test_no_golden_is_left_unused() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_golden_scripts_are_clean_shell(case: str) -> None:
    script = GOLDEN / case / "run.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    # SC2016 asks whether a dollar in single quotes was meant to stay one: it was.
    checked = subprocess.run(["shellcheck", "--exclude=SC2016", str(script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert [rendered(case) for case in CASES] == [rendered(case) for case in CASES]


def test_rendering_writes_no_file_uses_no_network_and_starts_no_process() -> None:
    """An audit hook sees every open, socket and process that Python makes; it cannot be removed, so in a child."""
    program = """
import sys
sys.path[:0] = sys.argv[1:]
import rendered_jobs
rendered_jobs.rendered("single-local")
seen = []
def watch(event, arguments):
    writes = event == "open" and (set(str(arguments[1] or "r")) & set("wax+") or (arguments[2] or 0) & 3)
    if writes or event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn")):
        seen.append((event, arguments))
    changes = ("mkdir", "rename", "remove", "rmdir", "putenv", "symlink", "link", "truncate", "chmod", "utime")
    if event.startswith("os.") and event[3:] in changes:
        seen.append((event, arguments))
sys.addaudithook(watch)
for case in rendered_jobs.CASES:
    rendered_jobs.rendered(case)
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", program, str(TESTS)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_compiled_templates_that_were_kept_give_the_same_bytes(tmp_path: Path) -> None:
    expected = rendered("horovod-slurm")
    (tmp_path / "a-file").touch()
    try:
        for folder in (tmp_path / "kept", tmp_path / "kept", tmp_path / "a-file" / "no-folder"):
            _environment.cache_clear()
            preload(folder)
            assert rendered("horovod-slurm") == expected
        assert list((tmp_path / "kept").iterdir())
    finally:
        _environment.cache_clear()


def test_too_few_hosts_are_refused() -> None:
    job = Job(experiment="x", entry_script="train.py", distributed_training="multi_worker_mirrored", node_count=3)
    with pytest.raises(JobError, match=r"^hosts: got 2 \(a, b\), the job needs 3$"):
        render(job, Placement("slurm", ("a", "b")), run_id="x-0001", run_dir="/r", local_paths={})


def test_a_folder_that_slurm_cannot_be_given_is_refused() -> None:
    """Slurm reads #SBATCH lines itself, without the shell's quotes."""
    job = Job(experiment="x", entry_script="train.py")
    with pytest.raises(UsageError, match=r"^#SBATCH --chdir: got `/home/my runs`, allowed are letters"):
        render(job, Placement("slurm", ()), run_id="x-0001", run_dir="/home/my runs", local_paths={})


def test_a_thousand_tasks_share_one_cluster_text() -> None:
    job = Job(experiment="x", entry_script="a.py", distributed_training="multi_worker_mirrored", node_count=1000)
    files = render(
        job, Placement("slurm", tuple(f"n{n}" for n in range(1000))), run_id="x-0001", run_dir="/r", local_paths={}
    )
    assert len(files) == 1002


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("train.py", "train.py"),
        ("--rate=1e-05", "--rate=1e-05"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", "'it'\"'\"'s'"),
        ("~", "'~'"),
        ("$x", "'$x'"),
        ("a\n", "'a\n'"),
    ],
)
def test_quote(value: str, word: str) -> None:
    assert word == quote(value)


def test_the_script_of_a_build_is_clean_shell(tmp_path: Path) -> None:
    values = {"version": "1", "key": "0" * 16, "folder": "/a/b", "file": "it's", "python": "/a b/python", "anew": 0}
    for partition in ("", "gpu"):
        text = launch_script("build_image.sh.j2", {**values, "partition": partition})
        (tmp_path / "build.sh").write_text(text)
        checked = subprocess.run(["shellcheck", tmp_path / "build.sh"], capture_output=True, text=True)
        assert (checked.returncode, checked.stdout) == (0, "")
        assert ("#SBATCH --partition" in text) == bool(partition)
