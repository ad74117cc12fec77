"""Layers of an image laid out in a folder: whole, checked, and never outside of it."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import msgspec
import pytest

from services.small_images import Entry, Image, folders, layer
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.image_unpack import machine
from tensoryard.errors import EnvironmentBuildError, VerificationError
from tensoryard.registry.oci_client import BrokenRequestError


def tree(image: Path) -> dict[str, str]:
    """Every path of an unpacked image: a file's text, a link's target, "/" for a folder."""
    found = {}
    files = files_of(image)
    for name, place in files.walk():
        path = Path(place)
        assert files.find(name) == place
        found[name[1:]] = f"-> {path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
    return found


def mounted(image: Path) -> dict[str, str]:
    """The same as the kernel shows it, in a mount namespace that is gone when this returns."""
    program = """
import json, os, pathlib, subprocess, sys
image, here = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", here], check=True)
os.chdir(f"{image}/layers")
for name in ("top", "upper", "scratch"): os.mkdir(f"{here}/{name}")
lower = ":".join(sorted(os.listdir("."), key=int, reverse=True))
options = f"lowerdir={lower},upperdir={here}/upper,workdir={here}/scratch"
subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", f"{here}/top"], check=True)
found, top = {}, pathlib.Path(here, "top")
for path in sorted(top.rglob("*")):
    link = f"-> {path.readlink()}" if path.is_symlink() else None
    found[str(path.relative_to(top))] = link or ("/" if path.is_dir() else path.read_text())
