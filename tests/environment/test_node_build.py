"""A build on a node, where no head looks after the disk."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tensoryard.environment import node_build

pytestmark = pytest.mark.xdist_group("images")  # one worker builds


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def context(folder: Path, size_bytes: int) -> Path:
    (folder / "context").mkdir(parents=True)
    (folder / "context" / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
    (folder / "context" / "data").write_bytes(os.urandom(size_bytes))
    return folder


def test_a_full_disk_is_freed_once_of_the_layers_of_earlier_builds(
    tmp_path: Path,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk(24 << 20)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(disk))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of what buildah itself puts aside
    one, other = (context(tmp_path / name, 8 << 20) for name in ("one", "other"))
    assert node_build.main(str(one), "1" * 16, "Dockerfile", "0") == 0
    assert "removed the layers" not in capsys.readouterr().out
    assert node_build.main(str(other), "2" * 16, "Dockerfile", "0") == 0
    assert "is full" in (said := capsys.readouterr().out)
    assert "removed the layers of earlier builds" in said
    assert (other / "oci" / "index.json").exists()


def test_a_folder_that_is_a_link_of_somebody_s_is_not_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"tensoryard-builds-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert node_build.main(str(context(tmp_path / "one", 1)), "1" * 16, "Dockerfile", "0") == 1
    assert "belongs to somebody else" in capsys.readouterr().out
    assert [*(tmp_path / "elsewhere").iterdir()] == []
