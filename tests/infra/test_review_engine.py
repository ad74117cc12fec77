"""The review foretells what the real engine does: both are given the same change of settings."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.review.changes import Change, compare
from infra.review.create_only import short_type
from infra.review.declare import declare
from services.engine import Engine, Outcome
from services.engine_fixtures import new_engine, pulumi_cli

__all__ = ["new_engine", "pulumi_cli"]

# The first test of a machine may build the CLI.
pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGc2Qf3aPzWkE2p5nY0bT1fR4sVd6hJ8kLmN9oQrSt0u me"

KINDS = {"create": "created", "update": "changed", "replace": "replaced", "delete": "removed"}

CHANGES: dict[str, dict[str, Any]] = {
    "in place": {"storageRedundancy": "ZRS", "maxNodes": 8, "modelsImmutableDays": 30, "blobVersioning": True},
    "private endpoints": {"privateEndpoints": True, "registrySku": "Premium"},
}

REFUSED: dict[str, dict[str, Any]] = {
    "another priority": {"spot": False},
    "another key": {"sshSources": ["198.51.100.0/24"], "sshPublicKey": KEY},
}


def settings_with(config: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A stack's config with these keys changed; maxNodes and spot are the first cluster's."""
    made = dict(config)
    for key, value in change.items():
        if key in ("maxNodes", "spot"):
            first, *rest = made["tensoryard:clusters"]
            made["tensoryard:clusters"] = [{**first, key: value}, *rest]
        else:
            made[key if ":" in key else f"tensoryard:{key}"] = value
    return made


@pytest.fixture(scope="module")
def engine(new_engine: Any) -> Engine:
    """An engine whose stack dev is up."""
    made: Engine = new_engine()
    assert made.up("dev").error == ""
    return made


def apply(engine: Engine, change: dict[str, Any]) -> tuple[list[Change], Outcome]:
    """What the review foretells of a change of settings, and what `up` does with it. A failed one is undone."""
    path = engine.project / "stacks" / "Pulumi.dev.yaml"
    written = path.read_text("utf-8")
    document = yaml.safe_load(written)
    config = settings_with(document["config"], change)
    foretold = compare(declare(ROOT, "dev", document["config"]), declare(ROOT, "dev", config))
    path.write_text(yaml.safe_dump({**document, "config": config}), "utf-8")
    kept = engine.folder / "kept"
    for part in ("state", "azure"):
        shutil.copytree(engine.folder / part, kept / part)
    done = engine.up("dev")
    if done.error:
        # Not by another update, which takes as long as the one that is looked at.
        path.write_text(written, "utf-8")
        for part in ("state", "azure"):
            shutil.rmtree(engine.folder / part)
            (kept / part).rename(engine.folder / part)
    shutil.rmtree(kept)
    return foretold, done


@pytest.mark.parametrize("change", CHANGES)
def test_review_foretells_what_the_engine_does(engine: Engine, change: str) -> None:
    """Not what it previews: it then takes every output of a changed resource for unknown."""
    foretold, done = apply(engine, CHANGES[change])

    assert done.error == ""
    happened = {(name, KINDS[step]) for name, step in done.steps if step in KINDS and "tensoryard:" not in name}
    assert {(f"{short_type(one.type)} {one.name}", one.kind) for one in foretold} == happened


@pytest.mark.parametrize("change", REFUSED)
def test_review_foretells_what_azure_refuses(engine: Engine, change: str) -> None:
    foretold, done = apply(engine, REFUSED[change])

    refused = [found.path for one in foretold for found in one.properties if found.effect == "refused"]
    replaced = [one.name for one in foretold if one.kind == "replaced"]
    assert refused or replaced, "the program may come to replace what Azure refuses to update"
    assert bool(refused) == ("is not allowed" in done.error)
    assert not refused or any(path in done.error for path in refused)
