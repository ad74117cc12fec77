"""
The store on blob storage beside azure-storage-blob as it is out of the box, both against Azurite on this machine.

    python tests/benchmarks/bench_store.py           # about five minutes
    python tests/benchmarks/bench_store.py --quick   # an eighth of the bytes and blobs

Each figure comes from a process of its own. Azurite works on one core, so MiB/s tell what it bears; the processor's
time of the client, and its peak memory, are the client's alone.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

QUICK = "--quick" in sys.argv
LARGE_MIB = 128 if QUICK else 1024
SMALL_FILES, SMALL_BYTES = (500, 4096) if QUICK else (4_000, 4096)
LISTED = 12_500 if QUICK else 100_000
WRITES = 200
WAYS = {"tensoryard": "ours", "azure-storage-blob": "theirs"}


def main() -> None:
    from services.azurite import Azurite

    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large"
        with large.open("wb") as file:
            for _ in range(LARGE_MIB):
                file.write(os.urandom(1 << 20))
        emulator = Azurite()
        try:
            make_containers(emulator.endpoint)
            rows = [row for job in JOBS for row in measured(job, emulator.endpoint, large)]
        finally:
            emulator.close()
    print(f"{'':44}" + "".join(f"{name:>22}" for name in WAYS))
    for name, figures in rows:
        print(f"{name:44}" + "".join(f"{figure:>22}" for figure in figures))


def measured(job: str, endpoint: str, large: Path) -> list[tuple[str, list[str]]]:
    found = []
    for way in WAYS.values():
        argv = [sys.executable, __file__, "--one", job, way, endpoint, str(large), *(["--quick"] if QUICK else [])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    return [(name, [one[name] for one in found]) for name in found[0]]


def make_containers(endpoint: str) -> None:
    from azure.storage.blob import BlobServiceClient

    from services.azurite import ACCOUNT, KEY
    from tensoryard.store.blob_account import API_VERSION

    key = {"account_name": ACCOUNT, "account_key": KEY}
    with BlobServiceClient(endpoint, key, api_version=API_VERSION) as service:
        for way in WAYS.values():
            for name in ("data", "runs", "models"):
                service.create_container(f"{name}-{way}")


class Timer:
    """wall_s and cpu_s of what ran inside."""

    def __enter__(self) -> "Timer":
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *failure: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def bulk(name: str, timer: Timer) -> dict[str, str]:
    return {
        f"{name} {LARGE_MIB} MiB, MiB/s": f"{LARGE_MIB / timer.wall_s:.0f}",
        f"{name}, client's CPU s/GiB": f"{timer.cpu_s * 1024 / LARGE_MIB:.2f}",
        f"{name}, peak memory MiB": str(peak_mib()),
    }


def upload(ours: Any, theirs: Any, large: Path) -> dict[str, str]:
    with Timer() as timer:
        if ours:
            ours.put_file("data/large", large)
        else:
            with large.open("rb") as file:
                theirs.upload_blob("data/large", file)
    return bulk("upload", timer)


def download(ours: Any, theirs: Any, large: Path) -> dict[str, str]:
    kept = bulk("read in order", read_in_order(ours, theirs))
    target = large.with_name("back")
    with Timer() as timer:
        if ours:
            from tensoryard.store.transfer import download as checked

            checked(ours, "data/large", target)
        else:
            with target.open("wb") as file:
                theirs.download_blob("data/large").readinto(file)
    assert target.stat().st_size == LARGE_MIB << 20
    # Ours is hashed on the way, and synced to the disk before it has its name.
    return kept | bulk("download to a file", timer)


def read_in_order(ours: Any, theirs: Any) -> Timer:
    with Timer() as timer:
        if ours:
            from tensoryard.store.transfer import chunks

            size = sum(len(chunk) for chunk in chunks(ours, "data/large"))
        else:
            size = sum(len(chunk) for chunk in theirs.download_blob("data/large").chunks())
    assert size == LARGE_MIB << 20
    return timer


def small(ours: Any, theirs: Any, large: Path) -> dict[str, str]:
    folder = large.with_name("small")
    folder.mkdir(exist_ok=True)
    paths = [folder / str(number) for number in range(SMALL_FILES)]
    for path in paths:
        path.write_bytes(os.urandom(SMALL_BYTES))
    with Timer() as timer:
        if ours:
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda path: ours.put_file(f"data/small/{path.name}", path), paths))
        else:
            for path in paths:
                with path.open("rb") as file:
                    theirs.upload_blob(f"data/small/{path.name}", file)
    return {
        f"upload {SMALL_FILES} files of 4 KiB, files/s": f"{SMALL_FILES / timer.wall_s:.0f}",
        "upload small files, client's CPU ms a file": f"{timer.cpu_s * 1000 / SMALL_FILES:.2f}",
    }


def listing(ours: Any, theirs: Any, large: Path) -> dict[str, str]:
    import obstore

    from tensoryard.store.blob_account import Clients, Patience

    # Filled by obstore's own asynchronous client, for the emulator takes thousands a second from it.
    account = account_of(sys.argv[4], "ours" if ours else "theirs")
    fast = Clients(account, Patience()).fast(account.containers.runs)
    assert fast is not None

    async def fill() -> None:
        import asyncio

        for start in range(0, LISTED, 100):
            puts = (obstore.put_async(fast, f"runs/{number:08d}/x", b"") for number in range(start, start + 100))
            await asyncio.gather(*puts)

    import asyncio

    asyncio.run(fill())
    container = theirs.from_container("runs")
    with Timer() as timer:
        count = sum(1 for _ in (ours.list("runs/") if ours else container.list_blobs(name_starts_with="runs/")))
    assert count == LISTED
    return {
        f"list {LISTED} blobs, s": f"{timer.wall_s:.2f}",
        "list, client's CPU s per 100,000": f"{timer.cpu_s * 100_000 / LISTED:.1f}",
    }


def calls(ours: Any, theirs: Any, large: Path) -> dict[str, str]:
    container = theirs.from_container("runs")
    # Connected, so that only the calls are timed.
    container.upload_blob("runs/first", b"", overwrite=True)

    def put(number: int) -> None:
        if ours:
            ours.put(f"runs/put-{number}", b"x" * 500)
        else:
            container.upload_blob(f"runs/put-{number}", b"x" * 500)

    def append(number: int) -> None:
        if ours:
            ours.append("runs/log", b"x" * 200)
        else:
            container.get_blob_client("runs/log").append_block(b"x" * 200)

    def read(number: int) -> None:
        if ours:
            ours.read(f"runs/put-{number}")
        else:
            container.download_blob(f"runs/put-{number}").readall()

    if ours:
        ours.append("runs/log", b"")
    else:
        container.get_blob_client("runs/log").create_append_blob()
    figures = {}
    for name, call in (("put", put), ("append", append), ("read", read)):
        taken = []
        with Timer() as timer:
            for number in range(WRITES):
                begun = time.perf_counter()
                call(number)
                taken.append(time.perf_counter() - begun)
        middle = sorted(taken)[WRITES // 2] * 1000
        figures[f"{name} of a small value, p50 ms (CPU ms)"] = f"{middle:.1f} ({timer.cpu_s * 1000 / WRITES:.1f})"
    return figures


JOBS = {"upload": upload, "download": download, "small": small, "listing": listing, "calls": calls}


class Theirs:
    """azure-storage-blob with nothing set but the version that the emulator knows."""

    def __init__(self, endpoint: str) -> None:
        from azure.storage.blob import BlobServiceClient

        from services.azurite import ACCOUNT, KEY
        from tensoryard.store.blob_account import API_VERSION

        key = {"account_name": ACCOUNT, "account_key": KEY}
        self._service = BlobServiceClient(endpoint, key, api_version=API_VERSION)

    def from_container(self, kind: str) -> Any:
        return self._service.get_container_client(f"{kind}-theirs")


def account_of(endpoint: str, way: str) -> Any:
    from azure.core.credentials import AzureNamedKeyCredential

    from services.azurite import ACCOUNT, KEY
    from tensoryard.settings import AzureContainers
    from tensoryard.store.blob_account import BlobAccount

    names = AzureContainers(data=f"data-{way}", runs=f"runs-{way}", models=f"models-{way}")
    return BlobAccount(endpoint=endpoint, containers=names, credential=AzureNamedKeyCredential(ACCOUNT, KEY))


def one(job: str, way: str, endpoint: str, large: str) -> None:
    from tensoryard.store.blob import BlobStore

    ours = BlobStore(account_of(endpoint, way)) if way == "ours" else None
    theirs: Any = Theirs(endpoint)
    container = theirs.from_container("data")
    if job in ("upload", "download", "small"):
        print(json.dumps(JOBS[job](ours, container, Path(large))))
    else:
        print(json.dumps(JOBS[job](ours, theirs, Path(large))))


if __name__ == "__main__":
    if "--one" in sys.argv:
        one(*sys.argv[2:6])
    else:
        main()
