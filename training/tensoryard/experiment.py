"""Experiments and runs as Python programs use them, with the names and meanings of Azure ML's SDK v1."""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from tensoryard import context
from tensoryard.errors import JobError, UsageError
from tensoryard.estimator import TensorFlow
from tensoryard.instead import refuse
from tensoryard.job import Job
from tensoryard.run import ENDS, Event, RunState, find_run, list_runs, run_ids, utc
from tensoryard.run_files import RunFiles
from tensoryard.store import is_folder, keys
from tensoryard.targets import shown_name

if TYPE_CHECKING:
    from tensoryard.model import Model
    from tensoryard.workspace import Workspace

_STATUS = {"Scaling": "Queued", "Post-processing": "Finalizing"}
_LOOK_SECONDS = 0.1
_LOOK_REMOTE_SECONDS = 1.0
_CONTROLLER_SECONDS = 2.0


class Experiment:
    """
    Runs under one name. It is there once a run is: making this object creates nothing.

    Raises UsageError for a name that is none.
    """

    def __init__(self, workspace: "Workspace", name: str) -> None:
        self.workspace = workspace
        self.name = keys.check_name("experiment", name)

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name}, Workspace: {self.workspace.name})"

    @staticmethod
    def list(
        workspace: "Workspace",
        experiment_name: str | None = None,
        view_type: str = "ActiveOnly",
        tags: str | Mapping[str, str] | None = None,
    ) -> "list[Experiment]":
        """
        Every experiment that has a run, by name; experiment_name: that one alone.

        view_type: none is archived here, so "ArchivedOnly" finds none. tags is refused: runs have tags.
        """
        refuse("Experiment.list", tags=tags)
        if view_type == "ArchivedOnly":
            return []
        names = {run_id.rpartition("-")[0] for run_id in run_ids(workspace.store)}
        wanted = sorted(name for name in names if experiment_name in (None, name))
        return [Experiment(workspace, name) for name in wanted if any(list_runs(workspace.store, name))]

    def submit(self, config: TensorFlow | Job, tags: Mapping[str, str] | None = None) -> "Run":
        """
        The run of a job, queued; it goes on when this program ends.

        config: `TensorFlow(...)`, `ScriptRunConfig(...)` or the job of a file. tags: added to those of the job.
        Raises JobError, before anything is created, for a job that cannot be run as it is written.
        """
        from tensoryard.controller_process import spawn_controller
        from tensoryard.submit import submit

        if isinstance(config, TensorFlow):
            job = config.job(self.name, tags)
        elif isinstance(config, Job):
            job = msgspec.structs.replace(config, experiment=self.name, tags={**config.tags, **(tags or {})})
        else:
            raise JobError(
                f"submit: got {type(config).__name__}, expected `TensorFlow(...)` or `ScriptRunConfig(...)`"
            )
        record = submit(self.workspace, job, lambda text: print(text, file=sys.stderr))
        spawn_controller(self.workspace)
        return Run(self, record.id)

    def get_runs(
        self,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: str | Mapping[str, str] | None = None,
        include_children: bool = False,
    ) -> "Iterator[Run]":
        """
        The runs of this experiment, newest first.

        tags, properties: only runs that have this name, or these names with these values. include_children changes
        nothing: no run has others below it.
        """
        if type is not None:
            raise UsageError(f"get_runs: got the type `{type}`, but all runs are of one type: leave it out")
        for record in list_runs(self.workspace.store, self.name):
            run = Run(self, record.id)
            if _matches(run.get_tags, tags) and _matches(run.get_properties, properties):
                yield run


