"""Reads job.yaml: strict, and every error names the file, the line, what was given and what is allowed."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tensoryard.errors import JobError, TensoryardError, UsageError
from tensoryard.job import Job
from tensoryard.job_errors import FieldPath, Place, Places, explained, kind, where

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
    path, fields, places = _changed(path, changes)
    fields.setdefault("experiment", _default_experiment(path))
    if isinstance(fields.get("source_directory", "."), str):
        fields["source_directory"] = str((path.parent / fields.get("source_directory", ".")).resolve())
    return _job(path, fields, places)


@contextmanager
def placed(path: Path, changes: Sequence[str] = ()) -> Iterator[None]:
    """
    A block whose errors about a field of the job that `load_job` gave say where the file has it.

    For what is found out after the file was read: data, a target or a run that is not there.
    """
    try:
        yield
    except TensoryardError as error:
        if error.message.partition(":")[0] not in Job.__struct_fields__:
            raise
        path, fields, places = _changed(path, changes)
        raise _placed(error, path, fields, places) from None


def _changed(path: Path, changes: Sequence[str]) -> tuple[Path, dict[str, Any], Places]:
    """The file itself, its fields with the changes made, and where each was given."""
    if path.is_dir():
        path = path / "job.yaml"
    fields, places = _read(path)
    for change in changes:
        _apply(fields, change, places)
    return path, fields, places


def _placed(error: TensoryardError, path: Path, fields: dict[str, Any], places: Places) -> TensoryardError:
    at: FieldPath = tuple(error.message.split(": ")[:2])
    if not at or re.split(r"[:.\[]", str(at[0]), maxsplit=1)[0] not in Job.__struct_fields__:
        return error  # a line of the requirements file has its own place
    if at not in places:
        at = (re.split(r"[:.\[]", str(at[0]), maxsplit=1)[0],)
    given = re.search("got `([^`]*)`", error.message)
    listed = fields.get(str(at[0]))
    if given and isinstance(listed, list) and given[1] in listed:
        at = (at[0], listed.index(given[1]))
    return type(error)(f"{where(path, places, at)}: {error.message}", error.hint)


def changed_job(job: Job, changes: Sequence[str], name: str) -> Job:
    """
    A job that was submitted before, with `field=value` changes made to it.

    name: of the run it comes from, for errors. Its source is that run's snapshot, so the folder need not be there.
    Raises JobError for anything that cannot be run, and for fields that belong to the snapshot.
    """
    fields = msgspec.to_builtins(job)
    places: Places = {}
    for change in changes:
        field = change.partition("=")[0]
        if field in ("source_directory", "pip_requirements_file"):
            raise JobError(
                f"--set: `{field}` belongs to the snapshot of `{name}`, which is run again as it is",
                hint="`tyard run` takes a new snapshot",
            )
        _apply(fields, change, places)
    return _job(Path(name), fields, places, check_files=False)


def _job(path: Path, fields: dict[str, Any], places: Places, *, check_files: bool = True) -> Job:
    try:
        job = msgspec.convert(fields, Job)
        msgspec.json.encode(job)
        if check_files:
            job.check_files()
        (job.with_requirements() if check_files else job).environment_spec()
    except msgspec.ValidationError as error:
        raise explained(str(error), path, fields, places) from None
    except UnicodeEncodeError as error:
        raise JobError(f"{path}: {error.object[:200]!a} is not Unicode text") from None
    except (JobError, UsageError) as error:
        raise _placed(error, path, fields, places) from None
    return job


def _default_experiment(path: Path) -> str:
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", path.resolve().parent.name).strip("-._")[:63].rstrip(".") or "job"


def _nearest_job(path: Path) -> Path | None:
    """The job file, or folder of one, whose path differs in one name that is like the one given."""
    import difflib

    wrong = path
    while not wrong.parent.is_dir():
        wrong = wrong.parent
    below = path.relative_to(wrong)
    try:
        names = sorted(there.name for there in wrong.parent.iterdir())
    except OSError:
        return None
    for name in difflib.get_close_matches(wrong.name, names, n=3):
        near = wrong.with_name(name) / below
        if (near / "job.yaml").is_file() or (near.suffix in (".yaml", ".yml") and near.is_file()):
            return near
    return None


def _read(path: Path) -> tuple[dict[str, Any], Places]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = _nearest_job(path)
        hint = f"did you mean `{near}`?" if near else "`tyard init DIR` makes a new job folder"
        raise JobError(f"{path}: no such file", hint) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise JobError(
            f"{path}: line {line}: got the byte {error.object[error.start]:#04x}, which is not UTF-8",
            hint="save the file as UTF-8",
        ) from None
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from None
    places: Places = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        fields = _plain(path, loader, node, (), places) if node else {}
    except yaml.YAMLError as error:
        raise _not_yaml(path, text, error) from None
    except RecursionError:
        raise JobError(f"{path}: an alias refers to itself") from None
    if not isinstance(fields, dict):
        raise JobError(f"{path}: got {kind(fields)}, a job is a mapping of fields such as `entry_script: train.py`")
    return fields, places


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> JobError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        character = chr(error.character) if isinstance(error.character, int) else error.character
        return JobError(f"{path}: line {line}: got the character {character!a}, which YAML does not allow")
    mark = getattr(error, "problem_mark", None)
    at = f" line {mark.line + 1}:" if mark else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    hint = "indent with blanks, not with tabs" if "'\\t'" in problem else None
    return JobError(f"{path}:{at} is not YAML: {problem}", hint)


def _plain(path: Path, loader: yaml.SafeLoader, node: yaml.Node, at: FieldPath, places: Places) -> Any:
    written = node.value if isinstance(node, yaml.ScalarNode) else None
    places[at] = Place(f"{path}: line {node.start_mark.line + 1}", written)
    if isinstance(node, yaml.MappingNode):
        # Before the merge keys are resolved: what `<<` brings may well be given again.
        keys = [key for key, _ in node.value]
        for number, key in enumerate(keys):
            line = f"{path}: line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise JobError(f"{line}: got {kind(_plain(path, loader, key, at, {}))} as the name of a field")
            if key.value in [other.value for other in keys[:number]]:
                raise JobError(f"{line}: `{key.value}` is given twice")
        loader.flatten_mapping(node)
        fields: dict[str, Any] = {}
        for key, value in node.value:
            fields[key.value] = _plain(path, loader, value, (*at, key.value), places)
            place = f"{path}: line {key.start_mark.line + 1}"
            places[(*at, key.value)] = places[(*at, key.value)]._replace(text=place)
        return fields
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, loader, item, (*at, index), places) for index, item in enumerate(node.value)]
    return _scalar(loader, node, at)


def _scalar(loader: yaml.SafeLoader, node: yaml.Node, at: FieldPath) -> Any:
    """A version written without quotes stays text: 3.10 is no number here."""
    kept_as_text = (
        (len(at) == 2 and at[0] in _TEXT_FIELDS)
        or (len(at) == 1 and at[0] in _VERSION_FIELDS)
        # To YAML 1:30:00 is a number, and 007 another account.
        or (len(at) == 3 and at[:2] == ("compute_target", "slurm"))
    )
    if kept_as_text and node.tag != "tag:yaml.org,2002:null":
        return node.value
    try:
        return loader.construct_object(node)
    except ValueError:  # 2024-02-30 looks like a date and is none
        return node.value


def _apply(fields: dict[str, Any], change: str, places: Places) -> None:
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
    places[tuple(parts)] = Place("--set", text)
