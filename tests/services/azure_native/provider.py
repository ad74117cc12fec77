"""The provider that the engine talks to: checks and compares as azure-native does, then asks the Azure on disk."""

# ruff: noqa: N802 - gRPC names the methods
import hashlib
import re
import uuid
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime import proto
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from infra.review.create_only import effect_of

from . import azure, sdk_types
from .cloud import Cloud
from .compare import at, differences, given
from .kinds import CLIENT, SOMEONE, SUBSCRIPTION, TENANT, kind_of
from .refusals import Refused
from .wire import UNKNOWN, read, write

VERSION = "3.29.0"
MADE_UP = "__createBeforeDelete"
"""azure-native's own mark in the inputs: a made-up name, so a replacement can be there before the old one goes."""


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """azure-native as the engine sees it. Source: pulumi-azure-native provider/pkg/provider/{provider,diff}.go"""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._location: str | None = None

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return proto.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema=f'{{"name": "azure-native", "version": "{VERSION}"}}')

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        self._location = read(request.args).get("location")
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        if request.tok != "azure-native:authorization:getClientConfig":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in for Azure has no answer to {request.tok}")
        who = {"subscriptionId": SUBSCRIPTION, "tenantId": TENANT, "clientId": CLIENT, "objectId": SOMEONE}
        return provider_pb2.InvokeResponse(**{"return": write(who)})

    def Check(self, request: Any, context: Any) -> Any:
        token, logical = _type_and_name(request.urn)
        inputs, olds = read(request.news), read(request.olds)
        kind = kind_of(token)
        if kind is None or sdk_types.resource_class(token) is None:
            return _failed({"": f"the stand-in for Azure does not know {token}: add it to kinds.py"})
        named_by = kind.named_by
        if named_by and named_by not in inputs:
            made_up = kind.naming != "copy"
            if named_by in olds:
                inputs[named_by], made_up = olds[named_by], bool(olds.get(MADE_UP))
            else:
                inputs[named_by] = _name(kind.naming, logical, request.randomSeed)
            if made_up:
                inputs[MADE_UP] = True
        location = olds.get("location") or self._location
        if "location" not in inputs and "location" in sdk_types.inputs_of(token) and location:
            inputs["location"] = location
        faults = dict(sdk_types.faults(token, inputs))
        name = inputs.get(named_by or "")
        if kind.name and isinstance(name, str) and not re.fullmatch(kind.name, name):
            faults[str(named_by)] = f"is {name!r}, which does not match {kind.name}"
        return _failed(faults) if faults else provider_pb2.CheckResponse(inputs=write(inputs))

    def Diff(self, request: Any, context: Any) -> Any:
        token, _ = _type_and_name(request.urn)
        olds, news = read(request.old_inputs), read(request.news)
        changed = {
            path: difference for path, difference in differences(olds, news).items() if not path.startswith("__")
        }
        effects = {path: effect_of(token, path) for path in changed}
        replaced = [path for path, effect in effects.items() if effect and effect[0] == "replaced"]
        kinds = provider_pb2.PropertyDiff.Kind
        detailed = {
            path: provider_pb2.PropertyDiff(kind=kinds.Value(f"{how}{'_REPLACE' if path in replaced else ''}"))
            for path, how in changed.items()
        }
        response = provider_pb2.DiffResponse
        return response(
            changes=response.DIFF_SOME if changed else response.DIFF_NONE,
            replaces=sorted({_root(path) for path in replaced}),
            diffs=sorted({_root(path) for path in changed}),
            detailedDiff=detailed,
            hasDetailedDiff=True,
            deleteBeforeReplace=bool(replaced) and not olds.get(MADE_UP),
        )

    def Create(self, request: Any, context: Any) -> Any:
        token, logical = _type_and_name(request.urn)
        inputs = read(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=write(_previewed(token, inputs)))
        id_ = self._id(token, inputs)

        def create() -> Any:
            if self._cloud.get(id_):
                raise Refused("Conflict", f"cannot create already existing resource '{id_}'")
            return azure.put(self._cloud, token, id_, inputs)

        record = self._do(context, token, logical, "create", id_, inputs, create)
        return provider_pb2.CreateResponse(id=id_, properties=write(record["properties"]))

    def Read(self, request: Any, context: Any) -> Any:
        token, _ = _type_and_name(request.urn)
        record = self._cloud.get(request.id)
        if record is None:
            return provider_pb2.ReadResponse(id="")
        # What changed in Azure since the last time, carried over to the inputs: azure-native's way to see drift.
        known = sdk_types.inputs_of(token)
        was = {key: value for key, value in read(request.properties).items() if key in known}
        now = {key: value for key, value in record["properties"].items() if key in known}
        inputs = _carried(read(request.inputs), given(was), given(now))
        return provider_pb2.ReadResponse(
            id=record["id"], properties=write(record["properties"]), inputs=write(inputs)
        )

    def Update(self, request: Any, context: Any) -> Any:
        token, logical = _type_and_name(request.urn)
        inputs, olds = read(request.news), read(request.olds)
        if request.preview:
            stable = {key: olds[key] for key in ("name", "location") if key in olds}
            return provider_pb2.UpdateResponse(properties=write(_previewed(token, inputs) | stable))
        # The whole resource is put, as Azure's API wants it: what the inputs say overrides what others changed since.
        record = self._do(
            context, token, logical, "update", request.id, inputs,
            lambda: azure.put(self._cloud, token, request.id, inputs),
        )  # fmt: skip
        return provider_pb2.UpdateResponse(properties=write(record["properties"]))

    def Delete(self, request: Any, context: Any) -> Any:
        token, logical = _type_and_name(request.urn)
        self._do(
            context, token, logical, "delete", request.id, {},
            lambda: azure.delete(self._cloud, request.id),
        )  # fmt: skip
        return empty_pb2.Empty()

    def _id(self, token: str, inputs: dict[str, Any]) -> str:
        kind = kind_of(token)
        assert kind is not None
        parts = {key: str(inputs[key]).removesuffix("/") for key in kind.fields}
        return kind.template.format_map(parts)

    def _do(
        self, context: Any, token: str, logical: str, what: str, id_: str, inputs: Any, action: Callable[[], Any]
    ) -> Any:
        """Runs the action, or fails as a test asked for, or as Azure refuses."""
        if self._cloud.failure(token, what, "before", logical):
            context.abort(
                grpc.StatusCode.UNKNOWN, 'Code="SkuNotAvailable" Message="No capacity: a test asked for it."'
            )
        try:
            done = action()
        except Refused as refused:
            context.abort(grpc.StatusCode.UNKNOWN, str(refused))
        if self._cloud.failure(token, what, "after", logical):
            self._abort_half_made(context, id_, done["properties"])
        return done

    def _abort_half_made(self, context: Any, id_: str, properties: dict[str, Any]) -> None:
        """The error that tells the engine to keep a resource in its state that is there but not ready."""
        reason = 'Code="OSProvisioningTimedOut" Message="Half made: a test asked for it."'
        detail = provider_pb2.ErrorResourceInitFailed(id=id_, properties=write(properties), reasons=[reason])
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=reason)
        status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, reason)


