"""What the program of this checkout declares, declared resources made by hand, and what checks a review's output."""

import copy
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.azure_native import sdk_types
from services.machine_metadata import Metadata
from services.npm import installed

if TYPE_CHECKING:
    from infra.review.declare import Declared

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _sdk() -> None:
    sdk_types.load()


@pytest.fixture(scope="session")
def declared() -> "Callable[[str | Mapping[str, Any]], list[Declared]]":
    """
    declared("dev"): what that stack declares; declared({"clusters": [...]}): a stack with just these settings.

    Keys are the `tensoryard:` ones without their namespace; the location is westeurope unless given as
    "azure-native:location".
    """
    from infra.review.declare import declare

    made: dict[str, list[Declared]] = {}

    def run(of: "str | Mapping[str, Any]") -> "list[Declared]":
        key = json.dumps(of, sort_keys=True)
        if key not in made:
            stack, config = (
                (of, None) if isinstance(of, str) else (None, {"azure-native:location": "westeurope", **of})
            )
            made[key] = declare(ROOT, stack, config)
        return copy.deepcopy(made[key])

    return run


class Sketch:
    """A few declared resources of one resource group, answered as by Azure."""

    def __init__(self) -> None:
        from infra.review.azure_answers import Azure

        self._azure = Azure("westeurope")
        self.resources: list[Declared] = []

    def add(self, type_: str, name: str, inputs: Mapping[str, Any] | None = None, **options: Any) -> "Declared":
        """One more resource: type_ as in "storage:StorageAccount"; options: fields of Declared."""
        from infra.review.declare import Declared

        full = f"azure-native:{type_}"
        urn = f"urn:pulumi:s::tensoryard::{full}::{name}"
        given = {**({} if type_ == "resources:ResourceGroup" else {"resourceGroupName": "group"}), **(inputs or {})}
        id_, outputs = self._azure.answer(urn, full, name, dict(given))
        made = Declared(
            urn=urn, type=full, name=name, inputs=given, outputs=outputs, id=id_, file="infra/x.py", line=7
        )
        import msgspec

        made = msgspec.structs.replace(made, **options)
        self.resources.append(made)
        return made


@pytest.fixture
def sketch() -> Callable[[], Sketch]:
    return Sketch


@pytest.fixture(scope="session")
def npm_modules() -> Path:
    """The folder with the parser and the schema that are locked in tests/infra/review_npm."""
    return installed(Path(__file__).parent / "review_npm")


@pytest.fixture
def mermaid_types(npm_modules: Path) -> Callable[[Sequence[str]], list[str]]:
    """What Mermaid's own parser takes each diagram for; a text that begins with "error: " where it does not parse."""

    def parse(diagrams: Sequence[str]) -> list[str]:
        done = subprocess.run(
            ["node", npm_modules / "parse-mermaid.mjs"],
            input=json.dumps(list(diagrams)),
            capture_output=True,
            text=True,
            check=True,
        )
        found: list[str] = json.loads(done.stdout)
        return found

    return parse


@pytest.fixture
def sarif_schema(npm_modules: Path) -> dict[str, Any]:
    """OASIS's schema of SARIF 2.1.0."""
    path = npm_modules / "node_modules/@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json"
    schema: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return schema


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    """The metadata service of a machine that boots."""
    with Metadata() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()
