"""
The policy as a CrossGuard pack, in its own interpreter, asked as Pulumi's engine asks it.

Most tests speak the engine's protocol to the pack (Analyze for each resource, then AnalyzeStack). The last ones are
previews by the real engine. What they cannot prove: how the published CLI's Python language host starts the pack.
That host is not to be had as a Go module, so here the engine finds a launcher in its place, the
`pulumi-analyzer-policy-python` with which it starts packs of languages that it has no host for.
"""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from infra.policy import RULES
from infra.review.declare import Declared, declare
from services.engine import Engine
from services.engine_fixtures import new_engine, pulumi_cli

__all__ = ["new_engine", "pulumi_cli"]

ROOT = Path(__file__).parents[2]
PACK = ROOT / "infra" / "policy_pack"
PROGRAMS = Path(__file__).parent / "programs_breaking"
Declaring = Callable[[str | Mapping[str, Any]], list[Declared]]

# How the engine writes a value that is not known before the update.
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

pytestmark = pytest.mark.timeout(1800)  # the first test of a machine may build the CLI


@pytest.fixture(scope="module")
def interpreter() -> Path:
    made = subprocess.run(
        [ROOT / "tools" / "tool-venv", "policy-pack", sys.executable], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(made.stdout.strip()) / "bin" / "python"


@dataclass(frozen=True)
class Pack:
    """A running pack."""

    stub: analyzer_pb2_grpc.AnalyzerStub

    def judge(self, resources: Sequence[Declared], unknown: bool = False) -> list[analyzer_pb2.AnalyzeDiagnostic]:
        """
        What the pack reports about resources.

        unknown: as in a preview before anything exists, when nobody knows an id, what is made of one, or a name.
        """
        hidden = _made_up(resources) if unknown else set()
        said: list[analyzer_pb2.AnalyzeDiagnostic] = []
        for each in resources:
            told = self.stub.Analyze(
                analyzer_pb2.AnalyzeRequest(
                    urn=each.urn,
                    type=each.type,
                    name=each.name,
                    properties=_struct(each.inputs, hidden),
                    options=_options(each),
                )
            )
            said.extend(told.diagnostics)
        everything = [
            analyzer_pb2.AnalyzerResource(
                urn=each.urn,
                type=each.type,
                name=each.name,
                # Of a component the engine keeps what it registered as outputs: of an exception, nothing.
                properties=_struct({**each.outputs, "id": each.id} if each.custom else each.outputs, hidden),
                options=_options(each),
                parent=each.parent or "",
                propertyDependencies={
                    key: analyzer_pb2.AnalyzerPropertyDependencies(urns=urns)
                    for key, urns in each.property_dependencies.items()
                },
            )
            for each in resources
        ]
        said.extend(self.stub.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=everything)).diagnostics)
        return said


def _made_up(resources: Sequence[Declared]) -> set[str]:
    """The ids of resources and the names that the provider gives them."""
    names = {
        each.outputs["name"] for each in resources if each.outputs.get("name") not in (None, *each.inputs.values())
    }
    return names | {each.id for each in resources if each.id}


def _options(each: Declared) -> analyzer_pb2.AnalyzerResourceOptions:
    return analyzer_pb2.AnalyzerResourceOptions(protect=each.protect, ignoreChanges=each.ignore_changes)


