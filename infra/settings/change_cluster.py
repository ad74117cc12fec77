"""A compute target changed in a stack's file, or taken out of it; lines about others stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.settings.add_cluster import KEYS, last_line, save, scalar, value_of, with_clusters
from infra.settings.error import SettingsError, command, full_key, listed, nearest, shown
from infra.settings.model import Cluster, settings_from
from infra.settings.stack_files import stack_values

if TYPE_CHECKING:
    from yaml import MappingNode


def change_cluster(path: Path, given: Mapping[str, Any]) -> tuple[Cluster, bool]:
    """
    The cluster as the stack then has it, and whether the file had to be changed.

    path: stacks/Pulumi.<stack>.yaml; given: `name`, and the keys that are to have other values.
    Raises SettingsError where there is no such cluster, and for what no stack may set.
    """
    index, values, location = _find(path, str(given["name"]))
    there = settings_from(values, location).clusters
    if "clusters" in values:
        items = [{**item, **given} if at == index else item for at, item in enumerate(values["clusters"])]
    else:
        items = [{"name": cluster.name} | (dict(given) if at == index else {}) for at, cluster in enumerate(there)]
    asked = settings_from({**values, "clusters": items}, location).clusters[index]
    if asked == there[index]:
        return asked, False
    if "clusters" not in values:
        save(path, with_clusters(path, items))
        return asked, True
    for key, value in given.items():
        node = _node(path, index)
        if node is None:
            first = next(key for key in given if key != "name")
            raise SettingsError(
                full_key(f"clusters[{index}]"),
                "written on one line",
                "Only a list of lines can be changed without touching the rest.",
                f"Change it with `{command(f'clusters[{index}].{first}', given[first])}`.",
            )
        save(path, _with_value(path.read_text(encoding="utf-8"), node, key, value))
    return asked, True


def remove_cluster(path: Path, name: str) -> None:
    """Take a cluster out. Raises SettingsError where there is none of that name, or where no other would be left."""
    index, values, _ = _find(path, name)
    node = _node(path, index)
    if node is None or len(values["clusters"]) == 1:
        raise SettingsError(
            full_key("clusters"),
            f"only `{name}`" if node is not None or "clusters" not in values else "written on one line",
            "A cluster is taken out of a list of several lines, and one stays.",
            "A workspace without any is made by hand: `tensoryard:clusters: []`.",
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    first, last = node.start_mark.line, last_line(node)
    # The comment above it is about it.
    while lines[first - 1].lstrip().startswith("#") and _indent(lines[first - 1]) >= node.start_mark.column - 2:
        first -= 1
    save(path, "\n".join([*lines[:first], *lines[last + 1 :]]) + "\n")


def _find(path: Path, name: str) -> tuple[int, dict[str, Any], str | None]:
    """Which cluster of a stack's file has a name, with the values that the file sets."""
    values, location = stack_values(path)
    names = [cluster.name for cluster in settings_from(values, location).clusters]
    if name not in names:
        near = nearest(name, names)
        raise SettingsError(
            full_key("clusters"),
            listed(names, "and") or "empty",
            f"There is no cluster {shown(name)} in {path.name}.",
            f"Did you mean `{near}`?" if near else "`tyard cluster create` adds one.",
        )
    return names.index(name), values, location


def _node(path: Path, index: int) -> MappingNode | None:
    """A cluster in the file's text; None where it has no lines of its own."""
    import yaml

    root = yaml.compose(path.read_text(encoding="utf-8"))
    found = value_of(value_of(root, ("config",)), KEYS)
    if not isinstance(found, yaml.SequenceNode) or found.flow_style:
        return None
    node = found.value[index]
    return node if isinstance(node, yaml.MappingNode) and not node.flow_style else None


def _with_value(text: str, node: MappingNode, key: str, value: object) -> str:
    there = value_of(node, (key,))
    if there is not None:
        return text[: there.start_mark.index] + scalar(value) + text[there.end_mark.index :]
    lines = text.splitlines()
    at = last_line(node) + 1
    return "\n".join([*lines[:at], f"{' ' * node.start_mark.column}{key}: {scalar(value)}", *lines[at:]]) + "\n"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
