"""A compute target written into a stack's file: comments stay, and nothing is written that the checks refuse."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.settings.error import PROJECT, SettingsError, command, full_key, listed, shown
from infra.settings.model import Cluster, Settings, settings_from
from infra.settings.stack_files import stack_values

if TYPE_CHECKING:
    from yaml import Node

KEYS = (f"{PROJECT}:clusters", "clusters")


def add_cluster(path: Path, given: Mapping[str, Any]) -> tuple[Cluster, bool]:
    """
    The cluster as the stack then has it, and whether the file had to be changed.

    path: stacks/Pulumi.<stack>.yaml; given: `name`, `vmSize` and what else a cluster may set, as the file says it.
    Raises SettingsError for what no stack may set, and where a cluster of that name is another one.
    """
    values, location = stack_values(path)
    there = settings_from(values, location).clusters
    names = [cluster.name for cluster in there]
    if "clusters" in values and given["name"] in names:
        index = names.index(given["name"])
        items = [dict(given) if at == index else item for at, item in enumerate(values["clusters"])]
        asked = settings_from({**values, "clusters": items}, location).clusters[index]
        _check_same(index, there[index], asked, given)
        return there[index], False
    # What holds where the file says nothing has to be said once it says something.
    others = [] if "clusters" in values else [{"name": name} for name in names if name != given["name"]]
    made = settings_from({**values, "clusters": [*values.get("clusters", others), given]}, location).clusters[-1]
    # As the catalogue writes its size, not as it was given.
    save(path, with_clusters(path, [*others, {**given, "vmSize": made.vm_size}]))
    return made, True


def save(path: Path, text: str) -> Settings:
    """The settings of a stack's file, which has this text then. Raises SettingsError before anything is written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        found = settings_from(*stack_values(draft))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return found


def stack_of(folder: Path, workspace: str, location: str) -> str:
    """
    The stack that made a workspace, of those in stacks/: the only one with its name in its region.

    Raises SettingsError when there is none, or more than one.
    """
    stacks = sorted(folder.glob("Pulumi.*.yaml"))
    found, all_names = [], [path.name.split(".")[1] for path in stacks]
    for path, name in zip(stacks, all_names, strict=True):
        values, region = stack_values(path)
        if (values.get("workspaceName", PROJECT), region) == (workspace, location):
            found.append(name)
    if len(found) == 1:
        return found[0]
    which = (
        f"{listed(found, 'and')} are of that name and region" if found else f"there are {listed(all_names, 'and')}"
    )
    raise SettingsError(
        "TYARD_STACK",
        "not set",
        f"`{workspace}` in {location} is not one stack's: {which}.",
        "export TYARD_STACK=...",
    )


def _check_same(index: int, there: Cluster, asked: Cluster, given: Mapping[str, Any]) -> None:
    """Whether a cluster that is there is as it was asked for, in what was asked for."""
    for field in msgspec.structs.fields(Cluster):
        has, wants = getattr(there, field.name), getattr(asked, field.name)
        if field.encode_name in given and has != wants:
            path = f"clusters[{index}].{field.encode_name}"
            raise SettingsError(
                full_key(path),
                shown(has),
                f"{shown(wants)} was asked for, and the stack has a cluster `{there.name}` already.",
                f"Change it with `{command(path, wants)}`, or give the new one another name.",
            )


def with_clusters(path: Path, clusters: Sequence[Mapping[str, Any]]) -> str:
    """The file's text with the clusters after those that it has."""
    import yaml

    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text)
    config = value_of(root, ("config",))
    if not isinstance(config, yaml.MappingNode) or config.flow_style:
        raise SettingsError(path.name, "no `config:` with keys below it", "Clusters are a key of it.", "Add it.")
    known = value_of(config, KEYS)
    if known is None:
        indent = " " * config.start_mark.column
        new = [f"{indent}{KEYS[0]}:", *_items(f"{indent}  ", clusters)]
        at = last_line(config)
    elif isinstance(known, yaml.SequenceNode) and not known.flow_style:
        new, at = _items(" " * known.start_mark.column, clusters), last_line(known)
    else:
        raise SettingsError(KEYS[0], "written on one line", "A cluster more is a line more.", "Write it as a list.")
    return "\n".join([*lines[: at + 1], *new, *lines[at + 1 :]]) + "\n"


def _items(indent: str, clusters: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for cluster in clusters:
        for number, (key, value) in enumerate(cluster.items()):
            lines.append(f"{indent}{'  ' if number else '- '}{key}: {scalar(value)}")
    return lines


def scalar(value: object) -> str:
    """A value as PyYAML writes it: `on` and `1e3` are texts in quotes."""
    import yaml

    return str(yaml.safe_dump(value, default_flow_style=True)).splitlines()[0]


def value_of(node: Node | None, keys: Sequence[str]) -> Node | None:
    """The value of the first of these keys that a mapping has."""
    pairs: list[tuple[Any, Node]] = node.value if hasattr(node, "value") and isinstance(node.value, list) else []  # type: ignore[union-attr]
    return next((value for key, value in pairs if getattr(key, "value", None) in keys), None)


def last_line(node: Node) -> int:
    """The line that the last word of a node is on: its own end may be below comments that follow."""
    if isinstance(node.value, list) and node.value:
        last = node.value[-1]
        return last_line(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line)
