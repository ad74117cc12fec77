"""What every store promises to those who use one key at the same time."""

import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from launching import same
from tensoryard.errors import AlreadyExistsError
from tensoryard.store import Store, is_folder

Processes = Callable[[int, Callable[[int], None]], list[int]]


def test_of_32_writers_of_one_key_exactly_one_wins(store: Store, processes: Processes) -> None:
    def write(index: int) -> None:
        try:
            store.put("models/m/1", f"writer {index}".encode(), tags={"writer": str(index)})
        except AlreadyExistsError:
            os._exit(9)

    codes = processes(32, write)

    assert sorted(codes) == [0] + [9] * 31
    assert store.read("models/m/1") == f"writer {codes.index(0)}".encode()
    assert store.tags("models/m/1") == {"writer": str(codes.index(0))}


def test_appends_of_many_writers_tile_the_value(store: Store, processes: Processes) -> None:
    def write(index: int) -> None:
        for count in range(20):
            data = b"%02d" % index * (1 + 97 * count) + b"\n"
            offset = store.append("log", data)
            store.put(f"offsets/{index}-{count}", b"%d %d" % (offset, len(data)))

    assert processes(8, write) == [0] * 8

    spans = sorted(tuple(map(int, store.read(entry.key).split())) for entry in store.list("offsets/"))
    end = 0
    for offset, length in spans:
        assert offset == end
        end += length
    lines = store.read("log").splitlines()
    assert len(lines) == 160
    assert all(re.fullmatch(rb"(\d\d)\1*", line) for line in lines)


def test_places_that_many_claim_at_once_are_each_their_own(store: Store, processes: Processes) -> None:
    store.append("log", b"")

    def claim(index: int) -> None:
        while (place := store.claim("log", b"%02d\n" % index, 3 * 50)) is not None:
            store.put(f"places/{place:03d}", b"%02d\n" % index)

    assert processes(8, claim) == [0] * 8

    placed = [(int(entry.key.rpartition("/")[2]), store.read(entry.key)) for entry in store.list("places/")]
    assert [place for place, _ in placed] == list(range(0, 150, 3))
    assert store.read("log") == b"".join(data for _, data in placed)


def test_a_writer_killed_while_it_appends_leaves_whole_records(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    record = b"x" * 199 + b"\n"

    def write() -> None:
        while True:
            store.append("log", record)

    for _ in range(10):
        started = store.append("log", record)
        writer = context.Process(target=write)
        writer.start()
        while len(store.read("log", started)) < 10 * len(record):  # until it is in full swing
            pass
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()

    assert same(store.read("log").replace(record, b""), b"")


def test_a_reader_never_sees_half_of_a_replaced_value(store: Store, processes: Processes) -> None:
    store.put("data/a", b"0" * 500_000)

    def use(index: int) -> None:
        for count in range(40):
            if index == 0:
                store.put("data/a", b"%d" % (count % 10) * 500_000, overwrite=True)
            else:
                data = store.read("data/a")
                if len(data) != 500_000 or len(set(data)) != 1:
                    os._exit(9)

    assert processes(4, use) == [0] * 4


def test_writers_and_a_deleter_in_one_folder_do_not_trip_over_each_other(store: Store, processes: Processes) -> None:
    rounds = 60 if is_folder(store) else 12  # what they could trip over are real folders

    def use(index: int) -> None:
        for count in range(rounds):
            store.put(f"queue/local/{index}-{count}", b"")
            store.delete(f"queue/local/{index}-{count}")
            store.append(f"deep/{count % 2}/er/log", b"x")
            store.delete(f"deep/{count % 2}/er/log")

    assert processes(4, use) == [0] * 4
    assert list(store.list("")) == []


def test_what_was_touched_is_not_deleted_by_the_etag_seen_before(store: Store) -> None:
    seen = store.put("objects/a", b"x")

    assert store.touch("objects/a")
    now = store.stat("objects/a")
    assert now is not None
    assert (now.etag != seen.etag, now.modified_at >= seen.modified_at) == (True, True)
    assert not store.delete("objects/a", etag=seen.etag)
    assert store.read("objects/a") == b"x"
    assert store.delete("objects/a", etag=now.etag)
    assert store.stat("objects/a") is None
    assert store.delete("objects/a", etag=now.etag)
    assert not store.touch("objects/a")
    assert not store.touch("objects")


def test_of_a_touch_and_a_delete_by_etag_one_comes_first(store: Store, processes: Processes, tmp_path: Path) -> None:
    """Whoever touched a value keeps it: a clean-up that saw it before deletes nothing."""
    seen = [store.put(f"objects/{index}", b"x") for index in range(20)]

    def use(index: int) -> None:
        if index % 2:
            gone = [store.delete(entry.key, etag=entry.etag) for entry in seen]
            (tmp_path / f"gone-{index}").write_text("".join("01"[one] for one in gone))
        else:
            there = [store.touch(entry.key) for entry in reversed(seen)]
            (tmp_path / f"there-{index}").write_text("".join("01"[one] for one in reversed(there)))

    assert processes(4, use) == [0] * 4
    for index, entry in enumerate(seen):
        touched = any((tmp_path / f"there-{one}").read_text()[index] == "1" for one in (0, 2))
        assert (store.stat(entry.key) is not None) == touched
