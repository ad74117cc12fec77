"""Every key of the store is made here, with its parser beside it."""

import re

from tensoryard.errors import UsageError

QUEUE = "queue/"
REQUESTS = "requests/"
RUNS = "runs/"
MODELS = "models/"
DATA = "data/"
ENVIRONMENTS = "environments/"
CONTENTS = "objects/sha256/"

_RUN_ID = re.compile(r"(?P<experiment>.+)-(?P<number>\d{4,})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Blob storage takes off dots at the end of a part of a name.
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9_-])?")
# Surrogates are bytes of a file name that is not UTF-8; Azure refuses control characters and the backslash.
_NOT_IN_KEYS = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_RESERVED = (".tmp", ".tags")


def check_name(kind: str, name: str) -> str:
    """The name of an experiment, model or alias, if it is one. Raises UsageError with the rule."""
    if not _NAME.fullmatch(name):
        rule = "allowed are 1 to 63 letters, digits, `.`, `_` and `-`, the first a letter or digit, the last no dot"
        raise UsageError(f"{kind}: got `{name}`, {rule}")
    return name


def check_key(key: str, what: str = "key") -> str:
    """
    The key, if it is one that every store can hold and that stays below the store's root.

    Raises UsageError for an absolute path, an empty, `.` or `..` part, a control character or backslash, a part above
    255 bytes, more than 1,024 characters, or a first part that starts with `.tmp` or `.tags`.
    """
    parts = key.split("/")
    found = _NOT_IN_KEYS.search(key)
    if found:
        rule = f"{found[0]!a} cannot stand in it"
    elif not all(parts):
        rule = "it is relative, and no part of it is empty"
    elif "." in parts or ".." in parts:
        rule = "`.` and `..` cannot be parts of it"
    elif key.startswith(_RESERVED):
        rule = "`.tmp` and `.tags` belong to the store"
    elif len(key) > 1024 or (len(key) > 63 and any(len(part.encode()) > 255 for part in parts)):
        rule = "at most 1,024 characters, and 255 bytes between two slashes"
    else:
        return key
    raise UsageError(f"{what}: got {ascii(key)[:200]}: {rule}")


def run_id(experiment: str, number: int) -> str:
    return f"{experiment}-{number:04d}"


def parse_run_id(text: str) -> tuple[str, int] | None:
    """(experiment, number) of a run id, or None when the text is not one."""
    found = _RUN_ID.fullmatch(text)
    return (found["experiment"], int(found["number"])) if found else None


def run_tickets(file: int = 0) -> str:
    """One of the append-only files whose length gives out the numbers of runs."""
    return f"runs-tickets-{file:04d}" if file else "runs-tickets"


def run(run: str, name: str = "") -> str:
    """A file of a run: job.json, snapshot.json, events.jsonl, outputs.json, logs/..., tasks/..., outputs/..."""
    return f"{RUNS}{run}/{name}"


def queued(target: str, run: str = "") -> str:
    return f"{QUEUE}{target}/{run}"


def requested(run: str, name: str) -> str:
    """What a client asks of a run that has not ended; of all runs in one place, so that one look finds them."""
    return f"{REQUESTS}{run}/{name}"


def lease(target: str) -> str:
    """The prefix of the numbered terms in which a target's controllers have served it; the newest is in force."""
    return f"controllers/{target}/"


def content(sha256: str) -> str:
    """Contents kept once, by digest: snapshot files and models registered with a copy."""
    return f"{CONTENTS}{sha256[:2]}/{sha256}"


def parse_content(key: str) -> str | None:
    """The digest in a key made by `content`; None when it is no such key."""
    digest = key.rpartition("/")[2]
    return digest if key == content(digest) and _DIGEST.fullmatch(digest) else None


def clean_up_clock(word: str) -> str:
    """What a clean-up writes and removes to learn the time by the store's own clock."""
    return f"clean-up/{word}"


def data(path: str) -> str:
    return f"{DATA}{path}"


def data_below(path: str) -> str:
    """The prefix of everything below a folder of the datastore; "" is its top."""
    return data(f"{path}/" if path else "")


def data_sums(digest: str, number: int | None = None) -> str:
    """One of the append-only files of digests of a folder's files, or the prefix of all; digest: of its name."""
    return f"data-sums/{digest}/{'' if number is None else f'{number:04d}.jsonl'}"


def parse_data_sums(key: str) -> int | None:
    """The number in a key made by `data_sums`; None when it holds none."""
    digits = key.rpartition("/")[2].removesuffix(".jsonl")
    return int(digits) if digits.isascii() and digits.isdigit() else None


def environment_pins(key: str) -> str:
    """The prefix of what a spec was pinned to; the newest is in force. key: of the spec, in hex."""
    return f"{ENVIRONMENTS}asked/{key}/"


def environment_images(key: str) -> str:
    """The prefix of the images that were built of a key; the newest is in force."""
    return f"{ENVIRONMENTS}images/{key}/"


def image_builders(key: str) -> str:
    """The prefix of the numbered terms in which an image of a key was built; the newest is in force."""
    return f"{ENVIRONMENTS}builders/{key}/"


def horovod_wheel(key: str, name: str) -> str:
    """A file of a compiled wheel; key: of all that it was compiled from, in hex."""
    return f"{ENVIRONMENTS}wheels/{key}/{name}"


def model(name: str, rest: str = "") -> str:
    return f"{MODELS}{name}/{rest}"


def after_model(name: str) -> str:
    """What follows every key of a model and comes before those of the next: `0` is the sign after the slash."""
    return f"{MODELS}{name}0"


def model_tickets(name: str, file: int) -> str:
    """One of the append-only files (numbered from 0) whose length gives out version numbers."""
    return model(name, f"tickets/{file:04d}")


def model_nonce(name: str, digest: str) -> str:
    """Which version a caller's own retry token was given; digest: of the token, in hex."""
    return model(name, f"nonces/{digest}.json")


def model_version(name: str, version: int) -> str:
    return model(name, f"versions/{version:08d}.json")


def parse_model_version(key: str) -> tuple[str, int] | None:
    """(name, number) in a key made by `model_version`; None when it is no such key."""
    parts = key.split("/")
    number = parse_numbered(parts[-1])
    is_one = number is not None and len(parts) == 4 and key == model_version(parts[1], number)
    return (parts[1], number) if is_one and number is not None else None


def model_signature(name: str, version: int, key_id: str) -> str:
    """The signature of a version by one key; key_id: the digest of its public half, in hex."""
    return model(name, f"signatures/{version:08d}/{key_id}.json")


def model_events(name: str, version: int | None = None) -> str:
    """The prefix of the tombstones and restores of all versions or of one."""
    return model(name, "events/" if version is None else f"events/{version:08d}/")


def model_aliases(name: str, alias: str = "") -> str:
    """The prefix of all aliases, or of the changes of one: the newest is its value, all of them its history."""
    return model(name, f"aliases/{alias}/" if alias else "aliases/")


def numbered(prefix: str, number: int) -> str:
    """The record of a number, counted from 1, below a prefix."""
    return f"{prefix}{number:08d}.json"


def parse_numbered(name: str) -> int | None:
    """The number in the last part of a key, `00000003.json` or `00000003/`; None when it holds none."""
    digits = name.removesuffix(".json").removesuffix("/")
    return int(digits) if digits.isascii() and digits.isdigit() else None
