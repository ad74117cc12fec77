"""
How long the newest version of a model takes to find, and what 32 writers at once achieve; beside MLflow on SQLite.

    python tests/benchmarks/bench_registry.py            # all of it, about half a minute
    python tests/benchmarks/bench_registry.py --no-rival # without MLflow, which uv installs for this run only

MLflow's rows are inserted by SQL and our records are written as files, so that only reading is timed; writing is
timed through each registry's own call. Both run on the same disk, one after the other.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIZES = (1_000, 10_000, 100_000)
READS = 200
WRITERS = 32
WRITES_EACH = 5
MLFLOW = ("mlflow-skinny==3.17.2", "sqlalchemy==2.0.44", "alembic==1.17.1")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = {"tensoryard": measure_tensoryard(Path(folder))}
        if "--no-rival" not in sys.argv:
            figures["MLflow, SQLite"] = measure_rival()
    print(f"{'':34}" + "".join(f"{name:>18}" for name in figures))
    for row in next(iter(figures.values())):
        print(f"{row:34}" + "".join(f"{one.get(row, '-'):>18}" for one in figures.values()))


def measure_tensoryard(folder: Path) -> dict[str, str]:
    from tensoryard.registry import FileRecord, Registry
    from tensoryard.store.file import FileStore

    figures = {}
    for size in SIZES:
        store = FileStore(folder / str(size))
        write_versions(store.root, size)
        registry = Registry(FileStore(folder / str(size)))
        assert registry.get("digits").version == size
        figures[f"newest of {size:,}: p50, p99 ms"] = spread(timed(lambda r=registry: r.get("digits"), READS))
    store = FileStore(folder / "writers")
    entry = store.put("objects/x", b"x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    file = FileRecord(path="x", key="objects/x", size_bytes=1, sha256=digest, etag=entry.etag)
    seconds, failed, wall_s = write_at_once(lambda: Registry(store).register("digits", [file]))
    there = [version.version for version in Registry(store).list_versions("digits")]
    assert len(there) == len(set(there))
    return figures | writer_rows(seconds, failed, wall_s, len(there))


def write_versions(root: Path, count: int) -> None:
    """A model with so many versions, as `register` leaves them."""
    import msgspec

    from tensoryard.registry import FileRecord, ModelVersion
    from tensoryard.store import keys
    from tensoryard.store.tickets import TICKET_BYTES, TICKETS_PER_FILE

    (root / keys.model_version("digits", 1)).parent.mkdir(parents=True)
    for number in range(1, count + 1):
        record = FileRecord(path="m", key="objects/m", size_bytes=1, sha256="0" * 64)
        version = ModelVersion(
            name="digits", version=number, nonce="n", created_at="t", created_by="b", files=(record,),
            tree_digest="0" * 64, size_bytes=1,
        )  # fmt: skip
        (root / keys.model_version("digits", number)).write_bytes(msgspec.json.encode(version))
    for file, first in enumerate(range(0, count, TICKETS_PER_FILE)):
        path = root / keys.model_tickets("digits", file)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * TICKET_BYTES * min(TICKETS_PER_FILE, count - first))


def measure_rival() -> dict[str, str]:
    """MLflow's figures, measured by this file under an interpreter that uv makes for it."""
    with_packages = [word for package in MLFLOW for word in ("--with", package)]
    argv = ["uv", "run", "--no-project", "--quiet", *with_packages, "python", __file__, "--as-rival"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        print(f"MLflow could not be measured:\n{done.stderr[-2000:]}", file=sys.stderr)
        return {}
    figures: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return figures


def rival(folder: Path) -> dict[str, str]:
    from mlflow import MlflowClient  # type: ignore[import-not-found]

    figures = {}
    for size in SIZES:
        uri = f"sqlite:///{folder}/{size}.db"
        client = MlflowClient(registry_uri=uri, tracking_uri=uri)
        client.create_registered_model("digits")
        insert_versions(folder / f"{size}.db", size)

        def newest(client: MlflowClient = client, size: int = size) -> None:
            found = client.search_model_versions("name='digits'", max_results=1, order_by=["version_number DESC"])
            assert int(found[0].version) == size

        newest()
        figures[f"newest of {size:,}: p50, p99 ms"] = spread(timed(newest, READS // 10))
    uri = f"sqlite:///{folder}/writers.db"
    MlflowClient(registry_uri=uri, tracking_uri=uri).create_registered_model("digits")
    clients: dict[int, MlflowClient] = {}

    def register() -> None:
        client = clients.setdefault(os.getpid(), MlflowClient(registry_uri=uri, tracking_uri=uri))
        client.create_model_version("digits", source=f"{folder}/model")

    seconds, failed, wall_s = write_at_once(register)
    count = len(MlflowClient(registry_uri=uri, tracking_uri=uri).search_model_versions("name='digits'"))
    return figures | writer_rows(seconds, failed, wall_s, count)


def insert_versions(database: Path, count: int) -> None:
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO model_versions"
            " (name, version, creation_time, last_updated_time, source, current_stage, status)"
            " VALUES ('digits', ?, ?, ?, 's', 'None', 'READY')",
            ((number, number, number) for number in range(1, count + 1)),
        )


def timed(function: Callable[[], object], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return seconds


def write_at_once(write: Callable[[], object]) -> tuple[list[float], int, float]:
    """(seconds of each write that succeeded, writes that failed, seconds of all together)."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(WRITERS + 1), context.SimpleQueue()

    def writer() -> None:
        barrier.wait()
        began = time.perf_counter()
        seconds: list[float] = []
        failed = 0
        for _ in range(WRITES_EACH):
            try:
                seconds += timed(write, 1)
            except Exception:  # whatever a registry raises is a version that was lost
                failed += 1
        answers.put((seconds, failed, began, time.perf_counter()))

    writers = [context.Process(target=writer) for _ in range(WRITERS)]
    for process in writers:
        process.start()
    barrier.wait()
    results = [answers.get() for _ in writers]
    wall_s = max(ended for *_, ended in results) - min(began for *_, began, _ in results)
    for process in writers:
        process.join()
    return [second for seconds, *_ in results for second in seconds], sum(lost for _, lost, *_ in results), wall_s


def writer_rows(seconds: list[float], failed: int, wall_s: float, there: int) -> dict[str, str]:
    return {
        f"{WRITERS} writers x {WRITES_EACH}: versions made": f"{there} of {len(seconds) + failed}",
        f"{WRITERS} writers: p50, p99 ms": spread(seconds),
        f"{WRITERS} writers: all together, s": f"{wall_s:.2f}",
    }


def spread(seconds: list[float]) -> str:
    ordered = sorted(seconds) or [float("nan")]
    return f"{ordered[len(ordered) // 2] * 1e3:.2f}, {ordered[int(len(ordered) * 0.99)] * 1e3:.2f}"


if __name__ == "__main__":
    if "--as-rival" in sys.argv:
        with tempfile.TemporaryDirectory() as rival_folder:
            print(json.dumps(rival(Path(rival_folder))))
    else:
        main()
