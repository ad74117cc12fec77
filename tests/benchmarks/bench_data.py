"""
How fast folders go to blob storage and come back; beside azure-storage-blob with its defaults, and beside AzCopy.

    python tests/benchmarks/bench_data.py                     # all of it, about 20 minutes, as docs/benchmarks.md
    python tests/benchmarks/bench_data.py --where sink --small 1000 --large 0 --one-mib 0 --many 0 --sparse-gib 0
    python tests/benchmarks/bench_data.py --where emulator --small 0 --large 0 --one-mib 2048

On three servers. Azurite, the emulator, works on one core and is what bounds most rows: what it bears at best is said
first. The sink keeps no bytes and holds each answer back for 10 ms, as a network would: there the clients are what
is measured. The line is the same sink, where one connection carries 100 MiB a second and several as much each. The
same files in turns, each client in a process of its own, the best of the rounds; of the SDK's loop as much as it does
in half a minute. Rows of ours alone: 100,000 small files, and a sparse file, which takes 20 GiB of disk to come back.

The SDK checks nothing unless it is told to; the digest (SHA-256) that ours takes of every byte is in its figures, and
"checked" is the SDK with `validate_content`, which takes MD5 instead. AzCopy checks nothing of its own by default
either, and looks every two seconds whether it is done, which rounds up the times of what is small.
"""

import argparse
import filecmp
import http.client
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from services.azcopy import azcopy
from services.azurite import ACCOUNT, KEY, Azurite
from services.sink import Sink, content

SMALL_BYTES = 4 << 10
SINK_WAITS_S = 0.01
LINE_MIB_S = 100
# The SDK's loop ends then, wherever it is: a file takes it as long as the one before.
SDK_MOST_S = 30


class Done(NamedTuple):
    """files: how many of those there were; all of them where it is None."""

    seconds: float
    cpu_s: float
    files: int | None = None


# Given endpoint, place and folder.
Work = Callable[[str, str, Path], Done]


class Figures(NamedTuple):
    """Seconds on the clock and of the processor are those for a file."""

    seconds: float
    cpu_s: float
    peak_mib: float


class Sizes(NamedTuple):
    """
    What is measured on a server: files of 4 KiB; large ones, of so many MiB; MiB of the one file.

    Of ours alone: very many files of 4 KiB, GiB of a sparse file.
    """

    small: int
    large: int
    large_mib: int
    one_mib: int
    many: int = 0
    sparse_gib: int = 0


SERVERS = {
    "sink": ("On a sink with 10 ms an answer", Sizes(10_000, 16, 64, 1024, 100_000, 20)),
    "line": ("At 100 MiB/s a connection, 10 ms an answer", Sizes(0, 8, 64, 0)),
    "emulator": ("On Azurite", Sizes(10_000, 4, 64, 512)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", choices=SERVERS, help="one of the three only")
    parser.add_argument("--small", type=int, help="files of 4 KiB")
    parser.add_argument("--large", type=int, help="large files")
    parser.add_argument("--large-mib", type=int, help="MiB of each large file")
    parser.add_argument("--one-mib", type=int, help="MiB of the one file")
    parser.add_argument("--many", type=int, help="files of 4 KiB, by ours alone")
    parser.add_argument("--sparse-gib", type=int, help="GiB of a sparse file, by ours alone")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each client, the best of which counts")
    options = parser.parse_args()
    for where in [options.where] if options.where else SERVERS:
        title, sizes = SERVERS[where]
        given = {name: value for name, value in vars(options).items() if name in Sizes._fields and value is not None}
        server = Azurite() if where == "emulator" else Sink(SINK_WAITS_S, LINE_MIB_S if where == "line" else 0)
        try:
            if where == "emulator":
                best(server.endpoint)
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), server.endpoint, title, sizes._replace(**given), options.rounds)
        finally:
            server.close()


def best(endpoint: str) -> None:
    """What the emulator bears from a client that does nothing else."""
    from tensoryard.store.blob_account import API_VERSION

    _container(endpoint, "best")
    url, signature = urlsplit(endpoint), signed()
    data = content(1 << 20) * 32

    def many(method: str, count: int, size_bytes: int, query: str = "") -> float:
        def some(numbers: range) -> None:
            connection = http.client.HTTPConnection(str(url.hostname), url.port)
            for number in numbers:
                more = query.format(number=number)
                body = data[:size_bytes] if method == "PUT" else None
                headers = {"x-ms-version": API_VERSION, "x-ms-blob-type": "BlockBlob"}
                path = f"{url.path}/best/{size_bytes}-{'' if query else number}?{signature}{more}"
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status in (200, 201), answer.status

        at_once = min(16, count)
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(some, [range(start, count, at_once) for start in range(at_once)]))
        return count / (time.perf_counter() - begun)

    print(
        f"the emulator at best, 16 connections: {many('PUT', 2000, SMALL_BYTES):.0f} small files/s in,"
        f" {many('GET', 2000, SMALL_BYTES):.0f} out; MiB/s {32 * many('PUT', 8, 32 << 20):.0f} in,"
        f" {8 * many('PUT', 16, 8 << 20, '&comp=block&blockid=MDAwMDAw{number:04}'):.0f} in by blocks,"
        f" {32 * many('GET', 8, 32 << 20):.0f} out\n",
        flush=True,
    )


