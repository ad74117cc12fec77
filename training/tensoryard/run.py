"""A run as it is recorded: its events, what they fold to, its files, its metrics."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tensoryard.environment import Environment
from tensoryard.errors import AlreadyExistsError, CorruptRecordError, NotFoundError
from tensoryard.job import Job, decode_job
from tensoryard.snapshot import Snapshot
from tensoryard.store import Entry, Store, keys

ENDS = ("Completed", "Failed", "Canceled")
NOT_STARTED = "NotStarted"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One line of events.jsonl: a stage that was entered or a fact that became known.

    time: seconds since the epoch, UTC; data: what belongs to the fact, such as the environment's hash.
    """

    time: float
    stage: str | None = None
    fact: str | None = None
    reason: str | None = None
    data: dict[str, Any] = {}


class StageSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A stage with its times (seconds since the epoch, UTC); ended_at is None while it lasts."""

    stage: str
    started_at: float
    ended_at: float | None = None
    reason: str | None = None

    @property
    def seconds(self) -> float:
        return (self.ended_at or time.time()) - self.started_at


class RunState(msgspec.Struct, kw_only=True):
    """What the events of a run fold to. Never stored."""

    stage: str = NOT_STARTED
    reason: str | None = None
    submitted_at: float | None = None
    stages: list[StageSpan] = []
    facts: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    tags: dict[str, str] = {}

    @property
    def ended(self) -> bool:
        return self.stage in ENDS

    def add(self, event: Event) -> None:
        if event.stage is not None:
            if self.stages and self.stages[-1].ended_at is None:
                self.stages[-1] = msgspec.structs.replace(self.stages[-1], ended_at=event.time)
            ended_at = event.time if event.stage in ENDS else None
            self.stages.append(
                StageSpan(stage=event.stage, started_at=event.time, ended_at=ended_at, reason=event.reason)
            )
            self.stage, self.reason = event.stage, event.reason
        elif event.fact == "waiting":
            self.reason = event.reason
        elif event.fact == "warning":
            if event.reason and event.reason not in self.warnings:  # a restarted controller warns again
                self.warnings.append(event.reason)
        elif event.fact == "tag":
            self.tags |= event.data
        elif event.fact is not None:
            self.facts[event.fact] = event.data
            if event.fact == "submitted":
                self.submitted_at = event.time


class OutputFile(msgspec.Struct, frozen=True):
    """A file that the run left. path: relative to the run, such as outputs/model/saved_model.pb."""

    path: str
    size_bytes: int
    sha256: str
    etag: str


class Outputs(msgspec.Struct, frozen=True):
    """outputs.json, written last: when it is there, the run's files are final."""

    files: tuple[OutputFile, ...]
    warnings: tuple[str, ...] = ()


