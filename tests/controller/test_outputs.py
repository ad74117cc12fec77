"""What of ./outputs is kept, listed and hashed when a run has ended."""

import hashlib
from pathlib import Path

import pytest

from launching import ODD_NAMES, Yard, in_a_folder
from plain_user import as_plain_user
from tensoryard.errors import CorruptRecordError
from tensoryard.outputs import conclude
from tensoryard.run import Outputs, RunRecord
from tensoryard.store.file import FileStore


def outputs_of(yard: Yard, script: str) -> Outputs:
    run = yard.run("import os\nos.chdir('outputs')\n" + script)
    assert run.state().stage == "Completed", run.state().reason
    found = run.outputs()
    assert found is not None
    assert list(found.warnings) == run.state().warnings
    assert yard.leftovers(run) == []
    return found


def test_every_file_is_listed_with_its_size_and_digest(yard: Yard) -> None:
    found = outputs_of(
        yard, "os.makedirs('model/empty')\nopen('model/b', 'w').write('weights')\nopen('a', 'w').close()"
    )
    assert [(file.path, file.size_bytes, file.sha256) for file in found.files] == [
        ("outputs/a", 0, hashlib.sha256(b"").hexdigest()),
        ("outputs/model/b", 7, hashlib.sha256(b"weights").hexdigest()),
    ]
    assert found.warnings == ()


def test_odd_names_are_kept(yard: Yard) -> None:
    found = outputs_of(yard, f"for name in {ODD_NAMES!r}: open(name, 'w').close()")
    assert sorted(file.path for file in found.files) == sorted(f"outputs/{name}" for name in ODD_NAMES)


@pytest.mark.parametrize(
    ("script", "warning"),
    [
        (
            "os.symlink('/etc/passwd', 'x')",
            "outputs/x was left out: it is a link to /etc/passwd, outside of ./outputs",
        ),
        ("os.symlink('../launch', 'x')", "outputs/x was left out: it is a link to ../launch, outside of ./outputs"),
        ("os.symlink('.', 'x')", "outputs/x was left out: it is a link to ., outside of ./outputs"),
        ("os.symlink('x', 'x')", "outputs/x was left out: Too many levels of symbolic links"),
        ("os.symlink('gone', 'x')", "outputs/x was left out: No such file or directory"),
        ("os.mkfifo('x')", "outputs/x was left out: it is no file"),
        ("import socket; socket.socket(socket.AF_UNIX).bind('x')", "outputs/x was left out: it is no file"),
        ("open(b'\\xff', 'w').close()", r"'outputs/\udcff' was left out: its name cannot be kept: got "),
        ("open('a\\nb', 'w').close()", r"'outputs/a\nb' was left out: its name cannot be kept: got "),
        ("open('a\\\\b', 'w').close()", r"outputs/a\b was left out: its name cannot be kept: got "),
    ],
)
@in_a_folder
def test_what_is_no_file_of_the_run_is_left_out_with_a_warning(yard: Yard, script: str, warning: str) -> None:
    found = outputs_of(yard, "open('kept', 'w').close()\n" + script)
    assert [file.path for file in found.files] == ["outputs/kept"]
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(warning)


def test_a_link_inside_the_outputs_is_the_file_it_leads_to(yard: Yard) -> None:
    found = outputs_of(yard, "open('model-7', 'w').write('seven')\nos.symlink('model-7', 'latest')")
    assert [(file.path, file.size_bytes) for file in found.files] == [("outputs/latest", 5), ("outputs/model-7", 5)]


def test_a_folder_made_anew_in_place_of_the_link_is_kept(yard: Yard) -> None:
    """`rm -r outputs; mkdir outputs` at the start of a script is common."""
    run = yard.run(
        "import os\nopen('outputs/a', 'w').write('first')\nos.unlink('outputs')\nos.mkdir('outputs')\n"
        "for name in 'ab': open(f'outputs/{name}', 'w').write('second')"
    )
    found = run.outputs()
    assert found is not None
    assert [(file.path, file.size_bytes) for file in found.files] == [("outputs/a", 5), ("outputs/b", 6)]
    assert run.state().warnings == ["source/outputs/a was left where it is: outputs/a is there too"]


def test_outputs_replaced_by_a_link_to_elsewhere_are_not_followed(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    run = yard.run(f"import os\nos.rename('../outputs', '../was')\nos.symlink({str(tmp_path)!r}, '../outputs')")
    found = run.outputs()
    assert found is not None
    assert found.files == ()
    assert found.warnings == ("outputs was left out: the script replaced it by a link",)
    assert (tmp_path / "secret").exists()


def test_outputs_of_a_failed_run_are_kept(yard: Yard) -> None:
    run = yard.run("open('outputs/checkpoint', 'w').close(); raise SystemExit(1)")
    found = run.outputs()
    assert run.state().stage == "Failed"
    assert found is not None
    assert [file.path for file in found.files] == ["outputs/checkpoint"]


def test_outputs_that_cannot_be_read_are_named(yard: Yard) -> None:
    run = yard.run("")
    yard.replace(run, "outputs.json", b"{")
    with pytest.raises(CorruptRecordError, match=f"^run `{run.id}`: outputs.json cannot be read: "):
        RunRecord(run.store, run.id).outputs()


def test_the_list_is_final(yard: Yard) -> None:
    """Whoever comes later, as a controller started anew does, gets the list that was written."""
    run = yard.run("open('outputs/a', 'w').close()")
    (yard.work_folder(run) / "outputs").mkdir(parents=True, exist_ok=True)
    (yard.work_folder(run) / "outputs" / "late").touch()
    assert conclude(run, yard.work_folder(run)) == run.outputs()


@pytest.mark.parametrize(
    ("closed", "mode", "warning"),
    [
        ("outputs", 0o300, "outputs was left out: Permission denied"),
        ("outputs/model", 0o000, "outputs/model was left out: Permission denied"),
        ("outputs/model", 0o300, "outputs/model was left out: Permission denied"),
        ("outputs/model", 0o600, "outputs/model/file was left out: Permission denied"),
        ("source/outputs", 0o000, "source/outputs was left where it is: Permission denied"),
        ("source/outputs", 0o600, "source/outputs was left where it is: Permission denied"),
    ],
)
def test_a_folder_that_may_not_be_read_is_left_out_with_a_warning(
    tmp_path: Path, closed: str, mode: int, warning: str
) -> None:
    run = RunRecord(FileStore(tmp_path), "job-0001")
    folder = tmp_path / "runs" / run.id
    (folder / closed).mkdir(parents=True)
    (folder / closed / "file").touch()
    (folder / "outputs").mkdir(exist_ok=True)
    (folder / "outputs" / "kept").touch()
    (folder / closed).chmod(mode)
    found = as_plain_user(lambda: conclude(run, folder))
    (folder / closed).chmod(0o700)
    assert isinstance(found, Outputs), found
    assert found.warnings == (warning,)
    assert [file.path for file in found.files] == ([] if closed == "outputs" else ["outputs/kept"])
