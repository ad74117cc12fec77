"""A run as it is folded from its events and followed while it goes on."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launching import Yard
from tensoryard.job import Job, encode_job
from tensoryard.run import Event, RunRecord, RunState
from tensoryard.store import Store
from tensoryard.stream import LINE_BYTES, LogLine, follow


@pytest.fixture
def run(store: Store) -> RunRecord:
    """A run whose events and logs the test writes itself."""
    store.put("runs/x-0001/job.json", encode_job(Job(experiment="x", entry_script="train.py")))
    return RunRecord(store, "x-0001")


def log(run: RunRecord, data: bytes, task: str = "worker-0") -> None:
    run.store.append(run.key(f"logs/{task}.log"), data)


def followed(run: RunRecord) -> list[Event | LogLine]:
    return [item for item in follow(run, sleep=lambda seconds: None) if item is not None]


def texts(run: RunRecord) -> list[str]:
    return [item.text for item in followed(run) if isinstance(item, LogLine) and not item.unfinished]


def test_events_and_logs_come_in_order_and_the_end_last(run: RunRecord) -> None:
    run.add(stage="Preparing")
    log(run, b"building\n", "preparing")
    run.add(stage="Completed")
    log(run, b"one\ntwo")
    assert [item.stage if isinstance(item, Event) else item for item in followed(run)] == [
        "Preparing",
        LogLine("preparing", "building"),
        LogLine("worker-0", "one"),
        LogLine("worker-0", "two"),
        "Completed",
    ]


def test_what_a_task_says_comes_after_the_stage_in_which_it_runs(run: RunRecord) -> None:
    """The script may be faster than the controller's next event."""
    stream = follow(run, sleep=lambda seconds: None)
    run.add(stage="Scaling")
    log(run, b"one\n")
    log(run, b"by srun\n", "launch")
    shown = [next(stream), next(stream), next(stream)]
    assert [getattr(item, "stage", item) for item in shown] == ["Scaling", LogLine("launch", "by srun"), None]
    run.add(stage="Running")
    run.add(stage="Scaling", reason="to be started again")
    log(run, b"two\n")
    shown = [next(stream) for _ in range(4)]
    assert [getattr(item, "stage", item) for item in shown] == [
        "Running",
        "Scaling",
        LogLine("worker-0", "one"),
        LogLine("worker-0", "two"),
    ]


def test_a_line_is_shown_once_it_is_whole(run: RunRecord) -> None:
    stream = follow(run, sleep=lambda seconds: None)
    log(run, b"half a ")
    assert next(stream) is None
    log(run, b"line\n")
    assert next(stream) == LogLine("worker-0", "half a line")
    run.add(stage="Failed")
    assert [item.stage for item in stream if isinstance(item, Event)] == ["Failed"]


def test_an_event_half_written_is_waited_for(run: RunRecord) -> None:
    line = msgspec.json.encode(Event(time=1.0, stage="Completed")) + b"\n"
    stream = follow(run, sleep=lambda seconds: None)
    run.store.append(run.key("events.jsonl"), line[:9])
    assert next(stream) is None
    run.store.append(run.key("events.jsonl"), line[9:])
    assert next(stream) == Event(time=1.0, stage="Completed")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")), max_size=5), st.data())
def test_lines_are_the_same_however_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject
) -> None:
    from tensoryard.store.file import FileStore

    store = FileStore(tmp_path_factory.mktemp("store"))
    store.put("runs/x-0001/job.json", encode_job(Job(experiment="x", entry_script="train.py")))
    run = RunRecord(store, "x-0001")
    written = "".join(f"{line}\n" for line in lines).encode()
    stream = follow(run, sleep=lambda seconds: None)
    seen: list[str] = []
    while written:
        size = data.draw(st.integers(1, len(written)))
        log(run, written[:size])
        written = written[size:]
        while (item := next(stream)) is not None:
            assert isinstance(item, LogLine)
            seen.append(item.text)
    run.add(stage="Completed")
    seen += [item.text for item in stream if isinstance(item, LogLine)]
    assert lines == seen


def test_a_long_line_comes_in_pieces_that_cut_no_character(run: RunRecord) -> None:
    line = "é" * LINE_BYTES
    log(run, b"x" + line.encode() + b"\n")
    run.add(stage="Completed")
    pieces = texts(run)
    assert len(pieces) > 1
    assert "x" + line == "".join(pieces)
    assert all(len(piece.encode()) <= LINE_BYTES for piece in pieces)


