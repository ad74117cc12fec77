"""What is removed of a cache of images, and what never: by age, for free space, under a run or whoever unpacks."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from launching import Yard
from services.images import OneImage
from services.small_images import Image, folders, layer
from tensoryard.environment import Environment, in_use
from tensoryard.environment.image_folders import ImageFolders
from tensoryard.errors import EnvironmentBuildError

DAY = 86400


def unpacked(cache: ImageFolders, image: Image, days_ago: float = 0) -> Path:
    folder = cache.unpack(image, image.digest, lambda line: None)
    at = time.time() - days_ago * DAY
    os.utime(folder / "used", (at, at))
    return folder


def layers(cache: ImageFolders) -> int:
    return len(list((cache.folder / "layers").glob("*")))


def left_aside(cache: ImageFolders) -> list[Path]:
    return [path for path in cache.folder.rglob(".*") if not path.name.startswith(".wh")]


def test_images_go_by_age_and_layers_with_the_last_image_that_has_them(tmp_path: Path) -> None:
    cache = folders(tmp_path)
    base, mine, yours = layer(("a", bytes(1000))), layer(("b", bytes(300))), layer(("c", bytes(50)))
    old, new = unpacked(cache, Image(base, mine), 40), unpacked(cache, Image(base, yours), 2)
    assert [one.own_bytes for one in cache.prune(30, dry_run=True)] == [300]
    assert old.exists()
    (gone,) = cache.prune(30)
    assert (gone.folder, gone.own_bytes) == (old, 300)
    assert (old.exists(), new.exists(), layers(cache)) == (False, True, 2)
    assert [one.own_bytes for one in cache.prune(None)] == [1050]
    assert (layers(cache), left_aside(cache)) == (0, [])


def test_for_free_space_those_go_that_were_used_longest_ago(tmp_path: Path) -> None:
    cache = folders(tmp_path)
    images = [unpacked(cache, Image(layer((name, os.urandom(8 << 20)))), days) for name, days in (("a", 3), ("b", 5))]
    free = shutil.disk_usage(tmp_path).free
    assert cache.prune(30, free_bytes=0) == ()
    found = cache.prune(30, free_bytes=free + (4 << 20), dry_run=True)
    assert [one.folder for one in found] == [images[1]]
    assert [one.folder for one in cache.prune(30, free_bytes=1 << 60)] == [images[1], images[0]]


def test_an_image_stays_while_a_run_has_it_even_one_that_waits_for_days(yard: Yard, tmp_path: Path) -> None:
    cache = folders(tmp_path / "cache")
    folder = unpacked(cache, Image(layer(("a", b"1"))), 100)
    described = Environment(
        hash="1" * 16,
        name="small",
        python="python",
        python_version="",
        tensorflow="",
        lock_sha256="",
        image="reg.io/small@sha256:" + folder.name,
        unpacked=str(folder),
    )
    seen: list[object] = []

    yard.submit("", runtime="image")
    controller = yard.controller(builder=OneImage(described))
    submit = controller.scheduler.submit

    def pruned_meanwhile(*arguments: object) -> None:
        seen.append(cache.prune(None))
        submit(*arguments)  # type: ignore[arg-type]

    controller.scheduler.submit = pruned_meanwhile  # type: ignore[method-assign]
    controller.serve()
    assert seen == [()]
    assert [one.folder for one in cache.prune(None)] == [folder]


def test_what_a_dead_controller_said_of_a_run_that_is_gone_keeps_nothing(tmp_path: Path) -> None:
    cache = folders(tmp_path)
    folder = unpacked(cache, Image(layer(("a", b"1"))))
    run = tmp_path / "runs" / "test-0001"
    run.mkdir(parents=True)
    (run / "environment").symlink_to(folder)
    in_use.given(folder, run)
    assert cache.prune(None) == ()
    shutil.rmtree(run)
    assert [one.folder for one in cache.prune(None)] == [folder]


def test_no_layer_goes_while_somebody_unpacks_an_image_that_may_have_it(tmp_path: Path) -> None:
    cache = folders(tmp_path)
    base, more = layer(("a", b"1")), layer(("b", b"2"))
    first, second = Image(base), Image(base, more)
    unpacked(cache, first, 100)
    reading, pruned = threading.Event(), threading.Event()
    read = second.open_blob

    def open_blob(digest: str) -> IO[bytes]:
        if second.blobs[digest] == more:
            reading.set()
            assert pruned.wait(300)
        return read(digest)

    second.open_blob = open_blob  # type: ignore[method-assign]
    found: list[Path] = []
    thread = threading.Thread(target=lambda: found.append(unpacked(cache, second)))
    thread.start()
    assert reading.wait(300)
    assert len(cache.prune(None)) == 1
    assert layers(cache) >= 1
    pruned.set()
    thread.join()
    assert found[0].exists()
    cache.prune(30)
    assert (layers(cache), left_aside(cache)) == (2, [])


def test_a_full_disk_is_freed_of_images_that_nobody_uses(small_disk: Callable[[int], Path]) -> None:
    cache, said = folders(small_disk(4 << 20)), list[str]()
    old = unpacked(cache, Image(layer(("a", os.urandom(3 << 20)))), 1)
    big = Image(layer(("b", os.urandom(3 << 20))))
    assert cache.unpack(big, big.digest, said.append).exists()
    assert not old.exists()
    assert any(line.endswith("is full: removed images that nobody uses (3.1 MB)") for line in said)
    assert left_aside(cache) == []


def test_a_disk_that_is_too_small_is_said_to_be_so(small_disk: Callable[[int], Path]) -> None:
    cache = folders(small_disk(2 << 20))
    big = Image(layer(("a", b"1")), layer(("b", os.urandom(3 << 20))))
    with pytest.raises(
        EnvironmentBuildError, match=r"is full: \S+ \S+ are free, what is missing of the image is 3\.1"
    ):
        cache.unpack(big, big.digest, lambda line: None)
    assert left_aside(cache) == []
    assert cache.find(big.digest) is None