def signed() -> str:
    """What a client adds to its addresses that has no key."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    return generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions(read=True, write=True, create=True, list=True),
        datetime.now(UTC) + timedelta(hours=1),
    )


def measure(folder: Path, endpoint: str, title: str, sizes: Sizes, rounds: int) -> None:
    cpu = "CPU, ours / SDK / checked / AzCopy"
    print(f"| {title} | Tensoryard | SDK (ours is faster) | AzCopy | {cpu} | peak, ours / SDK |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = [
        Row(f"{sizes.small:,} files of 4 KiB", sizes.small, SMALL_BYTES, WAYS, 1),
        Row(f"{sizes.many:,} files of 4 KiB", sizes.many, SMALL_BYTES, WAYS[:1], 1),
        Row(f"{sizes.large} files of {sizes.large_mib} MiB", sizes.large, sizes.large_mib << 20, WAYS, rounds),
        Row(f"1 file of {sizes.one_mib:,} MiB", 1, sizes.one_mib << 20, WAYS, rounds),
        Row(f"1 sparse file of {sizes.sparse_gib} GiB", 1, sizes.sparse_gib << 30, WAYS[:1], 1, sparse=True),
    ]
    for number, row in enumerate(rows):
        if row.count and row.size_bytes:
            measure_row(folder / str(number), endpoint, row)
            shutil.rmtree(folder / str(number))
    print()


class Row(NamedTuple):
    name: str
    count: int
    size_bytes: int
    ways: Sequence[tuple[Work, Work]]
    rounds: int
    sparse: bool = False


def measure_row(folder: Path, endpoint: str, row: Row) -> None:
    source = folder / "source"
    source.mkdir(parents=True)
    for number in range(row.count):
        with (source / f"{number:05}").open("wb") as file:
            if row.sparse:
                file.truncate(row.size_bytes)
                continue
            for start in range(0, row.size_bytes, 1 << 20):
                file.write(content(min(1 << 20, row.size_bytes - start)))
    up: list[list[Figures]] = [[] for _ in row.ways]
    down: list[list[Figures]] = [[] for _ in row.ways]
    turns = [(way, turn) for turn in range(row.rounds) for way in range(len(row.ways))]
    for way, turn in turns:
        up[way].append(apart(row.ways[way][0], endpoint, f"{folder.name}-{way}-{turn}", source, row.count))
    # Afterwards: the emulator takes new memory for what is sent, and a virtual machine gives it to nobody quickly.
    for way, turn in turns:
        back = folder / f"back-{way}-{turn}"
        down[way].append(apart(row.ways[way][1], endpoint, f"{folder.name}-{way}-{turn}", back, row.count))
        paths = list(back.iterdir())
        assert paths
        assert len(paths) == row.count or row.ways[way] in BOUNDED
        for path in paths:
            # Of a sparse one ours has taken the digest.
            assert row.sparse or filecmp.cmp(source / path.name, path, shallow=False), path
            # Small ones stay: ext4 looks for room for a new file through all that were removed lately.
            if row.size_bytes > SMALL_BYTES:
                path.unlink()
    say(f"{row.name}: up", row, [least(figures) for figures in up])
    say("down", row, [least(figures) for figures in down])


def least(figures: list[Figures]) -> Figures:
    return Figures(*(min(one) for one in zip(*figures, strict=True)))


def say(name: str, row: Row, ways: list[Figures]) -> None:
    ours, *others = ways
    are_small = row.size_bytes < 1 << 20

    def speed(one: Figures) -> str:
        mib_s = row.size_bytes / (1 << 20) / one.seconds
        return f"{1 / one.seconds:,.0f} files/s" if are_small else f"{mib_s:,.0f} MiB/s"

    def beside(one: Figures) -> str:
        times = one.seconds / ours.seconds
        return f"{speed(one)} ({times:.{1 if times < 10 else 0}f} x)"

    scale, unit = (1e3, "ms a file") if are_small else ((1 << 30) / row.size_bytes, "s/GiB")
    cpu = " / ".join(f"{one.cpu_s * scale:.2f}" for one in ways)
    sdk, azcopy = (beside(others[0]), beside(others[2])) if others else ("", "")
    peak = " / ".join(f"{one.peak_mib:.0f}" for one in ways[:2])
    print(f"| {name} | {speed(ours)} | {sdk} | {azcopy} | {cpu} {unit} | {peak} MiB |", flush=True)


def apart(work: Work, endpoint: str, place: str, folder: Path, files: int) -> Figures:
    """Figures of work done by a process of its own, its imports left out of the time."""
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, endpoint, place, folder, files, writing))
    process.start()
    writing.close()
    figures: Figures = reading.recv()
    process.join()
    return figures


def _measured(work: Work, endpoint: str, place: str, folder: Path, files: int, to: Any) -> None:
    # Imports and making containers come before `work` looks at the clock.
    done = work(endpoint, place, folder)
    of = done.files or files
    to.send(Figures(done.seconds / of, done.cpu_s / of, peak_mib()))


def peak_mib() -> float:
    """Of this process: what getrusage tells begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], Any]) -> Done:
    """Seconds on the clock and of the processor, those of what `work` starts and waits for with it."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    files = work()
    seconds, cpu_s = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    return Done(seconds, cpu_s, files if isinstance(files, int) else None)


def bounded(work: Callable[[Any], None], items: Iterable[Any]) -> int:
    """For how many items work was done, one after the other, until the time was over."""
    until = time.perf_counter() + SDK_MOST_S
    done = 0
    for item in items:
        work(item)
        done += 1
        if time.perf_counter() > until:
            break
    return done


def _service(endpoint: str) -> Any:
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import BlobServiceClient

    from tensoryard.store.blob_account import API_VERSION

    return BlobServiceClient(endpoint, AzureNamedKeyCredential(ACCOUNT, KEY), api_version=API_VERSION)


def _container(endpoint: str, name: str) -> Any:
    container = _service(endpoint).get_container_client(name)
    if not container.exists():
        container.create_container()
    return container


def _store(endpoint: str, place: str) -> Any:
    from azure.core.credentials import AzureNamedKeyCredential

    from tensoryard.settings import AzureContainers
    from tensoryard.store.blob import BlobStore
    from tensoryard.store.blob_account import BlobAccount

    containers = AzureContainers(data=f"data-{place}", runs=f"runs-{place}", models=f"models-{place}")
    for name in (containers.data, containers.runs, containers.models):
        _container(endpoint, name)
    return BlobStore(
        BlobAccount(endpoint=endpoint, containers=containers, credential=AzureNamedKeyCredential(ACCOUNT, KEY))
    )


def ours_upload(endpoint: str, place: str, source: Path) -> Done:
    from tensoryard.folders import folder_files
    from tensoryard.uploads import upload_files

    store = _store(endpoint, place)
    return timed(lambda: upload_files(store, folder_files(source), "bench", overwrite=False, show_progress=False))


def ours_download(endpoint: str, place: str, target: Path) -> Done:
    from tensoryard.downloads import download_path

    store = _store(endpoint, place)
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    return timed(lambda: download_path(store, "bench", target, **how))


def sdk_upload(endpoint: str, place: str, source: Path, **how: bool) -> Done:
    container = _container(endpoint, f"sdk-{place}")

    def send(path: Path) -> None:
        with path.open("rb") as file:
            container.upload_blob(path.name, file, **how)

    return timed(lambda: bounded(send, sorted(source.iterdir())))


def sdk_download(endpoint: str, place: str, target: Path, **how: bool) -> Done:
    container = _container(endpoint, f"sdk-{place}")
    target.mkdir(parents=True, exist_ok=True)

    def get(blob: Any) -> None:
        with (target / blob.name).open("wb") as file:
            container.download_blob(blob.name, **how).readinto(file)

    return timed(lambda: bounded(get, container.list_blobs()))


def checked_upload(endpoint: str, place: str, source: Path) -> Done:
    return sdk_upload(endpoint, place, source, validate_content=True)


def checked_download(endpoint: str, place: str, target: Path) -> Done:
    return sdk_download(endpoint, place, target, validate_content=True)


def azcopy_upload(endpoint: str, place: str, source: Path) -> Done:
    container = _container(endpoint, f"azcopy-{place}")
    target = f"{container.url}?{signed()}"
    return timed(lambda: azcopy(f"{source}/*", target, "LocalBlob", source.with_name("azcopy")))


def azcopy_download(endpoint: str, place: str, target: Path) -> Done:
    source = f"{endpoint}/azcopy-{place}/*?{signed()}"
    return timed(lambda: azcopy(source, str(target), "BlobLocal", target.with_name("azcopy")))


BOUNDED: Sequence[tuple[Work, Work]] = [(sdk_upload, sdk_download), (checked_upload, checked_download)]
WAYS: Sequence[tuple[Work, Work]] = [
    (ours_upload, ours_download),
    *BOUNDED,
    (azcopy_upload, azcopy_download),
]


if __name__ == "__main__":
    main()