class Run(RunFiles):
    """
    One submission of a job, seen from outside; inside a script `Run.get_context()` gives the other side.

    id: such as tf-mnist-0007; number: the 7; experiment: the one it belongs to.
    Raises NotFoundError with the nearest ids when there is no such run.
    """

    def __init__(self, experiment: Experiment, run_id: str) -> None:
        super().__init__(experiment.workspace, find_run(experiment.workspace.store, run_id))
        self.experiment = experiment

    if not TYPE_CHECKING:  # a type checker is to see that a name is not there

        def __getattr__(self, name: str) -> NoReturn:
            hint = (
                ": metrics are logged in the script, `Run.get_context().log(...)`; `run.tag(...)` notes a value here"
            )
            said = f"a run seen from outside of its script has no `{name}`{hint if name.startswith('log') else ''}"
            raise AttributeError(said, name=name, obj=self)

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def number(self) -> int:
        parsed = keys.parse_run_id(self.id)
        return parsed[1] if parsed else 0

    @property
    def status(self) -> str:
        return self.get_status()

    @property
    def tags(self) -> dict[str, str]:
        return self.get_tags()

    @property
    def properties(self) -> dict[str, str]:
        return self.get_properties()

    def __repr__(self) -> str:
        return f"Run(Experiment: {self.experiment.name}, Id: {self.id}, Status: {self.get_status()})"

    @staticmethod
    def get_context(allow_offline: bool = True) -> context.Run:
        """As `tensoryard.context.Run.get_context`: the run that this process is a task of."""
        return context.Run.get_context(allow_offline)

    @staticmethod
    def get(workspace: "Workspace", run_id: str) -> "Run":
        """The run of an id, of a number alone, or of `latest`. Raises NotFoundError with the nearest ids."""
        found = find_run(workspace.store, run_id)
        return Run(Experiment(workspace, found.id.rpartition("-")[0]), found.id)

    def get_status(self) -> str:
        """NotStarted, Preparing, Queued, Running, Finalizing, Completed, Failed or Canceled."""
        return _status(self._record.state())

    def get_details(self) -> dict[str, Any]:
        """
        The run as a dictionary under Azure ML's keys: runId, target, status, startTimeUtc, endTimeUtc, properties,
        tags, runDefinition (the job), logFiles (where each lies), submittedBy, and error once it has failed.

        Times are ISO 8601, UTC, and missing until they are known.
        """
        record, store = self._record, self._record.store
        state = record.state()
        details: dict[str, Any] = {
            "runId": self.id,
            "target": shown_name(record.job.compute_target),
            "status": _status(state),
            "properties": _properties(state),
            "tags": record.job.tags | state.tags,
            "runDefinition": msgspec.to_builtins(record.job),
            "submittedBy": state.facts.get("submitted", {}).get("user"),
            "logFiles": {
                name: str(store.local_path(key) or key)
                for name, key in sorted(record.file_keys().items())
                if name.startswith("logs/")
            },
        }
        started = next((span.started_at for span in state.stages if span.stage == "Running"), None)
        if started is not None:
            details["startTimeUtc"] = utc(started)
        if state.ended:
            details["endTimeUtc"] = utc(state.stages[-1].started_at)
        if state.stage == "Failed":
            details["error"] = {"error": {"code": "RunFailed", "message": self._failure()}}
        return details

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """
        Every metric logged, or the one named: one value as itself, more as a list in their order.

        recursive: the same under the run's id, as no run has others below it, of whatever run_type. populate changes
        nothing: no value lies elsewhere.
        """
        metrics = self._record.metrics()
        if name is not None:
            metrics = {key: value for key, value in metrics.items() if key == name}
        return {self.id: metrics} if recursive else metrics

    def get_tags(self) -> dict[str, str]:
        """The tags of the job and those added since."""
        return self._record.job.tags | self._record.state().tags

    def tag(self, key: str, value: str | None = None) -> None:
        """Add a tag, or replace its value; None is kept as an empty value."""
        self._record.tag({str(key): "" if value is None else str(value)})

    def get_properties(self) -> dict[str, str]:
        """What was found out about the run: snapshot (digest of the code), environment, tensorflow (its version)."""
        return _properties(self._record.state())

    def cancel(self) -> None:
        """Ask for the run to be stopped; returns at once."""
        self._record.request_cancel()
        self._ensure_controller()

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """
        The run's details once it has ended.

        show_output: print stages and log lines as they come. wait_post_processing changes nothing: a run's files are
        final only after that stage, so it is always waited for. A canceled run raises nothing, as in Azure ML.
        Raises ActivityFailedException with the reason and the end of the log when the run failed.
        """
        try:
            self._follow() if show_output else self._wait()
        except KeyboardInterrupt:
            print(f"{self.id} goes on without being followed; `run.cancel()` stops it", file=sys.stderr)
            raise
        details = self.get_details()
        if raise_on_error and details["status"] == "Failed":
            from tensoryard.azureml.exceptions import ActivityFailedException

            raise ActivityFailedException(self._failure(), self._ending().data.get("hint"))
        return details

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> "Model":
        """
        The new version of a model, made of what this finished run has at a path such as outputs/model.

        model_path: a folder or file of the run; None is model_name. The job's tags are kept with it, under `tags`.
        The last four are refused. Raises NotFoundError when nothing is there or the run has not ended.
        """
        from tensoryard.model import Model, properties_with

        refuse(
            "register_model",
            datasets=datasets,
            sample_input_dataset=sample_input_dataset,
            sample_output_dataset=sample_output_dataset,
            resource_configuration=resource_configuration,
        )
        workspace = self.experiment.workspace
        version = workspace.registry.register_run_files(
            model_name,
            self.id,
            model_path or model_name,
            tags=tags,
            properties=properties_with(properties, description, model_framework, model_framework_version),
        )
        return Model(workspace, version.name, version=version.version)

    def _ensure_controller(self) -> None:
        from tensoryard.controller_process import spawn_controller

        if not self._record.state().ended:
            spawn_controller(self.experiment.workspace)

    def _wait(self) -> None:
        state, offset, looked_at = RunState(), 0, time.monotonic()
        pause = _LOOK_SECONDS if is_folder(self._record.store) else _LOOK_REMOTE_SECONDS
        while True:
            events, offset = self._record.events(offset)
            for event in events:
                state.add(event)
            if state.ended:
                return
            if time.monotonic() - looked_at > _CONTROLLER_SECONDS:
                looked_at = time.monotonic()
                self._ensure_controller()
            time.sleep(pause)

    def _follow(self) -> None:
        from tensoryard.stream import LogLine, follow
        from tensoryard.text import printable

        print(f"RunId: {self.id}")
        state = RunState()
        for item in follow(self._record, self._ensure_controller):
            if isinstance(item, LogLine) and not item.unfinished:
                print(f"{item.task} | {printable(item.text)}", flush=True)
            elif isinstance(item, Event):
                state.add(item)
                if item.stage or item.fact == "waiting":
                    print(f"{state.stage}: {state.reason}" if state.reason else state.stage, flush=True)
                elif item.fact == "warning":
                    print(f"warning: {item.reason}", flush=True)

    def _ending(self) -> Event:
        events = self._record.events()[0]
        return next((event for event in reversed(events) if event.stage in ENDS), Event(time=0))

    def _failure(self) -> str:
        """The reason of the failure with the end of the log, as one text."""
        ending = self._ending()
        log = ending.data.get("log") or []
        return "\n".join([f"run `{self.id}` failed: {ending.reason}", *(f"  {line}" for line in log)])


def _status(state: RunState) -> str:
    return _STATUS.get(state.stage, state.stage)


def _properties(state: RunState) -> dict[str, str]:
    environment = state.facts.get("environment", {})
    found = {
        "snapshot": state.facts.get("submitted", {}).get("snapshot"),
        "environment": environment.get("hash"),
        "tensorflow": environment.get("tensorflow"),
    }
    return {name: str(value) for name, value in found.items() if value}


def _matches(read: Any, wanted: str | Mapping[str, str] | None) -> bool:
    if wanted is None:
        return True
    labels = read()
    if isinstance(wanted, str):
        return wanted in labels
    return all(labels.get(name) == value for name, value in wanted.items())
