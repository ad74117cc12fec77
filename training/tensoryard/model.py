"""Registered models as Python programs use them, with the names and meanings of Azure ML's SDK v1."""

import builtins
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoryard.errors import AlreadyExistsError, NotFoundError, UsageError
from tensoryard.instead import refuse
from tensoryard.registry import ModelVersion
from tensoryard.store.disk import plain_errors
from tensoryard.store.part import PART_PREFIX

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

# Each a name, or a name with its value.
Labels = Sequence[str | Sequence[str]]
CACHE = Path("tensoryard-models")


class Model:
    """
    One version of a model. It never changes: tags and properties are those of its registration.

    workspace: where it is; name: the model; version: its number, None for the newest. id: instead of both, such as
    `digits:3` or `digits@champion`. tags, properties, run_id, model_framework: the newest version that has them.
    expand changes nothing: a version has all its fields.
    Raises NotFoundError that says what there is.
    """

    def __init__(
        self,
        workspace: "Workspace",
        name: str | None = None,
        id: str | None = None,
        tags: Labels | None = None,
        properties: Labels | None = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
    ) -> None:
        if (name is None) == (id is None):
            raise UsageError("Model: give either a name or an id", hint="`Model(ws, 'digits')` is the newest version")
        self.workspace = workspace
        if id is not None:
            self._record = workspace.registry.resolve(id)
        elif tags or properties or run_id or model_framework:
            found = Model.list(workspace, name, tags, properties, run_id, model_framework=model_framework)
            match = next((one for one in found if version in (None, one.version)), None)
            if match is None:
                raise NotFoundError(f"model `{name}`: no version has what was asked for")
            self._record = match._record
        else:
            self._record = workspace.registry.get(str(name), int(version) if version is not None else None)

    @classmethod
    def _of(cls, workspace: "Workspace", record: ModelVersion) -> "Model":
        model = cls.__new__(cls)
        model.workspace = workspace
        model._record = record
        return model

    def __repr__(self) -> str:
        return f"Model(name={self.name}, id={self.id}, version={self.version}, run_id={self.run_id})"

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def version(self) -> int:
        return self._record.version

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def tags(self) -> dict[str, str]:
        return dict(self._record.tags)

    @property
    def properties(self) -> dict[str, str]:
        return dict(self._record.properties)

    @property
    def description(self) -> str | None:
        return self._record.properties.get("description")

    @property
    def run_id(self) -> str | None:
        return self._record.run_id

    @property
    def created_time(self) -> datetime:
        return datetime.fromisoformat(self._record.created_at)

    @property
    def created_by(self) -> str:
        return self._record.created_by

    @staticmethod
    def register(
        workspace: "Workspace",
        model_path: str | Path,
        model_name: str,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
        datasets: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Sequence[str] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> "Model":
        """
        The new version of a model, made of a folder or file of this machine, whose bytes are copied.

        description, model_framework, model_framework_version: kept among its properties under these names. datasets,
        child_paths, sample_input_dataset, sample_output_dataset and resource_configuration are refused.
        """
        refuse(
            "Model.register",
            datasets=datasets,
            child_paths=child_paths,
            sample_input_dataset=sample_input_dataset,
            sample_output_dataset=sample_output_dataset,
            resource_configuration=resource_configuration,
        )
        about = properties_with(properties, description, model_framework, model_framework_version)
        record = workspace.registry.register_folder(model_name, Path(model_path), tags=tags, properties=about)
        return Model._of(workspace, record)

    @staticmethod
    def list(
        workspace: "Workspace",
        name: str | None = None,
        tags: Labels | None = None,
        properties: Labels | None = None,
        run_id: str | None = None,
        latest: bool = False,
        dataset_id: str | None = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: str | None = None,
    ) -> "list[Model]":
        """
        Versions of one model or of all, newest first within each model.

        tags, properties: only versions that have each of these, a name or a pair of name and value.
        run_id, model_framework: only those of this run, of this framework. latest: of each model only the newest
        version that is left. expand and page_count change nothing: a version has all its fields, and all are read.
        dataset_id is refused.
        """
        refuse("Model.list", dataset_id=dataset_id)
        from tensoryard.registry.search import search
        from tensoryard.registry.where import Clause

        clauses = [Clause("run", "=", run_id)] if run_id is not None else []
        if model_framework is not None:
            clauses.append(Clause("properties.model_framework", "=", model_framework))
        found: builtins.list[Model] = []
        for record in search(workspace.registry, clauses, name):
            if latest and found and found[-1].name == record.name:
                continue
            if _has(record.tags, tags) and _has(record.properties, properties):
                found.append(Model._of(workspace, record))
        return found

    def download(self, target_dir: str | Path = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """
        The path of the model's folder or file, written below target_dir under the name it was registered with.

        exist_ok: whether files that are there already may be replaced; otherwise AlreadyExistsError is raised
        before anything is written. exists_ok: an older name of the same. Every byte is checked. Raises
        VerificationError for a byte that is not the registered one.
        """
        target = Path(target_dir)
        place = target / self._base_name()
        if place.exists() and not (exist_ok or exists_ok):
            raise AlreadyExistsError(
                f"`{place}`: is there already", hint="`exist_ok=True` replaces its files; or use another folder"
            )
        with plain_errors(place, "writing"):
            target.mkdir(parents=True, exist_ok=True)
            self._write(target, place)
        return str(place)

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: "Workspace | None" = None) -> str:
        """
        The path of a model's folder or file below `tensoryard-models/<name>/<version>`, downloaded if needed.

        _workspace: None is that of `Workspace.from_config()`. What is there already is checked byte by byte.
        """
        from tensoryard.workspace import Workspace

        model = Model(_workspace or Workspace.from_config(), model_name, version=version)
        place = CACHE / model.name / str(model.version)
        folder = place if model._is_file() else place / model._base_name()
        model.workspace.registry.download_version(model._record, folder)
        return str(place / model._base_name())

    def delete(self) -> None:
        """Hide this version; its number is never used again. Raises UsageError when an alias names it."""
        self.workspace.registry.delete(self.name, self.version)

    def _write(self, target: Path, place: Path) -> None:
        # Aside first: what appears is whole, and a failed download replaces nothing.
        with tempfile.TemporaryDirectory(prefix=PART_PREFIX, dir=target) as aside:
            fresh = Path(aside) / "model"
            self.workspace.registry.download_version(self._record, fresh)
            if self._is_file():
                (fresh / self._record.files[0].path).replace(place)
            elif not place.exists():
                fresh.rename(place)
            else:
                for file in self._record.files:
                    (place / file.path).parent.mkdir(parents=True, exist_ok=True)
                    (fresh / file.path).replace(place / file.path)

    def _base_name(self) -> str:
        return Path(self._record.source_path or self.name).name or self.name

    def _is_file(self) -> bool:
        """Whether one file was registered, and not a folder that held one."""
        files, source = self._record.files, self._record.source_path or ""
        if len(files) != 1 or files[0].path != self._base_name():
            return False
        in_folder = files[0].key.endswith(f"/{source.strip('/')}/{files[0].path}")
        return not in_folder


def properties_with(
    properties: Mapping[str, str] | None,
    description: str | None,
    model_framework: str | None,
    model_framework_version: str | None,
) -> dict[str, str]:
    """Properties with what Azure ML kept beside them."""
    about = {
        "description": description,
        "model_framework": model_framework,
        "model_framework_version": model_framework_version,
    }
    return {**(properties or {}), **{name: value for name, value in about.items() if value is not None}}


def _has(labels: Mapping[str, str], wanted: Labels | None) -> bool:
    for each in wanted or ():
        name, *value = [each] if isinstance(each, str) else each
        if name not in labels or (value and labels[name] != value[0]):
            return False
    return True