def test_bytes_that_are_no_text_are_replaced(run: RunRecord) -> None:
    log(run, b"a\xff\x00b\r\n\n")
    run.add(stage="Completed")
    assert texts(run) == ["a\ufffd\0b", ""]


def test_a_task_that_never_stops_talking_does_not_hide_the_end(run: RunRecord) -> None:
    """The log grows faster than it is read: events are still looked at."""
    original = run.store.read

    def read(key: str, offset: int = 0, length: int | None = None) -> bytes:
        return b"y\n" * 1000 if key.endswith("worker-0.log") else original(key, offset, length)

    run.store.read = read  # type: ignore[method-assign]
    run.add(stage="Running")
    stream = follow(run, sleep=lambda seconds: None)
    assert next(stream) == run.events()[0][0]
    for item in stream:
        if item is None:
            break


def test_a_controller_is_asked_for_until_the_end(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensoryard.stream.CONTROLLER_SECONDS", 0.0)
    run = yard.submit("print('done')")
    items = [item for item in follow(run, yard.serve) if isinstance(item, LogLine)]
    assert items == [LogLine("worker-0", "done")]


def test_unknown_stages_and_facts_are_shown_as_they_are(run: RunRecord) -> None:
    run.add(stage="Hibernating", reason="the cluster sleeps")
    run.add(fact="moonrise", reason="full", phase=1)
    run.store.append(run.key("events.jsonl"), b'{"time": 3, "stage": "Waking", "since": "a later version"}\n')
    state = run.state()
    assert (state.stage, state.ended) == ("Waking", False)
    assert [span.stage for span in state.stages] == ["Hibernating", "Waking"]
    assert state.stages[0].reason == "the cluster sleeps"
    assert state.facts["moonrise"] == {"phase": 1}


@given(
    st.lists(
        st.builds(
            Event,
            time=st.floats(0, 1e10),
            stage=st.none() | st.sampled_from(["Running", "Failed", "Completed", "?"]) | st.text(max_size=5),
            fact=st.none()
            | st.sampled_from(["submitted", "warning", "waiting", "tag", "environment"])
            | st.text(max_size=5),
            reason=st.none() | st.text(max_size=5),
            data=st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=2),
        ),
        max_size=8,
    )
)
def test_any_events_fold_to_a_state(events: list[Event]) -> None:
    state = RunState()
    for event in events:
        state.add(event)
    entered = [event.stage for event in events if event.stage is not None]
    assert [span.stage for span in state.stages] == entered
    assert state.stage == (entered[-1] if entered else "NotStarted")


def test_a_stage_ends_when_the_next_begins(run: RunRecord) -> None:
    state = RunState()
    for time, stage in enumerate(["Preparing", "Scaling", "Running", "Scaling", "Running", "Completed"]):
        state.add(Event(time=float(time), stage=stage))
    assert [(span.stage, span.started_at, span.ended_at) for span in state.stages] == [
        ("Preparing", 0, 1),
        ("Scaling", 1, 2),
        ("Running", 2, 3),
        ("Scaling", 3, 4),
        ("Running", 4, 5),
        ("Completed", 5, 5),
    ]


def test_a_warning_said_twice_is_one(run: RunRecord) -> None:
    for _ in range(2):
        run.add(fact="warning", reason="x was left out")
    assert run.state().warnings == ["x was left out"]


def test_metrics_are_values_or_lists_in_the_order_of_their_times(run: RunRecord, tmp_path: Path) -> None:
    def line(**record: Any) -> bytes:
        return msgspec.json.encode(record) + b"\n"

    run.store.append(
        run.key("metrics/worker-0.jsonl"), line(time=1, name="loss", value=0.5) + line(time=3, name="loss", value=0.1)
    )
    run.store.append(
        run.key("metrics/worker-1.jsonl"),
        line(time=2, name="loss", value=0.3) + line(time=2, name="done", value=True),
    )
    run.store.append(
        run.key("metrics/junk.jsonl"), b'{"time": "x", "name": "loss", "value": 9}\nnonsense\n[1]\n{"time"'
    )
    assert run.metrics() == {"loss": [0.5, 0.3, 0.1], "done": True}
