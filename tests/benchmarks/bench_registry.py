"""
Finding, listing and registering models among many: in a folder, on blob storage (Azurite), and MLflow's on SQLite;
registering by many writers at once also in MLflow's file store.

    python tests/benchmarks/bench_registry.py            # all of it, about three minutes
    python tests/benchmarks/bench_registry.py --no-rival # without MLflow, which uv installs for this run only
    python tests/benchmarks/bench_registry.py --no-azurite

MLflow's rows are inserted by SQL and our records are written as files, so that only reading is timed; writing is
timed through each registry's own call. All run on the same disk, one after the other. On Azurite a model of 10^5
versions has the tickets of all and the records of the last thousand: nothing asks for the others. Azurite goes
through all of a container for every listing by a prefix, and looks for tags in its first 5,000 blobs only.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensoryard.registry import FileRecord, ModelVersion, Registry
    from tensoryard.store import Store
    from tensoryard.store.blob_account import BlobAccount

SIZES = (1_000, 10_000, 100_000)
READS = 200
MODELS = 10_000
PAGE = 50
WRITERS = 32
WRITES_EACH = 5
MLFLOW = ("mlflow-skinny==3.17.2", "sqlalchemy==2.0.44", "alembic==1.17.1")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = {"a folder": measure_folder(Path(folder))}
    if "--no-azurite" not in sys.argv:
        figures["blob storage (Azurite)"] = measure_azurite()
    if "--no-rival" not in sys.argv:
        figures |= measure_rival()
    print(f"p50, and p99 in brackets\n\n| | {' | '.join(figures)} |\n|---{'|---' * len(figures)}|")
    for row in dict.fromkeys(row for one in figures.values() for row in one):
        print(f"| {row} | {' | '.join(one.get(row, '') for one in figures.values())} |")


def measure_folder(folder: Path) -> dict[str, str]:
    from tensoryard.registry import Registry
    from tensoryard.store.file import FileStore

    figures = {}
    for size in SIZES:
        store = FileStore(folder / str(size))
        write_versions(store.root, size)
        figures |= newest(Registry(FileStore(folder / str(size))), "digits", size)
    figures |= pages(Registry(FileStore(folder / str(SIZES[-1]))), "digits")
    registry = Registry(FileStore(folder / "models"))
    for number in range(MODELS):
        write_versions(folder / "models", 1, f"m{number:05d}")
    figures |= page_of_models(registry)
    return figures | writers(lambda: FileStore(folder / "writers"))


def measure_azurite() -> dict[str, str]:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from concurrent.futures import ThreadPoolExecutor

    from services.azurite import Azurite
    from services.faulty import Faulty
    from tensoryard.registry import Registry
    from tensoryard.store import keys
    from tensoryard.store.blob import BlobStore

    emulator = Azurite()
    network = Faulty(emulator.endpoint)
    try:
        account = make_account(emulator.endpoint)
        # First, and in processes of their own: obstore, which reads, cannot be used in one that is forked later.
        figures = writers(lambda: BlobStore(account))
        store = BlobStore(account)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: write_model(store, f"a{number}", number, 1_000), SIZES))
            list(pool.map(lambda number: write_model(store, f"m{number:05d}", 1, PAGE), range(MODELS)))
        read: dict[str, str] = {}
        for size in SIZES:
            read |= newest(Registry(store), f"a{size}", size)
        read |= pages(Registry(store), f"a{SIZES[-1]}") | page_of_models(Registry(store))
        far = make_account(network.endpoint, make=False)
        file = a_file(store, keys.run("mnist-0007", "outputs/model"))
        for which in ("a model's first", "the next, in a process of its own"):
            network.again(lambda asked: None)
            Registry(BlobStore(far)).register("counted", [file])
            read[f"requests of a registration, digests known: {which}"] = str(len(network.seen))
        return read | figures
    finally:
        network.close()
        emulator.close()


def make_account(endpoint: str, *, make: bool = True) -> "BlobAccount":
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import BlobServiceClient

    from services.azurite import ACCOUNT, KEY
    from tensoryard.settings import AzureContainers
    from tensoryard.store.blob_account import API_VERSION, BlobAccount

    credential = AzureNamedKeyCredential(ACCOUNT, KEY)
    if make:
        with BlobServiceClient(endpoint, credential, api_version=API_VERSION) as service:
            for name in ("data", "runs", "models"):
                service.create_container(name)
    names = AzureContainers(data="data", runs="runs", models="models")
    return BlobAccount(endpoint=endpoint, containers=names, credential=credential)


def newest(registry: "Registry", name: str, size: int) -> dict[str, str]:
    assert registry.get(name).version == size
    return {f"newest version of {size:,}": spread(timed(lambda: registry.get(name), READS))}


def pages(registry: "Registry", name: str) -> dict[str, str]:
    from tensoryard.registry import search as search_module
    from tensoryard.registry.search import search
    from tensoryard.registry.where import parse_where

    def page() -> None:
        assert len(list(islice(registry.list_versions(name), PAGE))) == PAGE

    # The records here are all fresh, of which a search trusts no index: in their second hour they are not.
    search_module._FRESH_S = 0.0

    def found() -> None:
        assert len(list(islice(search(registry, parse_where("run=r-0001"), name), PAGE))) == 1

    found()
    rows = {f"newest {PAGE} of {SIZES[-1]:,} versions": spread(timed(page, READS // 10))}
    return rows | {f"the version of a run among {SIZES[-1]:,}": f"{timed(found, 1)[0]:.2f} s"}


def page_of_models(registry: "Registry") -> dict[str, str]:
    from tensoryard.registry.listing import newest_of_models

    def page() -> None:
        # Behind the models of many versions.
        assert len(list(islice(newest_of_models(registry, after="l"), PAGE))) == PAGE

    return {f"first {PAGE} of {MODELS:,} models": spread(timed(page, READS // 10))}


def writers(make: Callable[[], "Store"]) -> dict[str, str]:
    from tensoryard.registry import Registry

    file = a_file(make(), "objects/x")
    store = make()
    clients: dict[int, Registry] = {}

    def register() -> None:
        clients.setdefault(os.getpid(), Registry(store)).register("digits", [file])

    seconds, failed, wall_s = write_at_once(register)
    there = [version.version for version in Registry(store).list_versions("digits")]
    assert len(there) == len(set(there))
    return writer_rows(seconds, failed, wall_s, len(there))


def a_file(store: "Store", key: str) -> "FileRecord":
    from tensoryard.registry import FileRecord

    entry = store.put(key, b"x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    return FileRecord(path="x", key=key, size_bytes=1, sha256=digest, etag=entry.etag)


def write_model(store: "Store", name: str, count: int, records: int) -> None:
    """A model of so many versions in any store, with the records of the last ones."""
    import msgspec

    from tensoryard.registry.records import index_tags
    from tensoryard.store import keys
    from tensoryard.store.tickets import TICKET_BYTES, TICKETS_PER_FILE

    for number in range(count, max(0, count - records), -1):
        version = a_version(name, number, count)
        store.put(keys.model_version(name, number), msgspec.json.encode(version), tags=index_tags(version))
    for file, first in enumerate(range(0, count, TICKETS_PER_FILE)):
        store.put(keys.model_tickets(name, file), b"x" * TICKET_BYTES * min(TICKETS_PER_FILE, count - first))


def a_version(name: str, number: int, count: int) -> "ModelVersion":
    """One of the versions, of which a single one is of the run that is looked for."""
    from tensoryard.registry import FileRecord, ModelVersion

    record = FileRecord(path="m", key="objects/m", size_bytes=1, sha256="0" * 64)
    return ModelVersion(
        name=name, version=number, nonce="n", created_at="t", created_by="b", files=(record,),
        tree_digest="0" * 64, size_bytes=1, run_id="r-0001" if number == count - 900 else "r-0002",
    )  # fmt: skip


def write_versions(root: Path, count: int, name: str = "digits") -> None:
    """A model with so many versions in a folder, as `register` leaves them but for what the first search makes."""
    import msgspec

    from tensoryard.registry.records import index_tags
    from tensoryard.store import keys
    from tensoryard.store.tickets import TICKET_BYTES, TICKETS_PER_FILE

    for top in (root, root / ".tags"):
        (top / keys.model_version(name, 1)).parent.mkdir(parents=True)
    for number in range(1, count + 1):
        version = a_version(name, number, count)
        (root / keys.model_version(name, number)).write_bytes(msgspec.json.encode(version))
        (root / ".tags" / keys.model_version(name, number)).write_bytes(json.dumps(index_tags(version)).encode())
    for file, first in enumerate(range(0, count, TICKETS_PER_FILE)):
        path = root / keys.model_tickets(name, file)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * TICKET_BYTES * min(TICKETS_PER_FILE, count - first))


def measure_rival() -> dict[str, dict[str, str]]:
    """MLflow's figures on SQLite and in files, measured by this file under an interpreter that uv makes for it."""
    from uv import find_uv_bin

    with_packages = [word for package in MLFLOW for word in ("--with", package)]
    argv = [find_uv_bin(), "run", "--no-project", "--quiet", *with_packages, "python", __file__, "--as-rival"]
    # Its file store, the default for years, is to be asked for since it is in maintenance mode.
    environment = {**os.environ, "PYTHONPATH": "", "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"MLflow could not be measured:\n{done.stderr[-2000:]}")
    figures: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
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
        figures[f"newest version of {size:,}"] = spread(timed(newest, READS // 10))

    def page() -> None:
        found = client.search_model_versions("name='digits'", max_results=PAGE, order_by=["version_number DESC"])
        assert len(found) == PAGE

    def found() -> None:
        assert len(client.search_model_versions("name='digits' and run_id='r-0001'")) == 1

    figures[f"newest {PAGE} of {SIZES[-1]:,} versions"] = spread(timed(page, READS // 10))
    figures[f"the version of a run among {SIZES[-1]:,}"] = f"{timed(found, 1)[0]:.2f} s"
    uri = f"sqlite:///{folder}/models.db"
    many = MlflowClient(registry_uri=uri, tracking_uri=uri)
    many.create_registered_model("digits")
    insert_models(folder / "models.db", MODELS)

    def page_of_models() -> None:
        assert len(many.search_registered_models(max_results=PAGE)) == PAGE

    page_of_models()
    figures[f"first {PAGE} of {MODELS:,} models"] = spread(timed(page_of_models, READS // 10))
    return figures | rival_writers(f"sqlite:///{folder}/writers.db")


def rival_writers(uri: str) -> dict[str, str]:
    from mlflow import MlflowClient, set_tracking_uri

    # Its file store looks for runs in the global one, by default a database that it makes in the current folder.
    set_tracking_uri(uri)
    MlflowClient(registry_uri=uri, tracking_uri=uri).create_registered_model("digits")
    clients: dict[int, MlflowClient] = {}

    def register() -> None:
        client = clients.setdefault(os.getpid(), MlflowClient(registry_uri=uri, tracking_uri=uri))
        client.create_model_version("digits", source="/srv/model")

    seconds, failed, wall_s = write_at_once(register)
    count = len(MlflowClient(registry_uri=uri, tracking_uri=uri).search_model_versions("name='digits'"))
    return writer_rows(seconds, failed, wall_s, count)


def insert_versions(database: Path, count: int) -> None:
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO model_versions"
            " (name, version, creation_time, last_updated_time, source, current_stage, status, run_id)"
            " VALUES ('digits', ?, ?, ?, 's', 'None', 'READY', ?)",
            (
                (number, number, number, "r-0001" if number == count - 900 else "r-0002")
                for number in range(1, count + 1)
            ),
        )


def insert_models(database: Path, count: int) -> None:
    import sqlite3

    names = [f"m{number:05d}" for number in range(count)]
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO registered_models (name, creation_time, last_updated_time) VALUES (?, 1, 1)",
            ((name,) for name in names),
        )
        connection.executemany(
            "INSERT INTO model_versions"
            " (name, version, creation_time, last_updated_time, source, current_stage, status)"
            " VALUES (?, 1, 1, 1, 's', 'None', 'READY')",
            ((name,) for name in names),
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
        f"{WRITERS} writers, {WRITES_EACH} versions each: made": f"{there} of {len(seconds) + failed}",
        "one registration among these": spread(seconds),
        "all of them": f"{wall_s:.2f} s",
    }


def spread(seconds: list[float]) -> str:
    ordered = sorted(seconds) or [float("nan")]
    p50, p99 = ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3
    return f"{p50:,.{0 if p50 >= 10 else 2}f} ({p99:,.{0 if p99 >= 10 else 2}f}) ms"


if __name__ == "__main__":
    if "--as-rival" in sys.argv:
        with tempfile.TemporaryDirectory() as rival_folder:
            figures_of_rival = {
                "MLflow, SQLite": rival(Path(rival_folder)),
                "MLflow, files": rival_writers(f"{rival_folder}/writers"),
            }
        print(json.dumps(figures_of_rival))
    else:
        main()
