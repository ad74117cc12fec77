"""
How fast folders go to blob storage and come back; beside azure-storage-blob with its defaults, on one Azurite.

    python tests/benchmarks/bench_data.py                                    # half a minute
    python tests/benchmarks/bench_data.py --small 10000 --large 8 --large-mib 64
    python tests/benchmarks/bench_data.py --one-mib 2048                     # peak memory of one large file

Both send the same files in the same run, one after the other, each into a container of its own. The emulator is one
process on the same machine: what it takes of a core is in the seconds of both, and none of it in the CPU seconds.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from services.azurite import ACCOUNT, KEY, Azurite

SMALL_BYTES = 4 << 10
# (endpoint, place, folder) to seconds on the clock and of the processor.
Work = Callable[[str, str, Path], tuple[float, float]]


class Figures(NamedTuple):
    seconds: float
    cpu_s: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=1000, help="files of 4 KiB")
    parser.add_argument("--large", type=int, default=4, help="large files")
    parser.add_argument("--large-mib", type=int, default=32, help="MiB of each large file")
    parser.add_argument("--one-mib", type=int, default=512, help="MiB of the one file whose memory is measured")
    options = parser.parse_args()
    emulator = Azurite()
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), emulator.endpoint, options)
    finally:
        emulator.close()


def measure(folder: Path, endpoint: str, options: argparse.Namespace) -> None:
    print(f"{'':40}{'tensoryard':>22}{'SDK defaults':>22}{'faster':>8}{'CPU':>7}{'peak MiB':>12}")
    row_pair(folder / "small", endpoint, options.small, SMALL_BYTES, f"{options.small} files of 4 KiB")
    name = f"{options.large} files of {options.large_mib} MiB"
    row_pair(folder / "large", endpoint, options.large, options.large_mib << 20, name)
    row_pair(folder / "one", endpoint, 1, options.one_mib << 20, f"1 file of {options.one_mib} MiB")


def row_pair(folder: Path, endpoint: str, count: int, size_bytes: int, name: str) -> None:
    if not count or not size_bytes:
        return
    source = folder / "source"
    source.mkdir(parents=True)
    for number in range(count):
        with (source / f"{number:05}").open("wb") as file:
            for start in range(0, size_bytes, 1 << 20):
                file.write(os.urandom(min(1 << 20, size_bytes - start)))
    place = f"{folder.name}-{os.getpid()}"
    ours_up, sdk_up = apart(ours_upload, endpoint, place, source), apart(sdk_upload, endpoint, place, source)
    row(f"{name}: up", count * size_bytes, count, ours_up, sdk_up)
    back = folder / "back"
    ours_down = apart(ours_download, endpoint, place, back / "ours")
    sdk_down = apart(sdk_download, endpoint, place, back / "sdk")
    row(f"{name}: down", count * size_bytes, count, ours_down, sdk_down)
    for path in source.iterdir():
        assert (back / "ours" / path.name).read_bytes() == path.read_bytes(), path


def row(name: str, size_bytes: int, files: int, ours: Figures, sdk: Figures) -> None:
    def speed(one: Figures) -> str:
        mib_s = size_bytes / (1 << 20) / one.seconds
        return f"{files / one.seconds:.0f} files/s" if size_bytes / files < 1 << 20 else f"{mib_s:.0f} MiB/s"

    print(
        f"{name:40}{speed(ours):>22}{speed(sdk):>22}{sdk.seconds / ours.seconds:>7.1f}x"
        f"{ours.cpu_s / sdk.cpu_s:>6.2f}x{ours.peak_mib:>6.0f},{sdk.peak_mib:>5.0f}",
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
    to.send(Figures(seconds, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


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


def sdk_upload(endpoint: str, place: str, source: Path) -> tuple[float, float]:
    container = _container(endpoint, f"sdk-{place}")

    def loop() -> None:
        for path in sorted(source.iterdir()):
            with path.open("rb") as file:
                container.upload_blob(path.name, file)

    return timed(loop)


def sdk_download(endpoint: str, place: str, target: Path) -> tuple[float, float]:
    container = _container(endpoint, f"sdk-{place}")
    target.mkdir(parents=True)

    def loop() -> None:
        for blob in container.list_blobs():
            with (target / blob.name).open("wb") as file:
                container.download_blob(blob.name).readinto(file)

    return timed(loop)


if __name__ == "__main__":
    main()
