"""
The declared resources as an ARM template, for scanners that read those and no Pulumi program.

    python -m infra.review.arm --stack dev > template.json

The template is there to be read, not deployed: Pulumi is what deploys. azure-native's inputs are ARM's, flattened:
what stands under `properties` in ARM stands beside `name` there. Here it is put back, at the top and in the lists
of nested resources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.policy.rules import Resource, plain_type

SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"

# The versions that azure-native 3.29 uses where the program asks for none; its Python classes do not tell them.
API_VERSIONS = {
    "Microsoft.Authorization": "2022-04-01",
    "Microsoft.Compute": "2024-11-01",
    "Microsoft.ContainerRegistry": "2023-01-01-preview",
    "Microsoft.Insights": "2021-05-01-preview",
    "Microsoft.KeyVault": "2024-11-01",
    "Microsoft.ManagedIdentity": "2023-01-31",
    "Microsoft.Network": "2024-05-01",
    "Microsoft.OperationalInsights": "2023-09-01",
    "Microsoft.Resources": "2024-03-01",
    "Microsoft.Storage": "2024-01-01",
}

# Fields of a resource that ARM keeps beside `properties`.
# Source: https://learn.microsoft.com/azure/azure-resource-manager/templates/resource-declaration
_BESIDE = frozenset({"location", "tags", "sku", "kind", "identity", "zones", "plan", "extendedLocation", "scope"})
_SKU_IS_A_PROPERTY = frozenset({"azure-native:operationalinsights:Workspace"})
# Inputs that only say where the resource stands: its name, scope or resource group, which ARM reads from elsewhere.
_PLACES = frozenset({"resourceGroupName", "resourceUri"})

# Lists whose items are resources of their own, flattened in the same way.
_NESTED = frozenset(
    {
        "securityRules",
        "subnets",
        "ipConfigurations",
        "networkInterfaceConfigurations",
        "privateLinkServiceConnections",
        "manualPrivateLinkServiceConnections",
        "privateDnsZoneConfigs",
        "extensions",
        "delegations",
    }
)
# Fields that azure-native calls otherwise than ARM does (`x-ms-client-name` in Azure's REST specifications).
_ARM_NAMES = {
    "azure-native:storage:StorageAccount": {
        "enableHttpsTrafficOnly": "supportsHttpsTrafficOnly",
        "networkRuleSet": "networkAcls",
        "iPAddressOrRange": "value",
        "virtualNetworkResourceId": "id",
    },
    "azure-native:containerregistry:Registry": {"iPAddressOrRange": "value"},
}
_NESTED_SINGLE = frozenset({"publicIPAddressConfiguration"})
# Left out: checkov's patterns for secrets (CKV_AZURE_45) take minutes over one long word of base64, and see nothing
# in it. The policy's own rule `secret-in-boot-data` decodes it.
_BOOT_DATA = frozenset({"customData", "userData"})
_NESTED_BESIDE = frozenset({"name", "id", "sku", "zones", "tags", "type"})


def template(declared: Iterable[Resource]) -> dict[str, Any]:
    """
    An ARM template with every Azure resource among those declared, in their order.

    Components, exceptions and the stack itself have no ARM form and are left out.
    """
    return {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "resources": [_resource(resource) for resource in declared if resource.type.startswith("azure-native:")],
    }


def _resource(resource: Resource) -> dict[str, Any]:
    scope, type_, name = _from_id(resource.id)
    type_in_sdk = plain_type(resource.type)
    segments = {segment.lower() for segment in resource.id.split("/")}
    rendered: dict[str, Any] = {
        "type": type_,
        "apiVersion": API_VERSIONS.get(type_.partition("/")[0], "2024-01-01"),
        "name": name,
    }
    if scope:
        rendered["scope"] = scope
    properties: dict[str, Any] = {}
    for key, value in resource.inputs.items():
        if key in _PLACES or (key.endswith("Name") and isinstance(value, str) and value.lower() in segments):
            continue
        if key in _BESIDE and not (key == "sku" and type_in_sdk in _SKU_IS_A_PROPERTY):
            if key != "scope":
                rendered[key] = _identity(value) if key == "identity" else _escaped(value)
        elif key == "properties" and isinstance(value, Mapping):
            properties |= _nested(value)
        else:
            properties[key] = _nested(value, key)
    if properties:
        rendered["properties"] = _renamed(properties, _ARM_NAMES.get(type_in_sdk, {}))
    return rendered


def _from_id(id_: str) -> tuple[str, str, str]:
    """
    The scope ("" for what stands in a resource group), type and name that an Azure id tells.

    `…/providers/Microsoft.Storage/storageAccounts/a/blobServices/default` has the type
    `Microsoft.Storage/storageAccounts/blobServices` and the name `a/default`.
    """
    before, _, after = id_.rpartition("/providers/")
    if not before:
        return "", "Microsoft.Resources/resourceGroups", id_.rpartition("/")[2]
    provider, *rest = after.split("/")
    in_group = re.fullmatch(r"/subscriptions/[^/]+/resourceGroups/[^/]+", before, re.IGNORECASE)
    return "" if in_group else before, "/".join([provider, *rest[::2]]), "/".join(rest[1::2])


def _nested(value: object, key: str = "") -> Any:
    """A value with the `properties` of the resources nested in it put back."""
    if key in _BOOT_DATA and isinstance(value, str):
        digest = hashlib.sha256(value.encode()).hexdigest()
        return f"left out: {len(value)} characters, sha256 {digest}"
    if isinstance(value, Mapping):
        inner = {name: _nested(item, name) for name, item in value.items()}
        return _with_properties(inner) if key in _NESTED_SINGLE else inner
    if isinstance(value, list | tuple):
        items = [_nested(item) for item in value]
        return [_with_properties(item) if key in _NESTED and isinstance(item, dict) else item for item in items]
    return _escaped(value)


def _with_properties(flat: dict[str, Any]) -> dict[str, Any]:
    beside = {key: value for key, value in flat.items() if key in _NESTED_BESIDE}
    return beside | {"properties": {key: value for key, value in flat.items() if key not in _NESTED_BESIDE}}


def _renamed(value: object, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value


def _identity(value: object) -> Any:
    """ARM maps an identity's id to an empty object; azure-native takes a list of ids."""
    if isinstance(value, Mapping) and isinstance(value.get("userAssignedIdentities"), list | tuple):
        return {**value, "userAssignedIdentities": {id_: {} for id_ in value["userAssignedIdentities"]}}
    return value


def _escaped(value: object) -> Any:
    """Plain values as they are; a text that begins with `[` would be an expression in a template."""
    if isinstance(value, str):
        return f"[{value}" if value.startswith("[") else value
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def main() -> None:
    """Print one stack's template."""
    from infra.review.declare import declare

    parser = argparse.ArgumentParser(prog="python -m infra.review.arm", description=main.__doc__)
    parser.add_argument("--stack", required=True, help="stack whose settings are read, such as dev")
    parser.add_argument("--root", type=Path, default=Path(), help="checkout that holds Pulumi.yaml")
    options = parser.parse_args()
    json.dump(template(declare(options.root.resolve(), options.stack)), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
