"""Declaring a program without Azure: what is written down, what is answered, and how a program fails."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.review import declare
from infra.review.azure_answers import Azure
from infra.review.declare import Declaration, Declared

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "programs" / "small"
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/"


@pytest.fixture(scope="module")
def small() -> dict[str, Declared]:
    return {resource.name: resource for resource in declare.declare(SMALL, "one")}


def test_outputs_are_in_azures_shape(small: dict[str, Declared]) -> None:
    workspace = small["tensoryard-one"].outputs["workspace"]
    account = small["storage"].outputs["name"]

    assert workspace == {
        "account": account,
        "blob": f"https://{account}.blob.core.windows.net/",
        "private": "10.40.1.4",
        "public": "203.0.113.10",
        "location": "westeurope",
        "labels": ["a", "b"],
        "identities": 1,
    }
    assert account.islower()
    assert account.isalnum()
    assert 3 <= len(account) <= 24


def test_ids_are_arm_paths(small: dict[str, Declared]) -> None:
    group = small["workspace"].id
    account = small["storage"].id

    assert group.startswith(GROUP)
    assert account == f"{group}/providers/Microsoft.Storage/storageAccounts/{small['storage'].outputs['name']}"
    assert small["grant"].id.startswith(f"{account}/providers/Microsoft.Authorization/roleAssignments/")
    assert small["grant"].inputs["scope"] == account


def test_identities_given_as_a_list_come_back_as_a_map(small: dict[str, Declared]) -> None:
    identity = small["nodes"].outputs["identity"]["userAssignedIdentities"]

    assert small["nodes"].inputs["identity"]["userAssignedIdentities"] == [small["head"].id]
    assert list(identity) == [small["head"].id]
    assert identity[small["head"].id]["principalId"] == small["head"].outputs["principalId"]
    assert small["grant"].inputs["principalId"] == small["head"].outputs["principalId"]


def test_options_are_written_down(small: dict[str, Declared]) -> None:
    box = small["box"]

    assert small["storage"].protect
    assert small["storage"].parent == box.urn
    assert not box.custom
    assert box.outputs == {"account": small["storage"].outputs["name"]}
    assert small["nodes"].ignore_changes == ("sku.capacity",)
    assert small["grant"].property_dependencies["scope"] == (small["storage"].urn,)
    assert small["head"].urn in small["grant"].dependencies
    assert small["storage"].aliases == ()


def test_whole_numbers_are_ints_and_secrets_are_hidden(small: dict[str, Declared]) -> None:
    inputs = small["nodes"].inputs

    assert isinstance(inputs["sku"]["capacity"], int)
    assert isinstance(inputs["platformFaultDomainCount"], int)
    assert inputs["virtualMachineProfile"]["osProfile"]["customData"] == "[secret]"
    assert "hush" not in str(small)


def test_places_in_the_source_are_the_programs(small: dict[str, Declared]) -> None:
    lines = (SMALL / "infra" / "__main__.py").read_text().splitlines()

    assert small["head"].file == "infra/__main__.py"
    assert "UserAssignedIdentity" in lines[small["head"].line - 1]
    assert "StorageAccount" in lines[small["storage"].line - 1]


def test_the_same_program_declares_the_same() -> None:
    assert declare.declare(SMALL, "one") == declare.declare(SMALL, "one")


def test_the_projects_defaults_apply_and_given_config_wins() -> None:
    assert declare.declaration(SMALL, "one").messages == ("size is 3",)
    assert declare.declaration(SMALL, "one", {"size": 5}).messages == ("size is 5",)


def test_a_refusal_of_settings_is_told_as_one() -> None:
    found = declare.declaration(SMALL, "one", {"size": 101})

    assert found.refused is not None
    assert (found.refused.key, found.refused.given) == ("tensoryard:size", "`101`")
    assert found.resources == ()


def test_a_broken_program_is_told_with_its_line() -> None:
    found = declare.declaration(SMALL, "one", {"size": 13})

    number = (SMALL / "infra" / "__main__.py").read_text().splitlines()
    line = next(at for at, text in enumerate(number, 1) if "thirteen" in text)
    assert found.broken == f"infra/__main__.py, line {line}: RuntimeError: thirteen is not a number we count to"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("storage.BlobContainer('c', resource_group_name='g', account_name=None)", "account_name"),
        ("resources.ResourceGroup('twice'); resources.ResourceGroup('twice')", "two resources have the URN"),
        (
            "storage.list_storage_account_keys_output(account_name='a', resource_group_name='g')",
            "listStorageAccountKeys",
        ),
        ("storage.StorageAccount.get('old', '/subscriptions/x')", "cannot be reviewed"),
    ],
)
def test_what_would_fail_in_azure_fails_here(tmp_path: Path, line: str, said: str) -> None:
    program = f"import pulumi\nfrom pulumi_azure_native import resources, storage\n{line}\n"

    found = declare.declaration(_program(tmp_path, program), None)

    assert found.broken is not None
    assert said in found.broken


def test_a_program_elsewhere_gets_its_own_modules(tmp_path: Path) -> None:
    """The base of a review is another checkout: its `infra.settings` is not this one's."""
    program = "import pulumi\nfrom infra import settings\npulumi.export('from', settings.HERE)\n"
    root = _program(tmp_path, program)
    (root / "infra" / "settings.py").write_text("HERE = 'elsewhere'\n")
    import infra.settings

    found = declare.declare(root, None)

    assert found[-1].outputs == {"from": "elsewhere"}
    assert sys.modules["infra.settings"] is infra.settings


