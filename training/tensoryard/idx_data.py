"""
Data sets of images in MNIST's own files, fetched into a folder: what the training templates read.

Four IDX files, compressed with gzip. Source of the format: http://yann.lecun.com/exdb/mnist/ - two zero bytes,
the type (8: unsigned bytes), the number of axes, one big-endian 32-bit length an axis, then the values.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tensoryard.errors import AlreadyExistsError, NotFoundError, StoreError, TensoryardError, UsageError
from tensoryard.store.disk import plain_errors

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

DATASETS = {
    "mnist": "60,000 + 10,000 handwritten digits of 28 x 28, downloaded (12 MB)",
    "digits": "1,438 + 359 handwritten digits of 8 x 8, from the scikit-learn package (downloaded, 10 MB)",
    "fashion-mnist": "60,000 + 10,000 pieces of clothing of 28 x 28, from Debian's package dataset-fashion-mnist",
}

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
# The files of 1998, unchanged since. Source: the checksums of TensorFlow Datasets' `mnist`.
MNIST_SHA256 = {
    TRAIN_IMAGES: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    TRAIN_LABELS: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    TEST_IMAGES: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    TEST_LABELS: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_LARGEST_DOWNLOAD_BYTES = 64 * 1024**2  # a mirror that answers with something endless is stopped here

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

# One file of its wheel is enough: 1,797 lines of 64 pixels (0 to 16) and the digit.
_SCIKIT_LEARN = "scikit-learn==1.7.2"
_DIGITS_CSV = "sklearn/datasets/data/digits.csv.gz"
_DIGITS_SIDE = 8

Say = Callable[[str], None]


def fetch(name: str, folder: Path, say: Say, *, overwrite: bool = False) -> list[Path]:
    """
    The four IDX .gz files of a data set, in folder, which is created if needed.

    name: one of DATASETS; say: gets a line for each step. Either all four files are put there or none; files
    that are already there with the same bytes are kept as they are.
    Raises AlreadyExistsError when files of another data set are there and overwrite is false, NotFoundError
    when the data can be had from nowhere, with every place tried and why.
    """
    if name not in DATASETS:
        raise UsageError(f"data set: got `{name}`, allowed are {', '.join(DATASETS)}")
    with plain_errors(folder, "writing"):
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder))
        try:
            if name == "mnist":
                _download_mnist(work, folder, say)
            elif name == "digits":
                write_digits(work, say)
            else:
                _copy_fashion_mnist(work, say)
            return _publish(work, folder, overwrite)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, folder: Path, overwrite: bool) -> list[Path]:
    new = [file for file in FILES if not _same_bytes(work / file, folder / file)]
    taken = [file for file in new if (folder / file).exists()]
    if taken and not overwrite:
        raise AlreadyExistsError(
            f"{folder}: holds another data set ({', '.join(taken)} differ)",
            hint="fetch into another path, or remove these files first",
        )
    for file in new:
        (work / file).replace(folder / file)
    return [folder / file for file in FILES]


def _same_bytes(one: Path, other: Path) -> bool:
    import filecmp

    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def write_idx(path: Path, values: bytes, shape: Sequence[int]) -> None:
    """
    Write unsigned bytes as a gzipped IDX file: the same values give the same file.

    values: in C order, as many as the product of shape, the lengths of the axes.
    """
    import gzip
    import math

    if len(values) != math.prod(shape):
        raise ValueError(f"{path.name}: got {len(values)} values for the shape {tuple(shape)}")
    header = bytes((0, 0, 8, len(shape))) + b"".join(length.to_bytes(4, "big") for length in shape)
    path.write_bytes(gzip.compress(header + values, mtime=0))


def write_digits(folder: Path, say: Say = print) -> None:
    """
    scikit-learn's 1,797 digits as four IDX files in folder, split 80/20 with equal shares of every digit.

    Pixels are scaled from 0..16 to 0..255. The split is fixed: every call writes the same bytes.
    Raises NotFoundError when scikit-learn's wheel cannot be had.
    """
    import gzip
    import random

    say(f"Reading the digits in {_SCIKIT_LEARN}, a package that uv keeps in its cache")
    rows = [[int(float(value)) for value in line.split(b",")] for line in gzip.decompress(_digits_csv()).splitlines()]
    rows = [[*(round(pixel * 255 / 16) for pixel in pixels), digit] for *pixels, digit in rows]
    chosen = random.Random(0)  # noqa: S311 - a split, no secret
    test: set[int] = set()
    for digit in range(10):
        places = [place for place, row in enumerate(rows) if row[-1] == digit]
        test.update(chosen.sample(places, round(len(places) / 5)))
    parts = {True: (TEST_IMAGES, TEST_LABELS), False: (TRAIN_IMAGES, TRAIN_LABELS)}
    for in_test, (images, labels) in parts.items():
        part = [row for place, row in enumerate(rows) if (place in test) == in_test]
        pixels = b"".join(bytes(row[:-1]) for row in part)
        write_idx(folder / images, pixels, (len(part), _DIGITS_SIDE, _DIGITS_SIDE))
        write_idx(folder / labels, bytes(row[-1] for row in part), (len(part),))


def _digits_csv() -> bytes:
    from tensoryard.environment import command

    with tempfile.TemporaryDirectory(prefix="tyard-digits-") as folder:
        # Without its dependencies: the file is read, nothing of the package is imported.
        wheel = ("--quiet", "--no-deps", "--no-build", "--target", folder, "--python", sys.executable, _SCIKIT_LEARN)
        done = command.run(command.uv("pip", "install", *wheel), cwd=Path(folder))
        path = Path(folder) / _DIGITS_CSV
        if done.code or not path.is_file():
            raise NotFoundError(
                f"digits: {_SCIKIT_LEARN} could not be installed: {' '.join(' '.join(done.talk).split())}",
                hint="uv takes it from its package index; `mnist` and `fashion-mnist` do without one",
            )
        return path.read_bytes()


def _copy_fashion_mnist(work: Path, say: Say) -> None:
    missing = [file for file in FILES if not (FASHION_MNIST / file).is_file()]
    if missing:
        raise NotFoundError(
            f"fashion-mnist: {', '.join(missing)} not in {FASHION_MNIST}, where Debian's package puts it",
            hint="`sudo apt install dataset-fashion-mnist`, or fetch `mnist` or `digits`",
        )
    say(f"Copying from {FASHION_MNIST}")
    for file in FILES:
        shutil.copyfile(FASHION_MNIST / file, work / file)


def _download_mnist(work: Path, folder: Path, say: Say) -> None:
    for file in FILES:
        if (folder / file).is_file() and _sha256((folder / file).read_bytes()) == MNIST_SHA256[file]:
            shutil.copyfile(folder / file, work / file)
            continue
        reasons = []
        for mirror in MNIST_MIRRORS:
            say(f"Downloading {mirror}/{file}")
            try:
                (work / file).write_bytes(_download(f"{mirror}/{file}", MNIST_SHA256[file]))
                break
            except TensoryardError as error:
                reasons.append(f"{mirror}: {error.message}")
                say(f"Failed: {error.message}")
        else:
            raise NotFoundError(
                f"mnist: {file} could not be downloaded from any mirror: {'; '.join(reasons)}",
                hint="`tyard data fetch digits` needs only the package index, `tyard data fetch fashion-mnist` only "
                "Debian's package dataset-fashion-mnist; files you already have go in with `tyard data upload`",
            )


def _download(url: str, sha256: str) -> bytes:
    """The bytes behind an address, if they are those expected. Raises StoreError with the reason in a few words."""
    import http.client
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the mirrors above, all https
            data: bytes = answer.read(_LARGEST_DOWNLOAD_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        code = getattr(error, "code", None)
        raise StoreError(f"{code} {reason}" if code else f"{reason}") from error
    got = _sha256(data)
    if got != sha256:
        raise StoreError(f"{len(data)} bytes with SHA-256 {got[:12]}..., expected {sha256[:12]}...")
    return data


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