class RunRecord:
    """
    A run in a store: reads everything, changes only by adding.

    Raises NotFoundError from `find_run` when there is no such run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.id = run_id

    def key(self, name: str) -> str:
        return keys.run(self.id, name)

    @cached_property
    def job(self) -> Job:
        try:
            return decode_job(self.store.read(self.key("job.json")))
        except msgspec.MsgspecError as error:
            raise CorruptRecordError(f"run `{self.id}`: job.json cannot be read: {error}") from None

    def was_submitted(self) -> bool:
        """False for what a submission that was killed has left: no event and no place in a queue."""
        if self.store.stat(self.key("events.jsonl")) is not None:
            return True
        queued = (keys.queued(target.rstrip("/"), self.id) for target in self.store.children(keys.QUEUE))
        return any(self.store.stat(key) is not None for key in queued)

    def snapshot(self) -> Snapshot:
        try:
            return msgspec.json.decode(self.store.read(self.key("snapshot.json")), type=Snapshot)
        except msgspec.MsgspecError as error:
            raise CorruptRecordError(f"run `{self.id}`: snapshot.json cannot be read: {error}") from None

    def image(self) -> Environment | None:
        """The environment of a run that has an image, by the image's digest: whoever runs it again gets the same."""
        try:
            return msgspec.json.decode(self.store.read(self.key("image.json")), type=Environment)
        except NotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise CorruptRecordError(f"run `{self.id}`: image.json cannot be read: {error}") from None

    def keep_image(self, environment: Environment) -> None:
        """Pin the run to an image, without the folder that it has on some machine. The first time decides."""
        kept = msgspec.structs.replace(environment, unpacked="", spec=None)
        with suppress(AlreadyExistsError):
            self.store.put(self.key("image.json"), msgspec.json.encode(kept))

    def outputs(self) -> Outputs | None:
        """The final list of files, or None while the run has not ended."""
        try:
            return msgspec.json.decode(self.store.read(self.key("outputs.json")), type=Outputs)
        except NotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise CorruptRecordError(f"run `{self.id}`: outputs.json cannot be read: {error}") from None

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """
        The events from a byte offset, and the offset to go on from. A line still being written is left for later;
        one that cannot be read is passed over.
        """
        try:
            data = self.store.read(self.key("events.jsonl"), offset)
        except NotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(msgspec.json.decode(line, type=Event))
            except msgspec.MsgspecError:
                continue
        return events, offset + len(whole)

    def state(self) -> RunState:
        state = RunState()
        for event in self.events()[0]:
            state.add(event)
        return state

    def add(
        self, *, stage: str | None = None, fact: str | None = None, reason: str | None = None, **data: Any
    ) -> Event:
        event = Event(time=time.time(), stage=stage, fact=fact, reason=reason, data=data)
        self.store.append(self.key("events.jsonl"), msgspec.json.encode(event) + b"\n")
        return event

    def mend(self) -> None:
        """End a line that a crash of the machine cut short, so that the next event has a line of its own."""
        entry = self.store.stat(self.key("events.jsonl"))
        if entry and entry.size_bytes and self.store.read(entry.key, entry.size_bytes - 1) != b"\n":
            self.store.append(entry.key, b"\n")

    def request_cancel(self, *, kill: bool = False) -> None:
        """Ask the controller to stop the run; kill: without the 10 s that a script has to end by itself."""
        for name in ("cancel", "kill") if kill else ("cancel",):
            with suppress(AlreadyExistsError):
                self.store.put(keys.requested(self.id, name), b"")

    def want_rebuild(self) -> None:
        """Have the run's environment built anew, whatever is there; to be said before the run is queued."""
        self.store.put(self.key("rebuild"), b"")

    def wants_rebuild(self) -> bool:
        return self.store.stat(self.key("rebuild")) is not None

    def task_results(self) -> dict[str, dict[str, Any]]:
        """tasks/<task>.json of every task that has ended, by task name."""
        return self._task_records(".json")

    def started_tasks(self) -> dict[str, dict[str, Any]]:
        """tasks/<task>.started.json of every task whose script may have begun, by task name."""
        return self._task_records(".started.json")

    def _task_records(self, suffix: str) -> dict[str, dict[str, Any]]:
        records = {}
        for entry in self.store.list(self.key("tasks/")):
            # A task's name has no dot: `worker-0.started.json` is not the result of a task `worker-0.started`.
            name, _, rest = entry.key.rpartition("/")[2].partition(".")
            if f".{rest}" == suffix:
                records[name] = self._json(entry.key)
        return records

    def end(self) -> dict[str, Any]:
        """What decided the outcome of the tasks (launch/end.json); empty when nothing has or it cannot be read."""
        return self._json(self.key("launch/end.json"))

    def slurm_job(self) -> str | None:
        """The number of its job in Slurm, the newest if it was submitted again; None where it has none."""
        found = self._json(self.key("launch/slurm.json")).get("job")
        return str(found) if found else None

    def metrics(self) -> dict[str, Any]:
        """
        Every metric logged: one value as itself, more as a list in the order of their steps, where all have one, else
        of their times; each task's in the order in which it logged them, even where its clock was set back.
        """
        values: dict[str, list[tuple[float | None, float, Any]]] = {}
        for entry in self.store.list(self.key("metrics/")):
            latest = 0.0
            for line in self.store.read(entry.key).splitlines():
                try:
                    record = json.loads(line)
                    latest = max(latest, float(record["time"]))
                    step = None if record.get("step") is None else float(record["step"])
                    values.setdefault(record["name"], []).append((step, latest, record["value"]))
                except (ValueError, KeyError, TypeError):
                    continue
        return {name: found[0][2] if len(found) == 1 else _in_order(found) for name, found in values.items()}

    def file_names(self) -> list[str]:
        """Paths of what the run has left so far, in order: outputs, logs, metrics, and what was uploaded to it."""
        return sorted(self.file_keys())

    def file_keys(self) -> dict[str, str]:
        """Where the bytes of each of `file_names` are."""
        outputs = self.outputs()
        if outputs is not None:
            names = [file.path for file in outputs.files]
        else:
            names = [self._relative(entry.key) for entry in self.store.list(self.key("outputs/"))]
        for folder in ("logs/", "metrics/"):
            names += [self._relative(entry.key) for entry in self.store.list(self.key(folder))]
        uploads = {name: entry.key for name, entry in self.uploads().items()}
        return {name: self.key(name) for name in names} | uploads

    def uploads(self) -> dict[str, Entry]:
        """What was uploaded to the run after the fact, by the names that it was given."""
        start = self.key("uploads/")
        return {entry.key.removeprefix(start): entry for entry in self.store.list(start)}

    def file_key(self, name: str) -> str:
        """
        Where the bytes of one of `file_names` are.

        Raises NotFoundError that names the nearest for a file that the run does not have.
        """
        found = self.file_keys()
        if name in found:
            return found[name]
        import difflib

        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"`tyard runs files {self.id}` lists what it has"
        raise NotFoundError(f"run `{self.id}`: has no file `{name}`", hint)

    def upload(self, name: str, path: Path) -> None:
        """
        Add a file of this machine to the run's files after the fact, under a name such as outputs/plot.png.

        It is kept beside what the run itself wrote, so that outputs.json stays the whole truth about that.
        Raises AlreadyExistsError when the run has a file of that name.
        """
        keys.check_key(name, "name of a file")
        if name in self.file_names():
            raise AlreadyExistsError(f"run `{self.id}`: has a file `{name}` already", "use another name")
        self.store.put_file(self.key(f"uploads/{name}"), path)

    def tag(self, tags: dict[str, str]) -> None:
        """Add tags to the run; one of the same name is replaced."""
        event = Event(time=time.time(), fact="tag", data=tags)
        self.store.append(self.key("events.jsonl"), msgspec.json.encode(event) + b"\n")

    def log_tail(self, task: str, lines: int = 20) -> list[str]:
        """The last lines of a task's log, each cut at 500 characters."""
        key = self.key(f"logs/{task}.log")
        entry = self.store.stat(key)
        if entry is None:
            return []
        data = self.store.read(key, max(0, entry.size_bytes - 16384))
        return [line[:500] for line in data.decode(errors="replace").splitlines()[-lines:]]

    def _relative(self, key: str) -> str:
        return key.removeprefix(self.key(""))

    def _json(self, key: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.store.read(key)))
        except (ValueError, TypeError, NotFoundError):
            return {}


