"""Layers of an image laid out in a folder: whole, checked, and never outside of it."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import IO

import msgspec
import pytest

from tensoryard.environment.image_unpack import _machine, unpack
from tensoryard.errors import EnvironmentBuildError, VerificationError

Entry = tuple[str, bytes | str | None]  # a file's bytes, a link's target, None for a folder


def layer(*entries: Entry) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.mtime, member.mode = 1_000_000_000, 0o4755
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                kind, _, member.linkname = content.partition(":")
                member.type = tarfile.SYMTYPE if kind == "to" else tarfile.LNKTYPE
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(made.getvalue())


class Image:
    """An image in memory."""

    def __init__(self, *layers: bytes, architecture: str = "") -> None:
        self.blobs: dict[str, bytes] = {}
        config = {"architecture": architecture or _machine(), "os": "linux", "config": {}}
        described = {
            "config": {"digest": self.add(msgspec.json.encode(config))},
            "layers": [
                {
                    "digest": self.add(data),
                    "size": len(data),
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                }
                for data in layers
            ],
        }
        self.digest = self.add(msgspec.json.encode(described))

    def add(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def manifest(self, digest: str) -> bytes:
        return self.blobs[digest]

    def open_blob(self, digest: str) -> IO[bytes]:
        return io.BytesIO(self.blobs[digest])


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder: a file's text, a link's target, "/" for a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
    return found


def laid_out(folder: Path, image: Image) -> dict[str, str]:
    unpack(image, image.digest, folder / "root", lambda line: None)
    return tree(folder / "root")


def test_layers_add_replace_and_remove(tmp_path: Path) -> None:
    first = layer(
        ("./etc", None), ("etc/a", b"1"), ("etc/b", b"1"), ("old", None), ("old/x", b"1"), ("lib", "to:usr/lib")
    )
    second = layer(
        ("etc/b", b"2"), ("etc/.wh.a", b""), ("old/.wh..wh..opq", b""), ("old/y", b"2"), ("same", "is:etc/b")
    )
    expected = {"etc": "/", "etc/b": "2", "old": "/", "old/y": "2", "lib": "-> usr/lib", "same": "2"}
    assert expected == laid_out(tmp_path, Image(first, second))


def test_times_stay_so_that_byte_code_is_used_and_rights_of_other_users_go(tmp_path: Path) -> None:
    laid_out(tmp_path, Image(layer(("bin", None), ("bin/su", b"1"))))
    for name in ("bin", "bin/su"):
        status = (tmp_path / "root" / name).stat()
        assert (status.st_mtime, status.st_mode & 0o7777) == (1_000_000_000, 0o755)


def test_links_are_followed_inside_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    image = Image(
        layer(("usr/lib", None), ("lib", "to:/usr/lib"), ("up", "to:../../.."), ("away", f"to:{tmp_path}/outside")),
        layer(("lib/one", b"1"), ("up/two", b"2"), ("away/three", b"3")),
    )
    found = laid_out(tmp_path, image)
    assert (found["usr/lib/one"], found["two"]) == ("1", "2")
    assert found[f"{tmp_path}/outside/three".lstrip("/")] == "3"
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("entry", [("../evil", b"1"), ("a/../../evil", b"1"), ("a/..", None)])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, entry: Entry) -> None:
    with pytest.raises(VerificationError, match="leads out of it"):
        laid_out(tmp_path, Image(layer(entry)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="lead in a circle"):
        laid_out(tmp_path, Image(layer(("a", "to:b"), ("b", "to:a"), ("a/c", b"1"))))


def test_a_layer_with_other_bytes_is_refused(tmp_path: Path) -> None:
    image = Image(layer(("a", b"1")))
    digest = next(iter(image.blobs.keys() - {image.digest} - {next(iter(image.blobs))}))
    image.blobs[digest] = layer(("a", b"2"))
    with pytest.raises(VerificationError, match=f"the bytes of `{digest}` have the digest"):
        laid_out(tmp_path, image)


def test_a_layer_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    image = Image(layer(("a", os.urandom(100_000))))
    digest = next(name for name, data in image.blobs.items() if len(data) > 50_000)
    image.blobs[digest] = image.blobs[digest][:50_000]
    with pytest.raises(VerificationError):
        laid_out(tmp_path, image)


def test_an_image_for_other_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="is for s390x, this machine is"):
        laid_out(tmp_path, Image(layer(("a", b"1")), architecture="s390x"))


def test_of_an_index_the_image_of_this_machine_is_taken(tmp_path: Path) -> None:
    image = Image(layer(("a", b"1")))
    entries = [
        {"digest": "sha256:none", "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": image.digest, "platform": {"os": "linux", "architecture": _machine()}},
    ]
    image.digest = image.add(msgspec.json.encode({"manifests": entries}))
    assert laid_out(tmp_path, image) == {"a": "1"}
    image.digest = image.add(msgspec.json.encode({"manifests": entries[:1]}))
    (tmp_path / "other").mkdir()
    with pytest.raises(EnvironmentBuildError, match="has nothing for this machine"):
        laid_out(tmp_path / "other", image)
