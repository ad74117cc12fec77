"""Reads job.yaml: strict, and every error names the file, the line, what was given and what is allowed."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tensoryard.errors import JobError, UsageError
from tensoryard.job import Job

FieldPath = tuple[str | int, ...]

# Values under these reach the script as they are written: `yes`, `1e-3` and `007` are text there, not YAML's types.
_TEXT_FIELDS = {"script_params", "environment_variables", "tags"}
_ONE_KEY_FIELDS = {*_TEXT_FIELDS, "inputs"}
_VERSION_FIELDS = {"framework_version", "python_version"}


def load_job(path: Path, changes: Sequence[str] = ()) -> Job:
    """
    The job of a YAML file, with `field=value` changes made to it first.

    path: the file; its source_directory is taken from the file's folder and comes back absolute. The
    experiment defaults to the name of that folder.
    Raises JobError for anything that cannot be run as it is written.
    """
    if path.is_dir():
        path = path / "job.yaml"
    fields, lines = _read(path)
    for change in changes:
        _apply(fields, change)
    fields.setdefault("experiment", _default_experiment(path))
    if isinstance(fields.get("source_directory", "."), str):
        fields["source_directory"] = str((path.parent / fields.get("source_directory", ".")).resolve())
    return _job(path, fields, lines)


def changed_job(job: Job, changes: Sequence[str], name: str) -> Job:
    """
    A job that was submitted before, with `field=value` changes made to it.

    name: of the run it comes from, for errors. Its source is that run's snapshot, so the folder need not be there.
    Raises JobError for anything that cannot be run, and for fields that belong to the snapshot.
    """
    fields = msgspec.to_builtins(job)
    for change in changes:
        field = change.partition("=")[0]
        if field in ("source_directory", "pip_requirements_file"):
            raise JobError(
                f"--set: `{field}` belongs to the snapshot of `{name}`, which is run again as it is",
                hint="`tyard run` takes a new snapshot",
            )
        _apply(fields, change)
    return _job(Path(name), fields, {}, check_files=False)


def _job(path: Path, fields: dict[str, Any], lines: dict[FieldPath, int], *, check_files: bool = True) -> Job:
    try:
        job = msgspec.convert(fields, Job)
        msgspec.json.encode(job)
        if check_files:
            job.check_files()
    except msgspec.ValidationError as error:
        raise _explained(path, fields, lines, str(error)) from None
    except UnicodeEncodeError as error:
        raise JobError(f"{path}: {error.object[:200]!a} is not Unicode text") from None
    except (JobError, UsageError) as error:
        place = re.split(r"[:.\[]", error.message, maxsplit=1)[0]
        raise type(error)(f"{_where(path, lines, (place,))}: {error.message}", error.hint) from None
    return job


def _default_experiment(path: Path) -> str:
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", path.resolve().parent.name).strip("-._")[:63] or "job"


def _read(path: Path) -> tuple[dict[str, Any], dict[FieldPath, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise JobError(f"{path}: no such file", hint="`tyard init DIR` makes a new job folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    lines: dict[FieldPath, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        fields = _plain(path, loader, node, (), lines) if node else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise JobError(f"{path}:{line} not YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}") from None
    except RecursionError:
        raise JobError(f"{path}: an alias refers to itself") from None
    if not isinstance(fields, dict):
        raise JobError(
            f"{path}: got {type(fields).__name__}, a job is a mapping of fields such as `entry_script: train.py`"
        )
    return fields, lines


def _plain(path: Path, loader: yaml.SafeLoader, node: yaml.Node, at: FieldPath, lines: dict[FieldPath, int]) -> Any:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        fields: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key in fields:
                raise JobError(f"{path}: line {key_node.start_mark.line + 1}: `{key}` is given twice")
            fields[key] = _plain(path, loader, value_node, (*at, key), lines)
            lines[(*at, key)] = key_node.start_mark.line + 1
        return fields
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, loader, item, (*at, index), lines) for index, item in enumerate(node.value)]
    return _scalar(loader, node, at)


def _scalar(loader: yaml.SafeLoader, node: yaml.Node, at: FieldPath) -> Any:
    """A version written without quotes stays text: 3.10 is no number here."""
    kept_as_text = (len(at) == 2 and at[0] in _TEXT_FIELDS) or (len(at) == 1 and at[0] in _VERSION_FIELDS)
    if kept_as_text and node.tag != "tag:yaml.org,2002:null":
        return node.value
    return loader.construct_object(node)


def _apply(fields: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise UsageError(
            f"--set: got `{change}`, expected field=value",
            hint="for example `--set script_params.--epochs=3`",
        )
    first, _, rest = name.partition(".")
    parts = [first] if not rest else [first, rest] if first in _ONE_KEY_FIELDS else [first, *rest.split(".")]
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        value = None if node is None else _plain(Path("--set"), loader, node, tuple(parts), {})
    except yaml.YAMLError:
        value = text
    if first in _TEXT_FIELDS and len(parts) == 2 and not isinstance(value, dict):
        # What the shell passed is the value, to the character; YAML would take away blanks and comments.
        value = text
    target = fields
    for part in parts[:-1]:
        inner = target.get(part)
        target[part] = inner = dict(inner) if isinstance(inner, dict) else {}
        target = inner
    target[parts[-1]] = value


def _where(path: Path, lines: dict[FieldPath, int], at: FieldPath) -> str:
    while at and at not in lines:
        at = at[:-1]
    return f"{path}: line {lines[at]}" if at else str(path)


def _explained(path: Path, fields: dict[str, Any], lines: dict[FieldPath, int], message: str) -> JobError:
    """The line, the value and the nearest name, added to msgspec's `Expected ... - at $.a.b`."""
    rule, _, at_text = message.partition(" - at `")
    at: FieldPath = tuple(
        int(index) if index else name for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", at_text.rstrip("`"))
    )
    at = tuple("*" if part == "..." else part for part in at)
    unknown = re.search(r"unknown field `(.+)`", rule)
    if unknown:
        name = unknown[1]
        allowed = _known_fields(at)
        near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"allowed are {', '.join(f'`{field}`' for field in allowed)}"
        return JobError(f"{_where(path, lines, (*at, name))}: unknown field `{name}`", hint)
    missing = re.search(r"missing required field `(.+)`", rule)
    if missing:
        return JobError(
            f"{_where(path, lines, at)}: the field `{missing[1]}` is missing", hint=f"add `{missing[1]}: ...`"
        )
    value: Any = fields
    for part in at:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
    name = ".".join(str(part) for part in at)
    rule = rule[0].lower() + rule[1:]
    return JobError(f"{_where(path, lines, at)}: {name}: got `{value}`, {rule}", _enum_hint(at))


def _known_fields(at: FieldPath) -> list[str]:
    from tensoryard.job import DatastoreReference, ParameterServer, ParameterServerTraining

    struct: Any = Job
    if at[:1] == ("distributed_training",):
        struct = ParameterServer if len(at) > 1 else ParameterServerTraining
    elif at:
        struct = DatastoreReference
    return [field.name for field in msgspec.structs.fields(struct)]


def _enum_hint(at: FieldPath) -> str | None:
    if at[:1] == ("distributed_training",):
        return (
            "allowed are `mpi`, `multi_worker_mirrored` and "
            "`parameter_server: {worker_count: 2, parameter_server_count: 1}`; leave it out for one process"
        )
    return None