def serve(cloud: Cloud) -> tuple[grpc.Server, int]:
    """A provider over this Azure in this process, and the port that it listens on."""
    # Now: the SDK's modules load themselves when first used, which must not happen in two threads at once.
    sdk_types.load()
    server = grpc.server(futures.ThreadPoolExecutor(8), options=_GRPC_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(cloud), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _previewed(token: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What is known of a resource before it is made: its inputs; every other output is not."""
    known = sdk_types.outputs_of(token)
    shown = {key: value for key, value in inputs.items() if key in known}
    identities = at(shown, "identity.userAssignedIdentities")
    if isinstance(identities, list):
        # Given as a list, returned as a map: of ids that are known by then.
        as_map = UNKNOWN if UNKNOWN in identities else dict.fromkeys(identities, UNKNOWN)
        shown["identity"] = shown["identity"] | {"userAssignedIdentities": as_map}
    return dict.fromkeys(known, UNKNOWN) | shown


def _carried(inputs: Any, was: Any, now: Any) -> Any:
    """The inputs with every difference between two answers of Azure carried over to them."""
    if was == now:
        return inputs
    if isinstance(inputs, dict) and isinstance(was, dict) and isinstance(now, dict):
        result = {key: value for key, value in inputs.items() if key in now or key not in was}
        for key in set(was) | set(now):
            if key in now and was.get(key) != now[key]:
                result[key] = _carried(inputs.get(key), was.get(key), now[key])
        return result
    return now


def _name(naming: str, logical: str, seed: bytes) -> str:
    """The name that azure-native makes up, always the same for a seed; the seed is new for each new resource."""
    digest = hashlib.sha256(seed + logical.encode()).hexdigest()
    if naming == "uuid":
        return str(uuid.UUID(digest[:32]))
    return f"{logical}{digest[:8]}" if naming == "random" else logical


def _failed(faults: dict[str, str]) -> Any:
    failures = [
        provider_pb2.CheckFailure(property=path, reason=f"{path} {reason}") for path, reason in faults.items()
    ]
    return provider_pb2.CheckResponse(failures=failures)


def _type_and_name(urn: str) -> tuple[str, str]:
    """("azure-native:storage:StorageAccount", "storage") of a URN, whose type part also lists the parents' types."""
    _, _, types, name = urn.split("::", 3)
    return types.rpartition("$")[2], name


def _root(path: str) -> str:
    return re.split(r"[.\[]", path)[0]
