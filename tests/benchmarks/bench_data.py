"""
How fast folders go to blob storage and come back; beside azure-storage-blob with its defaults, and beside AzCopy.

    python tests/benchmarks/bench_data.py                     # all of it, about five minutes, as docs/benchmarks.md
    python tests/benchmarks/bench_data.py --where sink --small 10000 --large 0 --one-mib 0
    python tests/benchmarks/bench_data.py --where emulator --small 0 --large 0 --one-mib 2048

On three servers. Azurite, the emulator, works on one core and is what bounds most rows: what it bears at best is said
first. The sink keeps no bytes and holds each answer back for 10 ms, as a network would: there the clients are what
is measured. The line is the same sink, where one connection carries 100 MiB a second and several as much each. The
same files in turns, each client in a process of its own, the best of the rounds.

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
from collections.abc import Callable
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
# (endpoint, place, folder) to seconds on the clock and of the processor.
Work = Callable[[str, str, Path], tuple[float, float]]


class Figures(NamedTuple):
    seconds: float
    cpu_s: float
    peak_mib: float


class Sizes(NamedTuple):
    """What is measured on a server: files of 4 KiB; large ones, of so many MiB; MiB of the one file."""

    small: int
    large: int
    large_mib: int
    one_mib: int


SERVERS = {
    "sink": ("On a sink with 10 ms an answer", Sizes(1000, 16, 64, 1024)),
    "line": ("At 100 MiB/s a connection, 10 ms an answer", Sizes(0, 8, 64, 0)),
    "emulator": ("On Azurite", Sizes(1000, 4, 64, 512)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", choices=SERVERS, help="one of the three only")
    parser.add_argument("--small", type=int, help="files of 4 KiB")
    parser.add_argument("--large", type=int, help="large files")
    parser.add_argument("--large-mib", type=int, help="MiB of each large file")
    parser.add_argument("--one-mib", type=int, help="MiB of the one file whose memory is measured")
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
        (sizes.small, SMALL_BYTES, f"{sizes.small:,} files of 4 KiB", 1),
        (sizes.large, sizes.large_mib << 20, f"{sizes.large} files of {sizes.large_mib} MiB", rounds),
        (1, sizes.one_mib << 20, f"1 file of {sizes.one_mib:,} MiB", rounds),
    ]
    for number, (count, size_bytes, name, turns) in enumerate(rows):
        if count and size_bytes:
            row_pair(folder / str(number), endpoint, count, size_bytes, name, turns)
            shutil.rmtree(folder / str(number))
    print()


def row_pair(folder: Path, endpoint: str, count: int, size_bytes: int, name: str, rounds: int) -> None:
    source = folder / "source"
    source.mkdir(parents=True)
    for number in range(count):
        with (source / f"{number:05}").open("wb") as file:
            for start in range(0, size_bytes, 1 << 20):
                file.write(content(min(1 << 20, size_bytes - start)))
    ways: list[tuple[Work, Work]] = [
        (ours_upload, ours_download),
        (sdk_upload, sdk_download),
        (checked_upload, checked_download),
        (azcopy_upload, azcopy_download),
    ]
    up: list[list[Figures]] = [[] for _ in ways]
    down: list[list[Figures]] = [[] for _ in ways]
    turns = [(way, turn) for turn in range(rounds) for way in range(len(ways))]
    for way, turn in turns:
        up[way].append(apart(ways[way][0], endpoint, f"{folder.name}-{way}-{turn}", source))
    # Afterwards: the emulator takes new memory for what is sent, and a virtual machine gives it to nobody quickly.
    for way, turn in turns:
        back = folder / f"back-{way}-{turn}"
        down[way].append(apart(ways[way][1], endpoint, f"{folder.name}-{way}-{turn}", back))
        for path in source.iterdir():
            assert filecmp.cmp(back / path.name, path, shallow=False), path
            # Small ones stay: ext4 looks for room for a new file through all that were removed lately.
            if size_bytes > SMALL_BYTES:
                (back / path.name).unlink()
    row(f"{name}: up", count * size_bytes, count, [least(figures) for figures in up])
    row("down", count * size_bytes, count, [least(figures) for figures in down])


def least(figures: list[Figures]) -> Figures:
    return Figures(*(min(one) for one in zip(*figures, strict=True)))


def row(name: str, size_bytes: int, files: int, ways: list[Figures]) -> None:
    ours, sdk, _, azcopy = ways
    are_small = size_bytes / files < 1 << 20

    def speed(one: Figures) -> str:
        mib_s = size_bytes / (1 << 20) / one.seconds
        return f"{files / one.seconds:,.0f} files/s" if are_small else f"{mib_s:,.0f} MiB/s"

    scale, unit = (1e3 / files, "ms a file") if are_small else ((1 << 30) / size_bytes, "s/GiB")
    cpu = " / ".join(f"{one.cpu_s * scale:.2f}" for one in ways)

    def beside(one: Figures) -> str:
        times = one.seconds / ours.seconds
        return f"{speed(one)} ({times:.{1 if times < 10 else 0}f} x)"

    print(
        f"| {name} | {speed(ours)} | {beside(sdk)} | {beside(azcopy)} | {cpu} {unit} "
        f"| {ours.peak_mib:.0f} / {sdk.peak_mib:.0f} MiB |",
        flush=True,
    )


def apart(work: Work, endpoint: str, place: str, folder: Path) -> Figures:
    """Figures of work done by a process of its own, its imports left out of the time."""
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, endpoint, place, folder, writing))
    process.start()
    writing.close()
    figures: Figures = reading.recv()
    process.join()
    return figures


def _measured(work: Work, endpoint: str, place: str, folder: Path, to: Any) -> None:
    # Imports and making containers come before `work` looks at the clock.
    seconds, cpu_s = work(endpoint, place, folder)
    to.send(Figures(seconds, cpu_s, peak_mib()))


def peak_mib() -> float:
    """Of this process: what getrusage tells begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of the processor, those of what `work` starts and waits for with it."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - wall, sum(os.times()[:4]) - cpu


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