def _struct(values: Mapping[str, Any], hidden: set[str]) -> struct_pb2.Struct:
    def shown(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: shown(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [shown(item) for item in value]
        whole = isinstance(value, str) and any(value == made or value.startswith(f"{made}/") for made in hidden)
        return UNKNOWN if whole else value

    return json_format.ParseDict(shown(values), struct_pb2.Struct())


@pytest.fixture(scope="module")
def pack(interpreter: Path) -> Iterator[Pack]:
    with subprocess.Popen([interpreter, "-u", PACK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Pack(analyzer_pb2_grpc.AnalyzerStub(channel))
        process.terminate()


@cache
def of_program(rule: str) -> list[Declared]:
    return declare(PROGRAMS, None, {"azure-native:location": "westeurope", "rule": rule})


def test_the_pack_offers_each_rule_by_its_name_and_stops_for_the_high_ones(pack: Pack) -> None:
    info = pack.stub.GetAnalyzerInfo(empty_pb2.Empty())
    offered = {policy.name: policy for policy in info.policies}

    assert info.name == "tensoryard"
    assert set(offered) == {"inputs", *(rule.id for rule in RULES)}
    for rule in RULES:
        wanted = analyzer_pb2.MANDATORY if rule.severity == "high" else analyzer_pb2.ADVISORY
        assert offered[rule.id].enforcementLevel == wanted
        assert offered[rule.id].displayName == rule.title
        assert offered[rule.id].remediation_steps == rule.fix


@pytest.mark.parametrize("unknown", [False, True], ids=["update", "preview"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_pack_finds_what_the_rules_find(pack: Pack, rule: Any, unknown: bool) -> None:
    """Before the first update too, when ids are unknown and rules go by the dependencies that the engine recorded."""
    said = pack.judge(of_program(rule.id), unknown)

    assert {diagnostic.policyName for diagnostic in said} == {rule.id}
    assert all(rule.fix in diagnostic.message for diagnostic in said)


@pytest.mark.parametrize("unknown", [False, True], ids=["update", "preview"])
@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_real_program_passes_with_its_exceptions(
    pack: Pack, declared: Declaring, stack: str, unknown: bool
) -> None:
    assert [diagnostic.message for diagnostic in pack.judge(declared(stack), unknown)] == []


def test_the_pack_is_typed(interpreter: Path, tmp_path: Path) -> None:
    """mypy's own run over the project does not see pulumi-policy, which is not in its environment."""
    options = ["--strict", "--python-executable", interpreter, "--cache-dir", tmp_path]
    told = subprocess.run(
        [sys.executable, "-m", "mypy", *options, PACK / "__main__.py"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )

    assert told.returncode == 0, told.stdout


# -- the real engine


@pytest.fixture
def engine(new_engine: Callable[[], Engine], interpreter: Path) -> Engine:
    made = new_engine()
    plugin = made.folder / "home" / "plugins" / "analyzer-policy-python-v1.21.0"
    plugin.mkdir(parents=True)
    launcher = plugin / "pulumi-analyzer-policy-python"
    # Its second argument is the pack's folder, in which the engine starts it.
    launcher.write_text(f"#!/bin/sh\nexec '{interpreter}' -u \"$2\"\n", "utf-8")
    launcher.chmod(0o755)
    return made


def test_the_engine_previews_the_real_program_under_the_pack(engine: Engine) -> None:
    outcome = engine.preview("dev", policy_pack=PACK)

    assert outcome.error == ""
    assert f"tensoryard@v0.1.0 (local: {PACK})" in outcome.output
    assert "[mandatory]" not in outcome.output
    assert "[advisory]" not in outcome.output


def breaking(rule: str) -> Callable[[], None]:
    """The program that breaks a rule, run as an inline program of the engine."""

    def program() -> None:
        declared_by = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "infra"}
        for name in declared_by:
            del sys.modules[name]
        sys.path.insert(0, str(PROGRAMS))
        try:
            importlib.import_module(f"infra.{rule.replace('-', '_')}")
        finally:
            sys.path.remove(str(PROGRAMS))
            for name in [name for name in sys.modules if name.split(".")[0] == "infra"]:
                del sys.modules[name]
            sys.modules.update(declared_by)

    return program


def test_the_engine_stops_at_a_high_finding(engine: Engine) -> None:
    engine.program = breaking("ssh-open")

    outcome = engine.preview("dev", policy_pack=PACK)

    assert outcome.error != ""
    assert (
        "[mandatory] [severity: high]  ssh-open  (azure-native:network:NetworkSecurityGroup: nodes)" in outcome.output
    )
    assert "Rule `people` lets `Internet` in to port 22" in outcome.output


def test_the_engine_warns_of_a_low_finding_and_goes_on(engine: Engine) -> None:
    engine.program = breaking("tags-missing")

    outcome = engine.preview("dev", policy_pack=PACK)

    assert outcome.error == ""
    assert "[advisory] [severity: low]  tags-missing" in outcome.output
    assert "It lacks the tags `workspace`, `stack`, `managed-by`" in outcome.output
