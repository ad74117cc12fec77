"""The workspace: where runs, data and models are kept, found from where the person stands."""

import os
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tensoryard.errors import AlreadyExistsError, NotFoundError, UsageError
from tensoryard.store import Store, is_folder, keys

if TYPE_CHECKING:
    from tensoryard.azureml.core.compute import ComputeTarget
    from tensoryard.datastore import Datastore
    from tensoryard.experiment import Experiment, Run
    from tensoryard.model import Model
    from tensoryard.registry import Registry
    from tensoryard.settings import Settings

FOLDER = ".tensoryard"
SETTINGS = "workspace.json"
# With a store that is no folder: where this machine works on runs, and the number that tells it from others.
WORK = "work"
MACHINE = "machine"


class Workspace:
    """
    A workspace by its folder. `Workspace.from_config()` finds the one to use.

    root: the folder; name: from its workspace.json, else "local".
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @classmethod
    def from_config(cls, path: str | Path | None = None, auth: Any = None) -> "Workspace":
        """
        The workspace at path; else of $TYARD_WORKSPACE; else the nearest `.tensoryard` folder from here upwards;
        else `~/.tensoryard`. It need not exist: the first thing kept in it makes it.

        A folder that holds a `.tensoryard` folder stands for that one. auth is refused: nobody signs in to a folder.
        Raises NotFoundError when a path is given and is not there, UsageError when $TYARD_WORKSPACE cannot be one.
        """
        if auth is not None:
            from tensoryard.instead import refuse

            refuse("Workspace.from_config", auth=auth)
        if path is not None:
            given = Path(path)
            given = given.parent if given.name == SETTINGS else given
            if not given.is_dir():
                raise NotFoundError(f"workspace: `{path}` is not a folder", hint=f"make it: mkdir -p {path}")
            return cls(_inner(given))
        if os.environ.get("TYARD_WORKSPACE"):
            return cls(_named_by_the_environment(os.environ["TYARD_WORKSPACE"]))
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / FOLDER).is_dir():
                return cls(folder / FOLDER)
        return cls(Path.home() / FOLDER)

    @property
    def name(self) -> str:
        return self.settings().name

    def settings(self) -> "Settings":
        """workspace.json as it is now. Raises UsageError when it cannot be read."""
        from tensoryard.settings import Settings, read_settings

        path = self.root / SETTINGS
        try:
            return read_settings(path.read_bytes(), path)
        except FileNotFoundError:
            return Settings()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None

    @cached_property
    def store(self) -> Store:
        """The storage account that `tyard workspace connect` chose, else the workspace's own folder."""
        azure = self.settings().azure if (self.root / SETTINGS).exists() else None
        if azure is None:
            from tensoryard.store.file import FileStore

            return FileStore(self.root)
        try:
            from tensoryard.store.blob import BlobStore
            from tensoryard.store.blob_account import BlobAccount

            return BlobStore(BlobAccount.of_workspace(azure))
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{self.root / SETTINGS}: `{azure.name}` is a workspace on Azure; `{error.name}` is missing",
                hint=f"{sys.executable} -m pip install 'tensoryard[azure]'",
            ) from None

    @cached_property
    def registry(self) -> "Registry":
        from tensoryard.registry import Registry

        return Registry(self.store)

    @cached_property
    def work(self) -> Store:
        """Where runs are worked on: the store itself when it is a folder, else a folder of this machine."""
        from tensoryard.store.file import FileStore

        return self.store if is_folder(self.store) else FileStore(self.root / WORK)

    def work_folder(self, run_id: str) -> Path:
        """The folder in which a run is worked on, on disks that its nodes share; there or not."""
        folder = self.work.local_path(keys.run(run_id))
        assert folder is not None
        return folder

    def queue(self, target: str) -> str:
        """
        The name of the queue in which a target's runs wait.

        `local` means this machine, `slurm` the cluster that it submits to: of the machines that use one store over a
        network, each has queues of its own.
        """
        from tensoryard.targets import SERVED_HERE  # not loaded by completion, which asks for no queue

        if target not in SERVED_HERE or is_folder(self.store):
            return target
        from tensoryard.store.file import FileStore

        own = FileStore(self.root)
        if own.stat(MACHINE) is None:
            with suppress(AlreadyExistsError):
                own.put(MACHINE, os.urandom(6).hex().encode())
        return f"{target}-{own.read(MACHINE).decode()}"

    def get_default_datastore(self) -> "Datastore":
        """The workspace's own datastore."""
        from tensoryard.datastore import Datastore

        return Datastore(self)

    @property
    def datastores(self) -> dict[str, "Datastore"]:
        """Every datastore by name; there is one, `default`."""
        default = self.get_default_datastore()
        return {default.name: default}

    @property
    def compute_targets(self) -> dict[str, "ComputeTarget"]:
        """Every compute target by name."""
        from tensoryard.azureml.core.compute import ComputeTarget

        return ComputeTarget.all(self)

    @property
    def experiments(self) -> dict[str, "Experiment"]:
        """Every experiment that has a run, by name."""
        from tensoryard.experiment import Experiment

        return {experiment.name: experiment for experiment in Experiment.list(self)}

    @property
    def models(self) -> dict[str, "Model"]:
        """The newest version of every model that has one, by name."""
        from tensoryard.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    def get_run(self, run_id: str) -> "Run":
        """The run of an id, of a number alone, or of `latest`. Raises NotFoundError with the nearest ids."""
        from tensoryard.experiment import Run

        return Run.get(self, run_id)

    def get_details(self) -> dict[str, Any]:
        """Name, id (its folder) and settings of the workspace."""
        settings = self.settings()
        return {"name": settings.name, "id": str(self.root), "concurrentRuns": settings.concurrent_runs}

    @classmethod
    def create(cls, *args: Any, **others: Any) -> NoReturn:
        """Raises UsageError: a workspace needs no creation."""
        raise UsageError(
            "Workspace.create: a workspace is a folder, created on first use",
            hint="use `Workspace.from_config()`; `mkdir .tensoryard` gives a project a workspace of its own",
        )

    @classmethod
    def get(cls, *args: Any, **others: Any) -> NoReturn:
        """Raises UsageError: a workspace has no name in a subscription to be found by."""
        raise UsageError(
            "Workspace.get: a workspace is found by its folder, not by a subscription",
            hint="use `Workspace.from_config()`, or `Workspace.from_config('path/of/its/folder')`",
        )


def _inner(folder: Path) -> Path:
    """The workspace that a folder holds, or is."""
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def _named_by_the_environment(name: str) -> Path:
    """The folder that $TYARD_WORKSPACE names; one that is not there yet must be possible."""
    import tempfile

    path = Path(name)
    hint = "export TYARD_WORKSPACE=/a/folder/of/yours"
    try:
        if path.is_dir():
            return _inner(path)
        if path.exists():
            raise UsageError(f"TYARD_WORKSPACE: `{name}` is not a folder", hint)
        above = next(folder for folder in path.absolute().parents if folder.exists())
        # Made and removed again: permissions alone say nothing of a folder such as /proc.
        Path(tempfile.mkdtemp(prefix=".tyard-", dir=above)).rmdir()
    except OSError as error:
        raise UsageError(f"TYARD_WORKSPACE: `{name}` cannot be made a folder: {error.strerror}", hint) from None
    return path
