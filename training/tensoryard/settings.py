"""workspace.json."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tensoryard.errors import JobError, UsageError
from tensoryard.slurm_target import SlurmTarget
from tensoryard.targets import SERVED_HERE


class AzureRegistry(msgspec.Struct, frozen=True, rename="camel"):
    """The container registry that images are pushed to."""

    name: str
    login_server: str


class AzureVault(msgspec.Struct, frozen=True, rename="camel"):
    """The Key Vault."""

    name: str
    uri: str


class AzureHead(msgspec.Struct, frozen=True, rename="camel"):
    """The head node; public_address: None when it can be reached from inside its network only."""

    name: str
    private_address: str
    public_address: str | None = None


class AzureCluster(msgspec.Struct, frozen=True, rename="camel"):
    """
    A scale set of GPU machines, and what one of its nodes has.

    hourly_usd: list price of an hour of a node, lowest and highest, as the program had it; None where it had none.
    """

    vm_size: str
    max_nodes: int
    spot: bool
    scale_set: str
    gpu_count: int
    gpu_model: str
    vcpu: int
    memory_gib: float
    hourly_usd: tuple[float, float] | None = None


class AzureContainers(msgspec.Struct, frozen=True, rename="camel"):
    """Blob containers by what they hold."""

    data: str
    runs: str
    models: str


class AzureWorkspace(msgspec.Struct, frozen=True, rename="camel"):
    """
    A workspace on Azure: the output `workspace` of the Pulumi program, as it stands.

    A field that this version does not know is kept out, not refused: the program may be newer than the client.
    """

    name: str
    subscription_id: str
    tenant_id: str
    location: str
    resource_group: str
    storage_account: str
    blob_endpoint: str
    containers: AzureContainers
    registry: AzureRegistry
    vault: AzureVault
    head: AzureHead
    clusters: dict[str, AzureCluster]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    workspace.json, all of it optional.

    concurrent_runs: runs that may be in Running on this machine at once; the others wait in Scaling.
    image_registry: host, and where wanted a path, that images of environments are pushed below; None for the
    registry of a workspace on Azure, else for no registry.
    compute_targets: clusters by the names that jobs call them, such as {"gpu": {"slurm": {"partition": "gpu"}}}.
    image_builder: what builds images: "buildah" on this machine, "job" on a node of the cluster, by a job of its own;
    "acr-tasks" in the registry of a workspace on Azure.
    node_images: folder on each node of a cluster that it pulls images into; "" for none: nodes then read them from
    the cache, which they share.
    azure: the workspace on Azure that `tyard workspace connect` chose; None for a folder on this machine.
    """

    name: str = "local"
    concurrent_runs: Annotated[int, msgspec.Meta(ge=1)] = 1
    image_registry: str | None = None
    image_builder: Literal["buildah", "job", "acr-tasks"] = "buildah"
    node_images: str = ""
    compute_targets: dict[str, SlurmTarget] = {}
    azure: AzureWorkspace | None = None

    @property
    def images_below(self) -> str:
        """Where images of environments are pushed; "" for nowhere."""
        if self.image_registry is not None:
            return self.image_registry
        return self.azure.registry.login_server if self.azure else ""


def read_settings(data: bytes, path: Path) -> Settings:
    """
    The settings of a workspace.json.

    Raises UsageError with the line, what was given and what is allowed.
    """
    try:
        found = msgspec.json.decode(data, type=Settings)
    except JobError as error:  # what a job may not ask of a cluster
        raise UsageError(f"{path}: {error.message.replace('compute_target:', 'compute_targets:', 1)}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _explained(data, path, str(error)) from None
    taken = {*SERVED_HERE, *(found.azure.clusters if found.azure is not None else ())}
    for name in found.compute_targets:
        if name in taken or not name:
            raise UsageError(
                f"{path}: compute_targets: got the name `{name}`, which "
                + ("is no name" if not name else "is another target's"),
                hint='for example {"compute_targets": {"gpu": {"slurm": {"partition": "gpu"}}}}',
            )
    return found


def _explained(data: bytes, path: Path, rule: str) -> UsageError:
    import json

    # Loaded for an error only: these know job.yaml.
    from tensoryard.job_errors import Place, Places, explained, kind

    try:
        text = data.decode()
        fields = json.loads(text)
    except UnicodeDecodeError:
        return UsageError(f"{path}: is not UTF-8", hint="save the file as UTF-8")
    except json.JSONDecodeError as error:
        hint = 'for example {"concurrent_runs": 2}'
        return UsageError(f"{path}: line {error.lineno}: is not JSON: {error.msg[:1].lower()}{error.msg[1:]}", hint)
    if not isinstance(fields, dict):
        return UsageError(f'{path}: got {kind(fields)}, expected a mapping such as {{"concurrent_runs": 2}}')
    places: Places = {}
    for name in fields:
        before = text.partition(json.dumps(name, ensure_ascii=False))[0]
        places[(name,)] = Place(f"{path}: line {before.count(chr(10)) + 1}")
    found = explained(rule, path, fields, places, Settings)
    return UsageError(found.message, found.hint)