def test_stack_config_is_read_as_the_cli_reads_it(tmp_path: Path) -> None:
    root = _program(tmp_path, "")
    (root / "Pulumi.yaml").write_text("name: p\nconfig:\n  a: {default: 1}\n  b: {value: x}\n  c: {type: string}\n")
    (root / "stacks").mkdir()
    (root / "stacks" / "Pulumi.s.yaml").write_text("config:\n  a: 2\n  azure-native:location: norwayeast\n")

    assert declare.stack_config(root, "s") == {"p:a": 2, "p:b": "x", "azure-native:location": "norwayeast"}
    assert declare.stacks(root) == ["s"]


def test_secrets_of_a_stack_are_never_needed(tmp_path: Path) -> None:
    program = "import pulumi\npulumi.export('it', pulumi.Config().require_secret('key'))\n"
    root = _program(tmp_path, program)
    (root / "stacks").mkdir()
    (root / "stacks" / "Pulumi.s.yaml").write_text("config:\n  p:key:\n    secure: v1:abc\n")

    assert declare.declare(root, "s")[-1].outputs == {"it": "[secret]"}


def test_the_module_prints_json_and_nothing_of_the_programs_own_output() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "infra.review.declare", "--root", SMALL, "one"]
    done = subprocess.run(argv, capture_output=True, check=True, cwd=ROOT, env=environment)

    found = msgspec.json.decode(done.stdout, type=list[Declaration])
    assert [declaration.stack for declaration in found] == ["one"]
    assert json.loads(done.stdout)[0]["resources"]
    assert b"a print of the program" in done.stderr


def test_every_stack_of_this_checkout_declares(declared: Callable[[Any], list[Declared]]) -> None:
    for stack in ("dev", "prod"):
        found = declared(stack)

        urns = [resource.urn for resource in found]
        assert len(urns) == len(set(urns))
        assert found[-1].type == declare.STACK_TYPE
        assert {"workspace", "access"} <= found[-1].outputs.keys()
        assert all(resource.file.startswith("infra/") for resource in found[:-1])
        assert all(resource.id.startswith("/subscriptions/") for resource in found if resource.custom)


def test_addresses_are_handed_out_one_after_the_other() -> None:
    azure = Azure("westeurope")
    net = {"resourceGroupName": "g", "subnets": [{"name": "s", "addressPrefix": "10.0.0.0/24"}]}
    id_, _ = azure.answer("u1", "azure-native:network:VirtualNetwork", "net", net)
    nic = {"resourceGroupName": "g", "ipConfigurations": [{"name": "c", "subnet": {"id": f"{id_}/subnets/s"}}]}

    found = [azure.answer(f"n{at}", "azure-native:network:NetworkInterface", f"n{at}", nic)[1] for at in range(2)]

    assert [one["ipConfigurations"][0]["privateIPAddress"] for one in found] == ["10.0.0.4", "10.0.0.5"]


def _program(folder: Path, text: str) -> Path:
    (folder / "infra").mkdir()
    (folder / "infra" / "__main__.py").write_text(text)
    (folder / "Pulumi.yaml").write_text("name: p\n")
    return folder
