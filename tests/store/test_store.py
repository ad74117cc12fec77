"""What every store promises: the whole suite runs against each implementation."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launching import same
from tensoryard.errors import AlreadyExistsError, NotFoundError, UsageError, VerificationError
from tensoryard.store import Store

BAD_KEYS = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\0b",
    "a\nb",
    "a\\b",
    "\udcff",
    ".tmp/x",
    ".tags/x",
    ".tmpx",
    "x" * 256,
    "é" * 128,
    "a/" * 512 + "a",
]
# Signs that sort before and after "/", so that the order of folders and that of keys differ.
_PART = st.text(alphabet="ab-.0é~ /", min_size=1, max_size=8).filter(lambda text: text.strip("/") == text)


def _is_key(text: str) -> bool:
    return all(part not in ("", ".", "..") for part in text.split("/"))


_KEYS = st.sets(_PART.filter(_is_key), max_size=12)


def test_put_then_read_gives_the_bytes_and_their_entry(store: Store) -> None:
    entry = store.put("runs/a/job.json", b"hello")

    assert store.read("runs/a/job.json") == b"hello"
    assert store.stat("runs/a/job.json") == entry
    assert (entry.key, entry.size_bytes) == ("runs/a/job.json", 5)


def test_put_refuses_to_write_a_key_twice(store: Store) -> None:
    store.put("a", b"first")

    with pytest.raises(AlreadyExistsError, match="`a`"):
        store.put("a", b"second")
    assert store.read("a") == b"first"


def test_put_with_overwrite_replaces_the_value_and_changes_the_etag(store: Store) -> None:
    before = store.put("a", b"first", tags={"k": "v"})
    after = store.put("a", b"other", overwrite=True)

    assert store.read("a") == b"other"
    assert before.etag != after.etag
    assert store.tags("a") == {}


@pytest.mark.parametrize("size_bytes", [0, 1, 5000, 3_000_000])
def test_a_value_comes_in_pieces_from_anywhere_as_long_as_it_is_the_same(store: Store, size_bytes: int) -> None:
    data = os.urandom(size_bytes)
    entry = store.put("data/a", data)

    for offset in {0, size_bytes // 3, size_bytes}:
        assert same(b"".join(store.stream("data/a", offset, entry.etag)), data[offset:])
    store.put("data/a", data + b"x", overwrite=True)
    with pytest.raises(VerificationError, match="`data/a`: was replaced while it was read"):
        list(store.stream("data/a", 0, entry.etag))
    with pytest.raises(NotFoundError):
        list(store.stream("data/absent", 0, entry.etag))


def test_an_empty_value_is_a_value(store: Store) -> None:
    store.put("queue/local/a", b"")

    assert store.read("queue/local/a") == b""
    assert [entry.key for entry in store.list("queue/")] == ["queue/local/a"]


def test_put_file_writes_the_bytes_of_a_file(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    entry = store.put_file("outputs/big", source)

    assert same(store.read("outputs/big"), source.read_bytes())
    assert entry.size_bytes == 3_000_000
    with pytest.raises(AlreadyExistsError):
        store.put_file("outputs/big", source)
    source.write_bytes(b"small")
    store.put_file("outputs/big", source, overwrite=True)
    assert store.read("outputs/big") == b"small"


def test_put_file_tells_what_it_sent_and_is_stopped_by_whoever_is_told(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 << 20))
    told = bytearray()
    store.put_file("outputs/big", source, sent=told.extend)
    assert same(told, source.read_bytes())

    def stop(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_file("outputs/other", source, sent=stop)
    assert [entry.key for entry in store.list("")] == ["outputs/big"]


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
def test_put_file_of_a_file_that_is_written_to_meanwhile_changes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr("tensoryard.store.blob_upload.WHOLE_BYTES", whole_bytes)
    store.put("data/a", b"good")
    source = tmp_path / "source"
    source.write_bytes(bytes(1000))

    def write(data: bytes | memoryview) -> None:
        with source.open("r+b") as file:
            file.write(b"new")
        os.utime(source, ns=(1, 1))

    with pytest.raises(VerificationError, match="source`: changed while it was read, so nothing was written"):
        store.put_file("data/a", source, overwrite=True, sent=write)
    assert store.read("data/a") == b"good"


def test_put_file_names_a_file_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        store.put_file("a", tmp_path / "absent")
    with pytest.raises(UsageError, match="folder"):
        store.put_file("a", tmp_path)


def test_read_takes_an_offset_and_a_length(store: Store) -> None:
    store.put("a", b"0123456789")

    assert store.read("a", 4) == b"456789"
    assert store.read("a", 4, 3) == b"456"
    assert store.read("a", 8, 100) == b"89"
    assert store.read("a", 10) == b""
    assert store.read("a", 99) == b""


def test_a_pipe_is_not_waited_for(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="no ordinary file"):
        store.put_file("a", tmp_path / "pipe")


def test_what_is_absent_is_not_found(store: Store) -> None:
    store.put("a/b", b"")

    for key in ("x", "a", "a/x", "a/b/c"):
        with pytest.raises(NotFoundError):
            store.read(key)
        with pytest.raises(NotFoundError):
            store.read(key, 0, 8 << 20)  # blob storage reads so much by another library, with errors of its own
        with pytest.raises(NotFoundError):
            store.tags(key)
        assert store.stat(key) is None
    assert list(store.list("nothing/")) == []
    assert list(store.children("nothing/")) == []


def test_append_returns_offsets_that_follow_each_other(store: Store) -> None:
    offsets = [store.append("runs/a/events.jsonl", data) for data in (b"one\n", b"three\n", b"", b"x")]

    assert offsets == [0, 4, 10, 10]
    assert store.read("runs/a/events.jsonl", 4) == b"three\nx"


def test_an_append_made_again_because_its_answer_was_lost_adds_nothing(store: Store) -> None:
    assert store.append("log", b"one\n", at=0) == 0
    assert store.append("log", b"two\n", at=4) == 4

    assert store.append("log", b"two\n", at=4) == 4
    assert store.append("log", b"", at=8) == 8

    assert store.read("log") == b"one\ntwo\n"


@pytest.mark.parametrize(("at", "data"), [(0, b"x"), (3, b"two\n"), (4, b"too\n"), (9, b"x")])
def test_an_append_to_another_length_than_its_writer_knew_is_refused(store: Store, at: int, data: bytes) -> None:
    store.append("log", b"one\n")
    store.append("log", b"two\n")

    with pytest.raises(AlreadyExistsError):
        store.append("log", data, at=at)

    assert store.read("log") == b"one\ntwo\n"


def test_a_place_is_claimed_in_a_value_that_is_there_and_has_room(store: Store) -> None:
    with pytest.raises(NotFoundError, match="`log`"):
        store.claim("log", b"two\n", 12)
    assert store.stat("log") is None
    store.append("log", b"one\n")

    assert [store.claim("log", data, 12) for data in (b"two\n", b"three\n", b"six\n", b"x")] == [4, None, 8, None]
    assert store.read("log") == b"one\ntwo\nsix\n"


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(names=_KEYS, prefix=st.sampled_from(["", "a", "a/", "b-"]), after=_PART)
def test_list_is_in_key_order_whatever_the_names(store: Store, names: set[str], prefix: str, after: str) -> None:
    for entry in list(store.list("")):
        store.delete(entry.key)
    # A folder cannot be a file too, and no key of ours needs that.
    wanted = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    for name in wanted:
        store.put(name, name.encode())

    assert [entry.key for entry in store.list("")] == sorted(wanted)
    assert [entry.key for entry in store.list(prefix)] == sorted(name for name in wanted if name.startswith(prefix))
    assert [entry.key for entry in store.list("", start_after=after)] == sorted(n for n in wanted if n > after)
    assert list(store.list_keys("", at_once=2)) == sorted(wanted)
    found = list(store.list_keys(prefix, start_after=after, at_once=2))
    assert found == sorted(name for name in wanted if name.startswith(prefix) and name > after)
    tops = {name.split("/")[0] + ("/" if "/" in name else "") for name in wanted}
    assert list(store.children("")) == sorted(tops)


def test_children_are_the_names_directly_below(store: Store) -> None:
    for key in ("runs/b/x", "runs/a/x", "runs/a-1", "runs/c", "other"):
        store.put(key, b"")

    assert list(store.children("runs/")) == ["a-1", "a/", "b/", "c"]
    assert list(store.children("")) == ["other", "runs/"]


def test_tags_are_found_replaced_and_gone_with_their_key(store: Store) -> None:
    store.put("m/1", b"", tags={"model": "digits", "run": "a"})
    store.put("m/2", b"", tags={"model": "digits", "run": "b"})
    store.put("n/1", b"", tags={"model": "digits"})
    store.put("m/3", b"")

    assert store.tags("m/1") == {"model": "digits", "run": "a"}
    assert list(store.find_by_tags({"model": "digits"})) == ["m/1", "m/2", "n/1"]
    assert list(store.find_by_tags({"model": "digits"}, "m/")) == ["m/1", "m/2"]
    assert list(store.find_by_tags({"model": "digits", "run": "b"})) == ["m/2"]
    etag = store.stat("m/1")
    store.set_tags("m/1", {"state": "old"})
    assert store.tags("m/1") == {"state": "old"}
    assert store.stat("m/1") == etag
    store.set_tags("m/2", {})
    assert store.tags("m/2") == {}
    store.delete("m/1")
    assert list(store.find_by_tags({"state": "old"})) == []
    with pytest.raises(NotFoundError):
        store.set_tags("absent", {"a": "b"})


def test_delete_removes_a_key_once_and_for_all(store: Store) -> None:
    store.put("queue/local/a", b"1")
    store.delete("queue/local/a")
    store.delete("queue/local/a")
    store.delete("never/was")

    assert store.stat("queue/local/a") is None
    assert list(store.children("")) == []
    store.put("queue/local/a", b"2")
    assert store.read("queue/local/a") == b"2"


def test_delete_of_a_prefix_deletes_nothing(store: Store) -> None:
    store.put("a/b", b"1")
    store.delete("a")

    assert store.read("a/b") == b"1"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys_that_escape_or_that_some_store_cannot_hold_are_refused(store: Store, key: str) -> None:
    for use in (
        lambda: store.put(key, b""),
        lambda: store.append(key, b""),
        lambda: store.read(key),
        lambda: store.stat(key),
        lambda: store.delete(key),
        lambda: store.tags(key),
    ):
        with pytest.raises(UsageError, match="key: got"):
            use()


def test_prefixes_that_escape_are_refused(store: Store) -> None:
    for prefix in ("../", "/", "/etc/", "a/../", "a//"):
        with pytest.raises(UsageError):
            list(store.list(prefix))
        with pytest.raises(UsageError):
            list(store.children(prefix))
        with pytest.raises(UsageError):
            list(store.list_keys(prefix))
        with pytest.raises(UsageError):
            list(store.find_by_tags({"a": "b"}, prefix))


def test_odd_names_are_kept_as_they_are(store: Store, odd_name: str) -> None:
    key = f"runs/{odd_name}/{odd_name}"
    store.put(key, b"1", tags={"name": odd_name})
    store.append(f"logs/{odd_name}", b"2")

    assert [entry.key for entry in store.list("")] == [f"logs/{odd_name}", key]
    assert (store.read(key), store.tags(key)) == (b"1", {"name": odd_name})
    assert list(store.find_by_tags({"name": odd_name})) == [key]
