"""Pulumi.yaml, the code's settings, the docs' table and the stacks say the same."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import Settings, SettingsError, settings_from, stack_values
from infra.settings.notes import notes
from infra.settings.table import BEGIN, END, Row, markdown, rows

ROOT = Path(__file__).parents[2]
STACKS = ("dev", "prod", "nc6")
TOP = [row for row in rows() if ":" not in row.key and "[]" not in row.key]


def project() -> dict[str, Any]:
    """Pulumi.yaml."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    return read


def stack(name: str) -> tuple[dict[str, Any], str | None]:
    """What a stack's file sets."""
    return stack_values(ROOT / "stacks" / f"Pulumi.{name}.yaml")


def test_project_names_the_program_and_its_stacks() -> None:
    read = project()

    assert read["name"] == "tensoryard"
    assert read["main"] == "infra"
    assert read["stackConfigDir"] == "stacks"
    assert read["runtime"] == {"name": "python", "options": {"toolchain": "pip", "virtualenv": ".venv"}}
    assert read["description"]


def test_project_declares_every_setting_and_no_other() -> None:
    assert [row.key for row in TOP] == list(project()["config"])


@pytest.mark.parametrize("row", TOP, ids=[row.key for row in TOP])
def test_project_declares_a_setting_as_the_code_does(row: Row) -> None:
    declared = project()["config"][row.key]

    assert declared["type"] == row.kind
    assert declared["description"] == row.meaning
    # Pulumi refuses a stack without a value for a key that has no default, so none is written as an empty text.
    assert declared["default"] == ("" if row.default is None else row.default)
    assert ("items" in declared) == (row.kind == "array")


def test_defaults_of_the_project_file_are_the_code_s() -> None:
    defaults = {key: declared["default"] for key, declared in project()["config"].items()}

    assert settings_from(defaults, "eastus") == Settings(location="eastus")


def test_every_setting_is_described() -> None:
    assert [row.key for row in rows() if not row.meaning] == []


def test_docs_hold_the_table_of_settings() -> None:
    text = (ROOT / "docs" / "infrastructure.md").read_text()
    table = text.split(BEGIN)[1].split(END)[0].strip()

    assert markdown().strip() == table, "write the output of `python -m infra.settings --markdown` there"


def test_command_prints_the_table() -> None:
    command = [sys.executable, "-m", "infra.settings", "--markdown"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == markdown()


@pytest.mark.parametrize("name", STACKS)
def test_stack_sets_only_what_the_project_declares(name: str) -> None:
    values, location = stack(name)

    assert location == "eastus"
    assert set(values) <= set(project()["config"])


@pytest.mark.parametrize("name", STACKS)
def test_stack_explains_each_of_its_choices(name: str) -> None:
    lines = (ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text().splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if line.startswith("  ") and line.lstrip().startswith("tensoryard:") and not before.lstrip().startswith("#")
    ]

    # Clusters explain their own keys.
    assert [line.strip() for line in bare if not line.endswith("clusters:")] == []


def test_dev_is_cheap() -> None:
    settings = settings_from(*stack("dev"))

    assert settings.storage_redundancy == "LRS"
    assert settings.registry_sku == "Basic"
    assert not settings.protect_data
    assert all(cluster.spot and cluster.ephemeral_os_disk for cluster in settings.clusters)


def test_prod_is_hard_to_lose() -> None:
    settings = settings_from(*stack("prod"))

    assert settings.storage_redundancy == "ZRS"
    assert settings.zones == ("1", "2", "3")
    assert settings.private_endpoints
    assert settings.registry_sku == "Premium"
    assert settings.protect_data
    assert settings.models_immutable_days == 30
    assert settings.blob_versioning
    assert settings.encryption_at_host
    assert not [cluster for cluster in settings.clusters if cluster.spot]


def test_nc6_is_refused_with_its_successor() -> None:
    with pytest.raises(SettingsError) as caught:
        settings_from(*stack("nc6"))

    assert caught.value.key == "tensoryard:clusters[0].vmSize"
    assert "Standard_NC4as_T4_v3" in caught.value.how


def test_nc6_needs_only_to_be_allowed() -> None:
    values, location = stack("nc6")

    settings = settings_from({**values, "allowRetiredSizes": True}, location)

    assert settings.clusters[0].vm_size == "Standard_NC6"
    assert any("retired" in note for note in notes(settings))
