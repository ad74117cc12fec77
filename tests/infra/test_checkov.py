"""
checkov over the ARM template of each stack: it fails nothing that `infra/policy/checkov_skips.yaml` does not explain.

checkov knows nothing of Pulumi programs; `infra.review.arm` puts what the program declares into the form it reads.
It runs in an environment of its own, which `tools/tool-venv` makes from requirements/checkov.txt.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.review.arm import template
from infra.review.declare import Declared

ROOT = Path(__file__).parents[2]
STACKS = ("dev", "prod")
Declaring = Callable[[str | Mapping[str, Any]], list[Declared]]


@pytest.fixture(scope="module")
def checkov() -> Path:
    made = subprocess.run(
        [ROOT / "tools" / "tool-venv", "checkov", sys.executable], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(made.stdout.strip()) / "bin" / "checkov"


def skips(stack: str) -> set[str]:
    table = yaml.safe_load((ROOT / "infra" / "policy" / "checkov_skips.yaml").read_text("utf-8"))
    return {check for check, entry in table.items() if stack in entry["stacks"]}


@pytest.mark.parametrize("stack", STACKS)
def test_every_failed_check_has_a_reason_and_every_reason_a_failed_check(
    checkov: Path, declared: Declaring, stack: str, tmp_path: Path
) -> None:
    resources = template(declared(stack))
    (tmp_path / "template.json").write_text(json.dumps(resources, indent=2), "utf-8")

    told = subprocess.run(
        [checkov, "-d", tmp_path, "--framework", "arm", "--skip-download", "--output", "json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    report = json.loads(told.stdout)

    assert report["results"]["parsing_errors"] == []
    assert len({check["resource"] for check in report["results"]["passed_checks"]}) > 10
    failed = {check["check_id"]: check["resource"] for check in report["results"]["failed_checks"]}
    assert {check: where for check, where in failed.items() if check not in skips(stack)} == {}
    assert skips(stack) - set(failed) == set()


def test_every_reason_is_a_sentence_about_known_stacks() -> None:
    table = yaml.safe_load((ROOT / "infra" / "policy" / "checkov_skips.yaml").read_text("utf-8"))

    for check, entry in table.items():
        assert check.startswith("CKV_AZURE_")
        assert entry.keys() == {"check", "stacks", "because"}
        assert set(entry["stacks"]) <= set(STACKS)
        assert len(entry["because"].split()) >= 8


# -- the template


def of(type_: str, id_: str, **inputs: Any) -> dict[str, Any]:
    """The one resource of a template of one declared resource."""
    one = Declared(urn="urn", type=f"azure-native:{type_}", name="it", id=id_, inputs=inputs)
    (rendered,) = template([one])["resources"]
    return dict(rendered)


GROUP = "/subscriptions/s/resourceGroups/g"


def test_properties_are_put_back_at_the_top_and_in_nested_resources() -> None:
    nic = {"name": "only", "primary": True, "ipConfigurations": [{"name": "ip", "subnet": {"id": "x"}}]}

    rendered = of(
        "compute:VirtualMachineScaleSet",
        f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/gpu1",
        resourceGroupName="g",
        location="westeurope",
        sku={"name": "Standard_NC4as_T4_v3", "capacity": 0},
        identity={"type": "UserAssigned", "userAssignedIdentities": ["/id"]},
        orchestrationMode="Flexible",
        virtualMachineProfile={"networkProfile": {"networkInterfaceConfigurations": [nic]}},
    )

    assert rendered == {
        "type": "Microsoft.Compute/virtualMachineScaleSets",
        "apiVersion": "2024-11-01",
        "name": "gpu1",
        "location": "westeurope",
        "sku": {"name": "Standard_NC4as_T4_v3", "capacity": 0},
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {"/id": {}}},
        "properties": {
            "orchestrationMode": "Flexible",
            "virtualMachineProfile": {
                "networkProfile": {
                    "networkInterfaceConfigurations": [
                        {
                            "name": "only",
                            "properties": {
                                "primary": True,
                                "ipConfigurations": [{"name": "ip", "properties": {"subnet": {"id": "x"}}}],
                            },
                        }
                    ]
                }
            },
        },
    }


def test_a_child_and_an_extension_resource_are_named_and_placed_as_in_arm() -> None:
    account = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/acc1"
    container = of(
        "storage:BlobContainer",
        f"{account}/blobServices/default/containers/runs",
        accountName="acc1",
        containerName="runs",
        resourceGroupName="g",
        publicAccess="None",
    )
    lock = of(
        "authorization:ManagementLockByScope",
        f"{account}/providers/Microsoft.Authorization/locks/keep",
        scope=account,
        lockName="keep",
        level="CanNotDelete",
    )

    assert container == {
        "type": "Microsoft.Storage/storageAccounts/blobServices/containers",
        "apiVersion": "2024-01-01",
        "name": "acc1/default/runs",
        "properties": {"publicAccess": "None"},
    }
    assert lock == {
        "type": "Microsoft.Authorization/locks",
        "apiVersion": "2022-04-01",
        "name": "keep",
        "scope": account,
        "properties": {"level": "CanNotDelete"},
    }


def test_fields_that_the_sdk_renames_get_their_arm_names_back() -> None:
    rendered = of(
        "storage:StorageAccount",
        f"{GROUP}/providers/Microsoft.Storage/storageAccounts/acc1",
        enableHttpsTrafficOnly=True,
        networkRuleSet={"defaultAction": "Deny", "ipRules": [{"iPAddressOrRange": "203.0.113.0/24"}]},
    )

    assert rendered["properties"] == {
        "supportsHttpsTrafficOnly": True,
        "networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.0/24"}]},
    }


def test_a_text_that_would_be_an_expression_is_escaped_and_boot_data_left_out() -> None:
    rendered = of(
        "compute:VirtualMachine",
        f"{GROUP}/providers/Microsoft.Compute/virtualMachines/head1",
        osProfile={"adminPassword": "[secret]", "customData": "I2Nsb3VkLWNvbmZpZwo="},
    )

    assert rendered["properties"]["osProfile"]["adminPassword"] == "[[secret]"
    assert rendered["properties"]["osProfile"]["customData"].startswith("left out: 20 characters, sha256 ")


def test_components_have_no_place_in_a_template() -> None:
    component = Declared(urn="urn", type="tensoryard:infra:Network", name="network", custom=False)

    assert template([component])["resources"] == []