def _in_order(logged: list[tuple[float | None, float, Any]]) -> list[Any]:
    """Values by their steps, which are None where they have none, and times."""
    stepped = all(step is not None for step, _, _ in logged)
    return [value for _, _, value in sorted(logged, key=lambda one: (one[0] or 0.0 if stepped else 0.0, one[1]))]


def list_runs(store: Store, experiment: str | None = None) -> Iterator[RunRecord]:
    """Runs, newest first."""
    ids = run_ids(store)
    yield from _submitted(store, (name for name in ids if experiment in (None, name.rpartition("-")[0])))


def _submitted(store: Store, ids: Iterable[str]) -> Iterator[RunRecord]:
    return (run for run_id in ids if (run := RunRecord(store, run_id)).was_submitted())


def run_ids(store: Store) -> list[str]:
    """Ids, newest first; among them those of submissions that were cut short."""
    found = [
        (parsed[1], name.rstrip("/"))
        for name in store.children(keys.RUNS)
        if (parsed := keys.parse_run_id(name.rstrip("/")))
    ]
    return [run_id for _, run_id in sorted(found, reverse=True)]


def find_run(store: Store, text: str) -> RunRecord:
    """
    The run of an id, of a run's number alone, or of `latest`.

    Raises NotFoundError with the nearest ids.
    """
    if keys.parse_run_id(text) and RunRecord(store, text).was_submitted():
        return RunRecord(store, text)
    # Whether one was submitted is a request of its own, so it is asked of few.
    ids = run_ids(store)
    if text == "latest":
        meant = ids
    else:
        # Not isdigit(): it takes `²` too. Not int(): it refuses 5,000 digits.
        ending = f"-{text.lstrip('0').zfill(4)}" if text.isascii() and text.isdecimal() else None
        meant = [run_id for run_id in ids if ending and run_id.endswith(ending)]
    for run in _submitted(store, meant):
        return run
    import difflib

    near = [run.id for run in islice(_submitted(store, difflib.get_close_matches(text, ids, n=6)), 3)]
    newest = [run.id for run in islice(_submitted(store, ids), 3)]
    if newest and difflib.get_close_matches(text, ["latest"]):
        near = difflib.get_close_matches(text, ["latest", *near], n=3)
    if near:
        hint = f"did you mean {' or '.join(f'`{name}`' for name in near)}?"
    elif newest:
        hint = f"runs here: {', '.join(newest)}"
    else:
        hint = "there are no runs here yet; `tyard run job.yaml` makes one"
    raise NotFoundError(f"run: there is no `{text}`", hint)


def utc(seconds: float) -> str:
    """A time as people and programs read it: 2026-11-23T11:20:55Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
