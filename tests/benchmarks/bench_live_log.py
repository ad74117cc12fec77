# ruff: noqa: E402 - the tests' own services are found by their folder
"""
How long after a script wrote a line it is seen by those who follow the run.

    python tests/benchmarks/bench_live_log.py [--seconds 20] [--readers 10]

One script that writes the time it is, every tenth of a second; readers that follow it at once, each with connections
of its own. Once with a folder as the store and once with blob storage (Azurite on this machine).
Budget: 0.5 s from a folder, 3 s through blob storage.
"""

import argparse
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob import BlobServiceClient

from launching import Yard
from services.azurite import ACCOUNT, KEY, Azurite
from tensoryard.run import RunRecord
from tensoryard.settings import AzureContainers
from tensoryard.store import Store
from tensoryard.store.blob import BlobStore
from tensoryard.store.blob_account import API_VERSION, BlobAccount
from tensoryard.stream import LogLine, follow

SCRIPT = """
import time
until = time.time() + {seconds}
while time.time() < until:
    print(time.time(), flush=True)
    time.sleep(0.1)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--readers", type=int, default=10)
    asked = parser.parse_args()
    azurite = Azurite()
    account = with_containers(azurite.endpoint)
    print(f"{asked.readers} readers of {asked.seconds} s of log, seconds from written to seen")
    try:
        show("a folder", asked.seconds, asked.readers, None)
        show("blob storage", asked.seconds, asked.readers, lambda: BlobStore(account))
    finally:
        azurite.close()


def with_containers(endpoint: str) -> BlobAccount:
    word = secrets.token_hex(4)
    credential = AzureNamedKeyCredential(ACCOUNT, KEY)
    containers = AzureContainers(data=f"data-{word}", runs=f"runs-{word}", models=f"models-{word}")
    with BlobServiceClient(endpoint, credential, api_version=API_VERSION) as service:
        for name in (containers.data, containers.runs, containers.models):
            service.create_container(name)
    return BlobAccount(endpoint=endpoint, containers=containers, credential=credential)


def show(name: str, seconds: int, readers: int, store: Callable[[], Store] | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard(Path(folder), store() if store else None)
        run = yard.submit(SCRIPT.format(seconds=seconds))
        lags: list[float] = []

        def read() -> None:
            record = RunRecord(store() if store else yard.workspace.store, run.id)
            for item in follow(record):
                if isinstance(item, LogLine) and item.task == "worker-0":
                    lags.append(time.time() - float(item.text))

        threads = [threading.Thread(target=read) for _ in range(readers)]
        controller = yard.start_controller()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        controller.join()
        yard.close()
    lags.sort()
    at = {share: lags[int(share * (len(lags) - 1))] for share in (0.99, 1)}
    print(f"{name:14} median {statistics.median(lags):.2f}  p99 {at[0.99]:.2f}  longest {at[1]:.2f}")


if __name__ == "__main__":
    main()