def ours_upload(endpoint: str, place: str, source: Path) -> tuple[float, float]:
    from tensoryard.folders import folder_files
    from tensoryard.uploads import upload_files

    store = _store(endpoint, place)
    return timed(lambda: upload_files(store, folder_files(source), "bench", overwrite=False, show_progress=False))


def ours_download(endpoint: str, place: str, target: Path) -> tuple[float, float]:
    from tensoryard.downloads import download_path

    store = _store(endpoint, place)
    how = {"whole_paths": False, "overwrite": False, "show_progress": False}
    return timed(lambda: download_path(store, "bench", target, **how))


def sdk_upload(endpoint: str, place: str, source: Path, **how: bool) -> tuple[float, float]:
    container = _container(endpoint, f"sdk-{place}")

    def loop() -> None:
        for path in sorted(source.iterdir()):
            with path.open("rb") as file:
                container.upload_blob(path.name, file, **how)

    return timed(loop)


def sdk_download(endpoint: str, place: str, target: Path, **how: bool) -> tuple[float, float]:
    container = _container(endpoint, f"sdk-{place}")
    target.mkdir(parents=True, exist_ok=True)

    def loop() -> None:
        for blob in container.list_blobs():
            with (target / blob.name).open("wb") as file:
                container.download_blob(blob.name, **how).readinto(file)

    return timed(loop)


def checked_upload(endpoint: str, place: str, source: Path) -> tuple[float, float]:
    return sdk_upload(endpoint, place, source, validate_content=True)


def checked_download(endpoint: str, place: str, target: Path) -> tuple[float, float]:
    return sdk_download(endpoint, place, target, validate_content=True)


def azcopy_upload(endpoint: str, place: str, source: Path) -> tuple[float, float]:
    container = _container(endpoint, f"azcopy-{place}")
    target = f"{container.url}?{signed()}"
    return timed(lambda: azcopy(f"{source}/*", target, "LocalBlob", source.with_name("azcopy")))


def azcopy_download(endpoint: str, place: str, target: Path) -> tuple[float, float]:
    source = f"{endpoint}/azcopy-{place}/*?{signed()}"
    return timed(lambda: azcopy(source, str(target), "BlobLocal", target.with_name("azcopy")))


if __name__ == "__main__":
    main()
