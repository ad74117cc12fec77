"""The monitor that a program talks to in place of Pulumi's engine: writes each resource down and answers as Azure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import empty_pb2, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime.mocks import MockMonitor, Mocks
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_project, get_stack

from infra.review.azure_answers import Azure
from infra.review.declare import SECRET, STACK_TYPE, Declared, source_of

# Pulumi's marks of special values in its wire format. Source: pulumi/sdk/python/lib/pulumi/runtime/rpc.py
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the mark of one
ASSET_SIGNATURE = "c44067f5952c0a294b673a41bacd8c17"


class Recorder(MockMonitor):
    """Writes down every resource, with what mocks do not see: parent, protect, ignored changes, the source line."""

    def __init__(self, root: Path, location: str | None) -> None:
        super().__init__(Mocks)  # type: ignore[arg-type]
        self._root = root
        self._azure = Azure(location)
        self._found: dict[str, Declared] = {}
        self._stack = ""

    def declared(self) -> list[Declared]:
        """All resources so far, the stack last."""
        rest = [resource for urn, resource in self._found.items() if urn != self._stack]
        return rest + [self._found[self._stack]] * (self._stack in self._found)

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        urn = self.make_urn("" if request.parent == self._stack else request.parent, request.type, request.name)
        if urn in self._found:
            raise ValueError(f"two resources have the URN {urn}")
        if request.type == STACK_TYPE:
            self._stack = urn
        inputs: dict[str, Any] = _plain(request.object)
        id_, outputs = "", dict(inputs)
        if request.custom:
            id_, outputs = self._azure.answer(urn, request.type, request.name, inputs)
        file, line = self._place(request)
        self._found[urn] = Declared(
            urn=urn,
            type=request.type,
            name=request.name,
            parent=request.parent or None,
            inputs=_redacted(inputs),
            outputs=_redacted(outputs),
            id=id_,
            custom=request.custom,
            protect=request.protect,
            ignore_changes=tuple(request.ignoreChanges),
            replace_on_changes=tuple(request.replaceOnChanges),
            dependencies=tuple(sorted(request.dependencies)),
            property_dependencies={
                name: tuple(sorted(found.urns)) for name, found in sorted(request.propertyDependencies.items())
            },
            delete_before_replace=request.deleteBeforeReplace,
            aliases=tuple(found for alias in request.aliases if "/v" not in (found := self._alias(alias, request))),
            file=file,
            line=line,
        )
        answer = struct_pb2.Struct()
        answer.update(outputs)
        return resource_pb2.RegisterResourceResponse(urn=urn, id=id_, object=answer)

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        raise ValueError(f"the program reads `{request.name}` ({request.type}) from Azure, which cannot be reviewed")

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        outputs = _redacted(_plain(request.outputs))
        found = self._found[request.urn]
        self._found[request.urn] = Declared(
            **{field: getattr(found, field) for field in Declared.__struct_fields__ if field != "outputs"},
            outputs={**found.outputs, **outputs} if found.custom else outputs,
        )
        return empty_pb2.Empty()

    def Invoke(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        answer = struct_pb2.Struct()
        answer.update(self._azure.call(request.tok, _plain(request.args)))
        return resource_pb2.ResourceInvokeResponse(**{"return": answer})

    def GetDeploymentInfo(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        # No resource references: a resource among the inputs then arrives as its id, as Azure sees it.
        return resource_pb2.DeploymentInfo(
            supportedFeatures=[
                resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
                resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
                resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
                resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACE_WITH,
            ]
        )

    def _place(self, request: Any) -> tuple[str, int]:
        """The first line of the program itself on the way to this resource."""
        for frame in request.stackTrace.frames:
            file = source_of(frame.pc.uri, self._root) if frame.pc.uri else None
            if file:
                return file, frame.pc.line
        return "", 0

    def _alias(self, alias: Any, request: Any) -> str:
        """An earlier URN. The SDK adds one for each API version of a type (`storage/v20240101`): those are noise."""
        if alias.urn:
            return str(alias.urn)
        spec = alias.spec
        parent = "" if spec.noParent else spec.parentUrn or request.parent
        parent = "" if parent == self._stack else parent
        urn = str(self.make_urn(parent, spec.type or request.type, spec.name or request.name))
        head, _, tail = urn.removeprefix("urn:pulumi:").partition("::")
        _, _, rest = tail.partition("::")
        return f"urn:pulumi:{spec.stack or head or get_stack()}::{spec.project or get_project()}::{rest}"


class Engine:
    """Keeps what the program logs for the reader; everything else that it is told is of no use here."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def Log(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        if request.severity:  # 0 is for debugging
            self.messages.append(request.message)
        return empty_pb2.Empty()

    def RequirePulumiVersion(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        return empty_pb2.Empty()


def _plain(value: Any) -> Any:
    """A protobuf value as Python has it, whole numbers as int: the wire knows floats only."""
    if isinstance(value, struct_pb2.Struct):
        return {key: _plain(inner) for key, inner in sorted(value.fields.items())}
    match value.WhichOneof("kind"):
        case "struct_value":
            return _plain(value.struct_value)
        case "list_value":
            return [_plain(inner) for inner in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "string_value":
            return value.string_value
    return None


def _redacted(value: Any) -> Any:
    """The value with its secrets as "[secret]" and its assets as their text or path."""
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET_SIGNATURE:
            return SECRET
        if value.get(SIGNATURE) == ASSET_SIGNATURE:
            return value.get("text", value.get("path", value.get("uri")))
        return {key: _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return value
