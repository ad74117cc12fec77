"""Azure on disk: one file for each resource, in folders that are its id. A test may read, change and remove them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""id, type (the SDK's token), properties (as Azure would return them)."""


class Cloud:
    """What exists in Azure, kept below a folder. Ids are compared as Azure compares them: in any case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, id_: str) -> Record | None:
        try:
            return json.loads(self._file(id_).read_text("utf-8"))
        except FileNotFoundError:
            return None

    def put(self, record: Record) -> None:
        self._write(self._file(record["id"]), record)

    def delete(self, id_: str) -> None:
        """Removes a resource and everything in it and on it. One that is gone already stays gone."""
        shutil.rmtree(self._file(id_).parent, ignore_errors=True)

    def all(self, type_: str = "") -> Iterator[Record]:
        """Every resource, sorted by id; of one type ("storage:StorageAccount") where one is given."""
        for file in sorted(self.folder.glob("subscriptions/**/resource.json"), key=lambda found: found.parent):
            record = json.loads(file.read_text("utf-8"))
            if not type_ or record["type"] == f"azure-native:{type_}":
                yield record

    def one(self, type_: str, name: str = "") -> Record:
        """The only resource of a type, or the only one of that name."""
        found = [each for each in self.all(type_) if not name or each["properties"]["name"] == name]
        assert len(found) == 1, f"{len(found)} {type_} {name}: {[each['id'] for each in found]}"
        return found[0]

    def below(self, id_: str) -> Iterator[Record]:
        """What is in or on a resource, however deep, itself not included."""
        inside = id_.lower() + "/"
        return (record for record in self.all() if record["id"].lower().startswith(inside))

    def exists(self, id_: str) -> bool:
        """Whether an id means something: a resource, or a part that its parent came with."""
        if self.get(id_):
            return True
        parent = self.get(id_.rsplit("/", 2)[0])
        if parent is None:
            return id_.count("/") == 2  # the subscription
        # What a storage account always has; what was declared in line: a network's subnet, a rule of a group.
        return id_.lower().endswith("services/default") or f'"{id_.lower()}"' in json.dumps(parent).lower()

    def remember_deleted(self, kind: str, name: str, record: Record) -> None:
        """Keeps what Azure keeps of a vault after its deletion."""
        self._write(self.folder / "deleted" / kind / f"{name.lower()}.json", record)

    def was_deleted(self, kind: str, name: str) -> bool:
        return (self.folder / "deleted" / kind / f"{name.lower()}.json").exists()

    def fail(self, type_: str, on: str = "create", when: str = "before", times: int = 1, name: str = "") -> None:
        """
        Makes coming operations fail, as Azure does for want of quota.

        type_: "compute:VirtualMachine"; on: create, update or delete; when: "before" anything was made, or "after",
        with the resource there and half-made; times: how often; name: of that logical name only.
        """
        self._write(
            self.folder / "failures.json",
            {"failures": [*self._failures(), {"type": type_, "on": on, "when": when, "times": times, "name": name}]},
        )

    def failure(self, token: str, on: str, when: str, name: str) -> bool:
        """Whether an operation shall fail now; counts it."""
        failures = self._failures()
        for each in failures:
            wanted = (f"azure-native:{each['type']}", each["on"], each["when"], each["name"] or name)
            if wanted == (token, on, when, name) and each["times"] > 0:
                each["times"] -= 1
                self._write(self.folder / "failures.json", {"failures": failures})
                return True
        return False

    def _failures(self) -> list[dict[str, Any]]:
        file = self.folder / "failures.json"
        return json.loads(file.read_text("utf-8"))["failures"] if file.exists() else []

    def _file(self, id_: str) -> Path:
        return self.folder / id_.lower().strip("/") / "resource.json"

    def _write(self, file: Path, content: dict[str, Any]) -> None:
        # Beside, then renamed: a test may read while an operation is under way.
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".new")
        aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
        aside.replace(file)
