"""The output `workspace` of a stack, as `tyard workspace connect` reads it."""

from typing import Any

WORKSPACE: dict[str, Any] = {
    "name": "tensoryard",
    "subscriptionId": "00000000-0000-0000-0000-000000000000",
    "tenantId": "11111111-1111-1111-1111-111111111111",
    "location": "westeurope",
    "resourceGroup": "workspace1234",
    "storageAccount": "storage1234",
    "blobEndpoint": "https://storage1234.blob.core.windows.net/",
    "containers": {"data": "data", "runs": "runs", "models": "models"},
    "registry": {"name": "registry1234", "loginServer": "registry1234.azurecr.io"},
    "vault": {"name": "vault1234", "uri": "https://vault1234.vault.azure.net/"},
    "head": {"name": "head", "privateAddress": "10.40.0.4", "publicAddress": None},
    "clusters": {
        "gpucluster": {
            "vmSize": "Standard_NC4as_T4_v3",
            "maxNodes": 4,
            "spot": True,
            "scaleSet": "gpucluster1234",
            "gpuCount": 1,
            "gpuModel": "T4",
            "vcpu": 4,
            "memoryGib": 28,
            "hourlyUsd": [0.0526, 0.2104],
        }
    },
}
