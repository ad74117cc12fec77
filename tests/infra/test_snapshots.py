"""
What each stack declares, kept as JSON, and what its machines boot with.

`tests/infra/snapshots/` holds the expected text; `pytest tests/infra/test_snapshots.py --update-golden` records it
anew, prints what changed and ends red.
"""

import base64
import difflib
import json
from pathlib import Path
from typing import Any

import pytest

from infra import node_config
from infra.review.declare import Declared, declare

ROOT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).parent / "snapshots"
# Azure retired the size of that stack, and the program refuses it unless it is told to go on.
STACKS: dict[str, dict[str, Any]] = {"dev": {}, "prod": {}, "nc6": {"allowRetiredSizes": True}}
CASES = [f"{stack}.json" for stack in STACKS] + ["head.yaml", "worker.yaml"]


def plain_boot_data(value: Any) -> Any:
    """Inputs with what the machines are told in plain text: JSON as it is, the cloud-config by its name."""
    if isinstance(value, list):
        return [plain_boot_data(item) for item in value]
    if not isinstance(value, dict):
        return value
    told = {key: plain_boot_data(item) for key, item in value.items()}
    if "userData" in told:
        told["userData"] = json.loads(base64.b64decode(told["userData"]))
    for kind in ("head", "worker"):
        if told.get("customData") == node_config.custom_data(kind):  # type: ignore[arg-type]
            told["customData"] = f"base64 of {kind}.yaml"
    return told


def about(resource: Declared) -> dict[str, Any]:
    """A resource without what follows from the rest or from where the program's lines are."""
    facts: dict[str, Any] = {
        "type": resource.type,
        "name": resource.name,
        "parent": (resource.parent or "").rpartition("::")[2],
        "inputs": plain_boot_data(resource.inputs),
        "protect": resource.protect,
        "ignoreChanges": list(resource.ignore_changes),
        "replaceOnChanges": list(resource.replace_on_changes),
        "deleteBeforeReplace": resource.delete_before_replace,
    }
    if resource.type == "pulumi:pulumi:Stack":
        facts["outputs"] = resource.outputs
    return {key: value for key, value in facts.items() if value not in (False, [], "", {})}


def made(case: str) -> str:
    name, _, kind = case.partition(".")
    if kind == "yaml":
        return node_config.cloud_config(name)  # type: ignore[arg-type]
    resources = sorted(declare(ROOT, name, STACKS[name]), key=lambda resource: (resource.type, resource.name))
    return json.dumps([about(resource) for resource in resources], indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_what_is_declared_is_what_was_recorded(case: str, update_golden: bool) -> None:
    path = SNAPSHOTS / case
    expected, found = path.read_text(encoding="utf-8") if path.exists() else "", made(case)
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), found.splitlines(), f"snapshots/{case}", "declared", lineterm="")
    )
    if update_golden and difference:
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
        print(f"recorded {path}\n{difference}")

    again = "pytest tests/infra/test_snapshots.py --update-golden"
    assert expected == found, f"{difference}\nif that is meant: {again}"


def test_no_snapshot_is_left_unused() -> None:
    assert sorted(CASES) == sorted(path.name for path in SNAPSHOTS.iterdir())
