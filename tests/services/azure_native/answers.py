"""How Azure answers: what was asked for in its own shape, and what it adds, made up once and kept from then on."""

import ipaddress
import uuid
from datetime import UTC, datetime
from typing import Any

from . import sdk_types
from .cloud import Cloud, Record
from .compare import at
from .kinds import TENANT, arm_type


def answer_to(cloud: Cloud, token: str, id_: str, inputs: dict[str, Any], before: Record | None) -> dict[str, Any]:
    """The resource as Azure returns it: what was asked for, and what Azure adds; made up once, kept from then on."""
    known = sdk_types.outputs_of(token)
    old = before["properties"] if before else {}
    given = {key: value for key, value in inputs.items() if key in known}
    made = {"name": id_.rpartition("/")[2], "type": arm_type(id_), "provisioningState": "Succeeded"}
    answer = given | {key: value for key, value in made.items() if key in known}
    if "identity" in given:
        answer["identity"] = _identity(cloud, given["identity"], old.get("identity") or {})
    name = id_.rpartition("/")[2]
    location = inputs.get("location")
    match token.removeprefix("azure-native:"):
        case "managedidentity:UserAssignedIdentity":
            for key in ("principalId", "clientId"):
                answer[key] = old.get(key) or str(uuid.uuid4())
            answer["tenantId"] = TENANT
        case "storage:StorageAccount":
            services = ("blob", "dfs", "file", "queue", "table", "web")
            answer["primaryEndpoints"] = {each: f"https://{name}.{each}.core.windows.net/" for each in services}
            answer |= {"primaryLocation": location, "statusOfPrimary": "available"}
            answer["creationTime"] = old.get("creationTime") or _now()
        case "containerregistry:Registry":
            answer |= {"loginServer": f"{name}.azurecr.io", "creationDate": old.get("creationDate") or _now()}
        case "keyvault:Vault":
            answer["properties"] = given["properties"] | {"vaultUri": f"https://{name}.vault.azure.net/"}
        case "keyvault:Secret":
            vault = id_.split("/")[-3]
            shown = {key: value for key, value in given["properties"].items() if key != "value"}
            answer["properties"] = shown | {"secretUri": f"https://{vault}.vault.azure.net/secrets/{name}"}
        case "network:VirtualNetwork":
            # Subnets that are resources of their own stay when the network itself is written.
            own = [_part(id_, "subnets", each) for each in given.get("subnets") or []]
            answer |= {"subnets": own or old.get("subnets") or [], "resourceGuid": old.get("resourceGuid") or _guid()}
        case "network:NetworkSecurityGroup":
            answer["securityRules"] = [_part(id_, "securityRules", each) for each in given.get("securityRules") or []]
            answer["resourceGuid"] = old.get("resourceGuid") or _guid()
        case "network:NetworkInterface":
            configurations = given.get("ipConfigurations") or []
            answer["ipConfigurations"] = [_addressed(cloud, id_, each, old) for each in configurations]
            answer["macAddress"] = old.get("macAddress") or "00-0D-3A-00-00-01"
        case "network:PublicIPAddress":
            taken = {each["properties"].get("ipAddress") for each in cloud.all("network:PublicIPAddress")}
            free = (str(each) for each in ipaddress.ip_network("203.0.113.0/24").hosts() if str(each) not in taken)
            answer["ipAddress"] = old.get("ipAddress") or next(free)
        case "network:PrivateEndpoint":
            interface = f"{id_.partition('/providers/')[0]}/providers/Microsoft.Network/networkInterfaces/{name}.nic"
            answer["networkInterfaces"] = [{"id": interface}]
        case "compute:VirtualMachine":
            answer["vmId"] = old.get("vmId") or _guid()
        case "compute:VirtualMachineScaleSet":
            answer["uniqueId"] = old.get("uniqueId") or _guid()
        case "operationalinsights:Workspace":
            answer["customerId"] = old.get("customerId") or _guid()
        case "authorization:RoleDefinition":
            answer["roleType"] = "CustomRole"
        case "authorization:RoleAssignment":
            answer["scope"] = id_.rpartition("/providers/Microsoft.Authorization/")[0]
    return answer


def _identity(cloud: Cloud, given: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """An identity as Azure returns it: what was given as a list of ids comes back as a map."""
    answer: dict[str, Any] = {"type": given.get("type", "None")}
    if given.get("userAssignedIdentities"):
        answer["userAssignedIdentities"] = {}
        for each in given["userAssignedIdentities"]:
            properties = (cloud.get(each) or {"properties": {}})["properties"]
            answer["userAssignedIdentities"][each] = {key: properties.get(key) for key in ("principalId", "clientId")}
    if "SystemAssigned" in answer["type"]:
        answer |= {"principalId": old.get("principalId") or _guid(), "tenantId": TENANT}
    return answer


def _addressed(cloud: Cloud, nic: str, configuration: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """An interface's configuration with an address: the one it had, or the subnet's next after the five of Azure."""
    answer = _part(nic, "ipConfigurations", configuration)
    had = {each["name"]: each.get("privateIPAddress") for each in old.get("ipConfigurations") or []}
    subnet = (cloud.get(at(configuration, "subnet.id") or "") or {"properties": {}})["properties"]
    prefix = subnet.get("addressPrefix") or (subnet.get("addressPrefixes") or ["10.255.0.0/24"])[0]
    taken = {
        each.get("privateIPAddress")
        for other in cloud.all("network:NetworkInterface")
        for each in other["properties"].get("ipConfigurations") or []
    }
    hosts = list(ipaddress.ip_network(prefix).hosts())[3:50]
    free = next((str(each) for each in hosts if str(each) not in taken), None)
    answer["privateIPAddress"] = configuration.get("privateIPAddress") or had.get(answer.get("name")) or free
    return answer


def _part(id_: str, kind: str, part: dict[str, Any]) -> dict[str, Any]:
    return part | {"id": f"{id_}/{kind}/{part.get('name', 'default')}"}


def _guid() -> str:
    return str(uuid.uuid4())


def _now() -> str:
    return datetime.now(UTC).isoformat()
