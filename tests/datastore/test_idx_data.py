"""Data sets in MNIST's files: from a mirror, from a package, from Debian."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tensoryard import idx_data
from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, UsageError

CONTENTS = {file: f"the bytes of {file}".encode() for file in idx_data.FILES}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's own output is enough."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Callable[[str, dict[str, bytes]], str]]:
    """Starts an HTTP server over the files given; the address comes back."""
    servers = []

    def start(name: str, files: dict[str, bytes]) -> str:
        folder = tmp_path / "mirrors" / name
        folder.mkdir(parents=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def expected_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in CONTENTS.items()}
    monkeypatch.setattr(idx_data, "MNIST_SHA256", digests)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_mnist_comes_from_the_first_mirror_that_has_the_right_bytes(
    tmp_path: Path, mirror: Callable[[str, dict[str, bytes]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mirror("broken", dict.fromkeys(CONTENTS, b"something else"))
    empty = mirror("empty", {})
    good = mirror("good", CONTENTS)
    monkeypatch.setattr(idx_data, "MNIST_MIRRORS", (broken, empty, good))
    said: list[str] = []

    got = idx_data.fetch("mnist", tmp_path / "data/mnist", said.append)

    assert [tmp_path / "data/mnist" / file for file in idx_data.FILES] == got
    assert contents(tmp_path / "data/mnist") == CONTENTS
    assert "Failed: 404 File not found" in said


def test_mnist_from_nowhere_names_each_mirror_its_reason_and_the_alternatives(
    tmp_path: Path, mirror: Callable[[str, dict[str, bytes]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mirror("broken", dict.fromkeys(CONTENTS, b"something else"))
    empty = mirror("empty", {})
    closed = "http://127.0.0.1:1"
    monkeypatch.setattr(idx_data, "MNIST_MIRRORS", (broken, empty, closed))

    with pytest.raises(NotFoundError) as caught:
        idx_data.fetch("mnist", tmp_path / "mnist", lambda line: None)

    message = caught.value.message
    assert f"{broken}: 14 bytes with SHA-256" in message
    assert f"{empty}: 404 File not found" in message
    assert f"{closed}: Connection refused" in message
    assert "data fetch digits" in (caught.value.hint or "")
    assert "dataset-fashion-mnist" in (caught.value.hint or "")
    assert contents(tmp_path / "mnist") == {}


def test_a_file_that_is_there_is_not_downloaded_again(
    tmp_path: Path, mirror: Callable[[str, dict[str, bytes]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = idx_data.TEST_LABELS
    monkeypatch.setattr(idx_data, "MNIST_MIRRORS", (mirror("one file", {missing: CONTENTS[missing]}),))
    for file in CONTENTS.keys() - {missing}:
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / file).write_bytes(CONTENTS[file])

    idx_data.fetch("mnist", tmp_path / "mnist", lambda line: None)

    assert contents(tmp_path / "mnist") == CONTENTS


def test_another_data_set_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    own = {idx_data.TRAIN_IMAGES: b"a person's own data"}
    (tmp_path / idx_data.TRAIN_IMAGES).write_bytes(own[idx_data.TRAIN_IMAGES])

    with pytest.raises(AlreadyExistsError, match=idx_data.TRAIN_IMAGES):
        idx_data.fetch("digits", tmp_path, lambda line: None)

    assert contents(tmp_path) == own


def test_digits_are_four_idx_files_with_equal_shares_of_every_digit(tmp_path: Path) -> None:
    idx_data.fetch("digits", tmp_path, lambda line: None)

    raw = {name: gzip.decompress(data) for name, data in contents(tmp_path).items()}
    train, test = raw[idx_data.TRAIN_LABELS][8:], raw[idx_data.TEST_LABELS][8:]
    assert raw[idx_data.TRAIN_IMAGES][:16] == bytes.fromhex("00000803 0000059e 00000008 00000008")
    assert raw[idx_data.TEST_LABELS][:8] == bytes.fromhex("00000801 00000167")
    assert (len(train), len(test)) == (1438, 359)
    assert all(abs(test.count(digit) / (test.count(digit) + train.count(digit)) - 0.2) < 0.01 for digit in range(10))
    assert max(raw[idx_data.TRAIN_IMAGES][16:]) == 255
    assert len(raw[idx_data.TEST_IMAGES]) == 16 + 359 * 64


def test_digits_are_the_same_bytes_on_every_call(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        idx_data.write_digits(tmp_path / name, lambda line: None)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_fashion_mnist_is_copied_from_debians_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    for file, data in CONTENTS.items():
        (packaged / file).write_bytes(data)
    monkeypatch.setattr(idx_data, "FASHION_MNIST", packaged)

    idx_data.fetch("fashion-mnist", tmp_path / "data", lambda line: None)

    assert contents(tmp_path / "data") == CONTENTS


def test_fashion_mnist_that_is_not_installed_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx_data, "FASHION_MNIST", tmp_path / "nowhere")

    with pytest.raises(NotFoundError) as caught:
        idx_data.fetch("fashion-mnist", tmp_path / "data", lambda line: None)

    assert "apt install dataset-fashion-mnist" in (caught.value.hint or "")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mnist, digits, fashion-mnist"):
        idx_data.fetch("cifar", tmp_path, lambda line: None)


def test_a_folder_that_cannot_be_made_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(StoreError, match="not a directory"):
        idx_data.fetch("digits", tmp_path / "file" / "data", lambda line: None)


def test_values_that_do_not_fill_the_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 values"):
        idx_data.write_idx(tmp_path / "images.gz", b"abc", (2, 2))
