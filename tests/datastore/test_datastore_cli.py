"""`tyard data`: what it says, what it gives programs, and what it refuses."""

import json
import os
import pty
import re
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli_runner import Tyard
from tensoryard.cli.data import data
from tensoryard.errors import TensoryardError
from tensoryard.idx_data import FILES, write_idx
from text_folders import read, write


class TestCommand:
    @pytest.fixture
    def tyard(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
        monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "ws"))
        monkeypatch.chdir(tmp_path)

        def invoke(*arguments: str) -> tuple[str, str]:
            result = CliRunner().invoke(data, arguments, catch_exceptions=False)
            assert result.exit_code == 0
            return result.stdout, result.stderr

        return invoke

    def test_upload_list_download(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a": "1", "b/c": "22"})
        assert tyard("upload", "photos") == ("", "Uploaded 2 files (3 B) to `photos`\n")
        assert tyard("upload", "photos") == ("", "Uploaded 0 files (0 B) to `photos`, 2 were there already\n")
        assert tyard("upload", "photos/a") == ("", "Uploaded 1 file (1 B) to the datastore\n")
        assert tyard("list")[0] == "PATH     FILES  SIZE\na        1      1 B\nphotos/  2      3 B\n"
        assert json.loads(tyard("list", "photos", "--json")[0]) == [
            {"path": "photos/a", "files": 1, "size_bytes": 1},
            {"path": "photos/b/", "files": 1, "size_bytes": 2},
        ]
        tyard("download", "photos", "--to", "back")
        tyard("download", "photos/b/c", "--to", "one")
        tyard("download", ".", "--to", "all")
        assert read(tmp_path / "back") == {"a": "1", "b/c": "22"}
        assert read(tmp_path / "one") == {"c": "22"}
        assert read(tmp_path / "all") == {"a": "1", "photos/a": "1", "photos/b/c": "22"}

    def test_a_dry_run_tells_what_would_be_done_and_does_nothing(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a": "1", "b/c": "22"})
        assert tyard("upload", "photos", "--dry-run") == (
            "",
            "Would have uploaded 2 files (3 B) to `photos`\n       2 B  photos/b/c\n       1 B  photos/a\n",
        )
        assert tyard("list", "--json")[0] == "[]\n"
        tyard("upload", "photos")
        write(tmp_path / "photos", {"a": "3"})
        assert tyard("upload", "photos", "--dry-run") == (
            "",
            "Would have uploaded 1 file (1 B) to `photos`, 1 was there already\n"
            "There with other bytes, needs --overwrite: `photos/a`\n       1 B  photos/a\n",
        )
        assert json.loads(tyard("download", "photos", "--to", "back", "--dry-run", "--json")[0]) == {
            "files": 2,
            "size_bytes": 3,
            "same": 0,
            "replaced": 0,
            "dry_run": True,
            "largest": [{"path": "photos/b/c", "size_bytes": 2}, {"path": "photos/a", "size_bytes": 1}],
        }
        assert not (tmp_path / "back").exists()

    def test_names_for_other_systems_are_said(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a:b": "1", "Cat": "", "cat": ""})
        assert tyard("upload", "photos")[1] == (
            "these names are not valid on Windows: `a:b`\n"
            "these names differ only in case, and are one on Windows and macOS: `Cat` and `cat`\n"
            "Uploaded 3 files (1 B) to `photos`\n"
        )

    def test_json_is_all_that_is_said(self, tyard, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        write(tmp_path / "photos", {"a": "1"})
        out, talk = tyard("upload", "photos", "--json")
        assert (json.loads(out)["files"], talk) == (1, "")

    def test_an_empty_datastore_is_an_empty_list(self, tyard) -> None:  # type: ignore[no-untyped-def]
        assert tyard("list", "--json")[0] == "[]\n"
        assert tyard("list")[0] == ""

    def test_fetch_puts_a_data_set_where_init_reads_it(  # type: ignore[no-untyped-def]
        self, tyard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tiny(name: str, folder: Path, say: object) -> None:
            for file in FILES:
                write_idx(folder / file, b"\1\2", (2,))

        monkeypatch.setattr("tensoryard.idx_data.fetch", tiny)
        tyard("fetch", "digits")
        tyard("fetch", "digits", "--to", "other/place")
        assert sorted(read_names(tmp_path / "ws" / "data")) == sorted(
            f"{folder}/{file}" for folder in ("digits", "other/place") for file in FILES
        )

    @pytest.mark.parametrize(
        "arguments", [["upload", "nothing"], ["download", "nothing", "--to", "x"], ["list", "x"], ["fetch", "x"]]
    )
    def test_mistakes_are_errors_of_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
    ) -> None:
        monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "ws"))
        with pytest.raises(TensoryardError):
            CliRunner().invoke(data, arguments, catch_exceptions=False)


def test_a_terminal_shows_a_bar_with_bytes_files_rate_and_what_remains(cli: Tyard) -> None:
    write(cli.folder / "photos", {"a": "x" * 1_500_000, "b/c": "x" * 1_500_000})

    shown = on_terminal(cli, "data", "upload", "photos")

    drawn = [frame for frame in re.split(r"[\r\n]+", shown) if frame.startswith("Uploading")]
    assert drawn, shown
    assert re.fullmatch(r"Uploading \S+ 0\.0/3\.0 MB 0/2 files (\?|\S+ \wB/s) -:--:--\s*", drawn[0]), shown
    assert re.fullmatch(r"Uploading \S+ 3\.0/3\.0 MB 2/2 files (\?|\S+ \wB/s) 0:00:00\s*", drawn[-1]), shown
    assert shown.splitlines()[-1] == "Uploaded 2 files (3.0 MB) to `photos`"


def on_terminal(cli: Tyard, *arguments: str) -> str:
    """What a command wrote to a terminal of 120 columns, without colours."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (30, 120))
    process = cli.start(*arguments, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    with suppress(OSError):  # Linux's word for a terminal that nobody holds any more
        while data := os.read(master, 65536):
            written += data
    os.close(master)
    assert process.wait() == 0, written
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def read_names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