print(json.dumps(found))
"""
    place = image.parent / ".mounted"
    place.mkdir(exist_ok=True)
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", program, str(image), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def laid_out(folder: Path, image: Image) -> dict[str, str]:
    """The files of an image, on which the kernel agrees."""
    unpacked = folders(folder).unpack(image, image.digest, lambda line: None)
    found = tree(unpacked)
    if sys.platform == "linux":
        assert mounted(unpacked) == found
    return found


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
    image = Image(layer(("bin", None), ("bin/su", b"1")), layer(("bin/other", b"2")))
    unpacked = folders(tmp_path).unpack(image, image.digest, print)
    for name in ("/bin", "/bin/su"):
        status = Path(files_of(unpacked).find(name) or "").stat()
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
    assert list(tmp_path.rglob("evil")) == []


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="lead in a circle"):
        laid_out(tmp_path, Image(layer(("a", "to:b"), ("b", "to:a"), ("a/c", b"1"))))


def test_a_layer_with_other_bytes_is_refused(tmp_path: Path) -> None:
    image = Image(layer(("a", b"1")))
    digest = next(iter(image.blobs.keys() - {image.digest} - {next(iter(image.blobs))}))
    image.blobs[digest] = layer(("a", b"2"))
    with pytest.raises(VerificationError, match=f"the bytes of `{digest}` have the digest"):
        laid_out(tmp_path, image)


def test_a_layer_that_is_cut_off_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image(layer(("a", os.urandom(100_000))))
    digest = next(name for name, data in image.blobs.items() if len(data) > 50_000)
    image.blobs[digest] = image.blobs[digest][:50_000]
    said: list[str] = []
    monkeypatch.setattr("tensoryard.environment.image_folders.wait", lambda attempt: None)
    with pytest.raises(BrokenRequestError, match=r"came 50,000 of 100,\d{3} bytes"):
        folders(tmp_path).unpack(image, image.digest, said.append)
    assert [line.rpartition(";")[2] for line in said[1:]] == [" trying again"] * 2
    assert list((tmp_path / "images").rglob("a")) == []


def test_an_image_for_other_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="is for s390x, this machine is"):
        laid_out(tmp_path, Image(layer(("a", b"1")), architecture="s390x"))


def test_of_an_index_the_image_of_this_machine_is_taken(tmp_path: Path) -> None:
    image = Image(layer(("a", b"1")))
    entries = [
        {"digest": "sha256:none", "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": image.digest, "platform": {"os": "linux", "architecture": machine()}},
    ]
    image.digest = image.add(msgspec.json.encode({"manifests": entries}))
    assert laid_out(tmp_path, image) == {"a": "1"}
    image.digest = image.add(msgspec.json.encode({"manifests": entries[:1]}))
    with pytest.raises(EnvironmentBuildError, match="has nothing for this machine"):
        laid_out(tmp_path, image)


def test_what_a_layer_takes_away_is_gone_whatever_comes_after_it(tmp_path: Path) -> None:
    first = layer(
        ("a", None),
        ("a/x", b"1"),
        ("a/b", None),
        ("a/b/y", b"1"),
        ("c", None),
        ("c/z", b"1"),
        ("d", b"1"),
        ("e", None),
        ("e/f", None),
        ("e/f/v", b"1"),
    )
    # Taken away and made anew, as another folder; taken away whole; a file in place of a folder, and the other way.
    second = layer(
        (".wh.a", b""),
        ("a", None),
        ("a/b", None),
        ("a/new", b"2"),
        (".wh.c", b""),
        ("d", None),
        ("d/w", b"2"),
        ("e/f", b"2"),
    )
    third = layer(("c", None), ("c/back", b"3"), ("e/.wh.f", b""), (".wh.nothing", b""))
    expected = {
        "a": "/",
        "a/b": "/",
        "a/new": "2",
        "c": "/",
        "c/back": "3",
        "d": "/",
        "d/w": "2",
        "e": "/",
    }
    assert expected == laid_out(tmp_path, Image(first, second, third))


def test_an_opaque_folder_hides_what_is_below_it_and_nothing_else(tmp_path: Path) -> None:
    first = layer(("a", None), ("a/b", None), ("a/b/x", b"1"), ("a/c", b"1"), ("k", b"1"))
    for second in (
        layer(("a/.wh..wh..opq", b""), ("a/b", None), ("a/b/y", b"2")),
        layer(("a/b", None), ("a/b/y", b"2"), ("a/.wh..wh..opq", b"")),
    ):
        expected = {"a": "/", "a/b": "/", "a/b/y": "2", "k": "1"}
        assert expected == laid_out(tmp_path, Image(first, second))


def test_a_hard_link_to_a_file_of_a_layer_below_is_that_file(tmp_path: Path) -> None:
    image = Image(
        layer(("etc", None), ("etc/a", b"1"), ("lib", "to:etc")), layer(("b", "is:etc/a"), ("c", "is:lib/a"))
    )
    assert laid_out(tmp_path, image) == {"etc": "/", "etc/a": "1", "lib": "-> etc", "b": "1", "c": "1"}
    with pytest.raises(VerificationError, match="to `nothing`, which is no file"):
        laid_out(tmp_path, Image(layer(("b", "is:nothing"))))


def test_a_layer_is_unpacked_once_for_all_images_that_begin_so(tmp_path: Path) -> None:
    base, tools = layer(("a", b"1")), layer(("b", b"2"))
    cache, said = folders(tmp_path), list[str]()
    one, other = Image(base, tools, layer(("c", b"3"))), Image(base, tools, layer(("a", b"4")))
    cache.unpack(one, one.digest, said.append)
    del other.blobs["sha256:" + hashlib.sha256(base).hexdigest()]  # not asked for again
    del other.blobs["sha256:" + hashlib.sha256(tools).hexdigest()]
    unpacked = cache.unpack(other, other.digest, said.append)
    assert [line.partition(",")[0] for line in said] == ["unpacking 3 of 3 layers", "unpacking 1 of 3 layers"]
    assert {"a": "4", "b": "2"} == tree(unpacked) == mounted(unpacked)


def test_of_two_that_unpack_a_layer_at_once_both_have_it(tmp_path: Path) -> None:
    base = layer(*((f"file-{number}", os.urandom(1000)) for number in range(300)))
    images = [Image(base, layer((name, b"1"))) for name in "abcd"]
    cache = folders(tmp_path)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda image: cache.unpack(image, image.digest, lambda line: None), images))
    for unpacked, name in zip(found, "abcd", strict=True):
        assert {name, *(f"file-{number}" for number in range(300))} == {
            path[1:] for path, _ in files_of(unpacked).walk()
        }
    assert len(list((tmp_path / "images" / "layers").glob("[!.]*"))) == 5
    assert [path.name for path in (tmp_path / "images").rglob(".*")] == []


def test_what_a_killed_unpacker_left_is_not_used_and_goes(tmp_path: Path) -> None:
    image = Image(layer(("a", b"1")), layer(*((f"b{number}", b"2") for number in range(100))))
    cache = folders(tmp_path)

    def unpack_and_die() -> None:
        read = image.open_blob

        def open_blob(digest: str) -> IO[bytes]:
            if len(list((tmp_path / "images" / "layers").glob("[!.]*"))):
                os.kill(os.getpid(), signal.SIGKILL)
            return read(digest)

        image.open_blob = open_blob  # type: ignore[method-assign]
        cache.unpack(image, image.digest, lambda line: None)

    child = multiprocessing.get_context("fork").Process(target=unpack_and_die)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = [path.name.partition("-")[0] for path in (tmp_path / "images").rglob(".*")]
    assert left == [".unpacking", ".unpacking"]
    assert cache.find(image.digest) is None
    assert len(laid_out(tmp_path, image)) == 101
    (tmp_path / "images" / ".mounted").rmdir()
    assert list((tmp_path / "images").rglob(".*")) == []
