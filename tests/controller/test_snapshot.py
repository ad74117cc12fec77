"""The source tree as it was at submission."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launching import PEAK_KIB, Yard
from plain_user import as_plain_user
from tensoryard import snapshot as snapshot_module
from tensoryard.errors import CorruptRecordError, JobError
from tensoryard.snapshot import Snapshot, SnapshotFile, lay_out, take
from tensoryard.store import Store
from tensoryard.store.file import FileStore


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text("print(1)")
    return source


def taken(store: Store, source: Path) -> list[str]:
    return [file.path for file in take(store, source, print).files]


def test_what_is_laid_out_is_what_was_taken(store: Store, source: Path, tmp_path: Path, odd_name: str) -> None:
    (source / "package" / odd_name).mkdir(parents=True)
    (source / "package" / odd_name / "data").write_bytes(bytes(range(256)))
    (source / "run.sh").write_text("#!/bin/sh")
    (source / "run.sh").chmod(0o744)
    (source / "link.py").symlink_to("train.py")
    snapshot = take(store, source, print)
    (source / "train.py").write_text("changed afterwards")
    lay_out(store, snapshot, tmp_path / "laid" / "out")
    laid = {
        path.relative_to(tmp_path / "laid" / "out").as_posix(): (path.read_bytes(), os.access(path, os.X_OK))
        for path in (tmp_path / "laid" / "out").rglob("*")
        if path.is_file()
    }
    assert {
        "link.py": (b"print(1)", False),
        f"package/{odd_name}/data": (bytes(range(256)), False),
        "run.sh": (b"#!/bin/sh", True),
        "train.py": (b"print(1)", False),
    } == {name: (data, executable and name == "run.sh") for name, (data, executable) in laid.items()}


def test_the_same_tree_has_the_same_digest(store: Store, source: Path) -> None:
    first = take(store, source, print)
    assert take(store, source, print) == first
    (source / "train.py").chmod(0o755)
    assert take(store, source, print).digest != first.digest


def test_what_tools_and_runs_leave_is_left_out(store: Store, source: Path) -> None:
    for name in (".git", "__pycache__", ".tensoryard", "outputs", "logs", "package/outputs", "env"):
        (source / name).mkdir(parents=True)
        (source / name / "file").touch()
    (source / "env" / "pyvenv.cfg").touch()
    assert taken(store, source) == ["package/outputs/file", "train.py"]


def test_ignore_files_are_heeded(store: Store, source: Path) -> None:
    (source / ".gitignore").write_text("*.ckpt\n/data/\n")
    (source / ".tyardignore").write_text("!keep.ckpt\nsecret\n")
    for name in ("a.ckpt", "keep.ckpt", "secret", "data/x", "package/data/y"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    assert taken(store, source) == [".gitignore", ".tyardignore", "keep.ckpt", "package/data/y", "train.py"]


def test_a_workspace_in_the_source_folder_is_no_part_of_it(source: Path) -> None:
    store = FileStore(source / "my-workspace")
    assert taken(store, source) == ["train.py"]
    assert taken(store, source) == ["train.py"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("os.symlink('/etc', 'x')", "source_directory: `x` is a link to a folder"),
        ("os.symlink('/etc/hosts', 'x')", "source_directory: `x` is a link to a file outside of it"),
        ("open(b'\\xff', 'w')", "source_directory: the name '\\udcff' is not UTF-8"),
        ("open('outputs', 'w')", "source_directory: `outputs` is a file, where a run makes a folder of that name"),
    ],
)
def test_what_no_snapshot_can_hold_is_named_and_nothing_kept(
    yard: Yard, source: Path, monkeypatch: pytest.MonkeyPatch, prepare: str, message: str
) -> None:
    monkeypatch.chdir(source)
    exec(f"import os\n{prepare}")
    with pytest.raises(JobError) as caught:
        yard.submit("", source_directory=str(source))
    assert message == caught.value.message
    assert caught.value.hint is not None
    assert not yard.workspace.root.exists()


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o300])
def test_a_folder_that_may_not_be_read_is_named_and_not_left_out(store: Store, source: Path, mode: int) -> None:
    (source / "package" / "closed").mkdir(parents=True)
    (source / "package" / "closed" / "code.py").touch()
    (source / "package" / "closed").chmod(mode)
    refused = as_plain_user(lambda: taken(store, source))
    assert isinstance(refused, JobError)
    assert refused.message == "source_directory: the folder `package/closed` cannot be read: Permission denied"
    assert refused.hint == "`chmod u+rx` it, or name it in .tyardignore"
    (source / ".tyardignore").write_text("closed\n")
    assert as_plain_user(lambda: taken(store, source)) == [".tyardignore", "train.py"]
    (source / "package" / "closed").chmod(0o700)


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_large_sources_are_said_to_be(store: Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "LARGE_BYTES", snapshot_module.LARGE_BYTES // 100)
    with (source / "data.bin").open("wb") as file:
        file.truncate(4 << 20)
    said: list[str] = []
    take(store, source, said.append)
    assert said == [
        "The source folder holds 4 MiB in 2 files; the largest: data.bin (4 MiB), train.py (0 MiB). "
        "List what the script does not need in .tyardignore, and keep data in the datastore (tyard data upload)"
    ]


def test_a_large_file_takes_little_memory(tmp_path: Path, source: Path) -> None:
    with (source / "data.bin").open("wb") as file:
        file.truncate(128 << 20)
    program = """
import sys
from pathlib import Path
from tensoryard.snapshot import take
from tensoryard.store.file import FileStore
print(take(FileStore(Path(sys.argv[1])), Path(sys.argv[2]), print).files[0].sha256)
print(peak_kib())
"""
    done = subprocess.run(
        [sys.executable, "-c", PEAK_KIB + program, str(tmp_path / "store"), str(source)],
        capture_output=True,
        text=True,
        check=True,
    )
    digest, peak_kib = done.stdout.split()
    assert digest == "254bcc3fc4f27172636df4bf32de9f107f620d559b20d760197e452b97453917"
    assert int(peak_kib) < 100 << 10


def test_a_snapshot_that_leads_out_of_its_folder_is_refused(store: Store, tmp_path: Path) -> None:
    for path in ("../x", "/tmp/x", "a/../../x"):
        with pytest.raises(CorruptRecordError, match=r"which leads out of the folder$"):
            lay_out(store, Snapshot((SnapshotFile(path, 0, "0" * 64),), ""), tmp_path / "out")


def test_a_change_after_submission_changes_nothing(yard: Yard) -> None:
    run = yard.submit("print('first')")
    yard.source("print('second')")
    yard.serve()
    assert yard.log(run) == "first\n"
