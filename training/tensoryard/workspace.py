"""The workspace: where runs, data and models are kept, found from where the person stands."""

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tensoryard.errors import CorruptRecordError, NotFoundError
from tensoryard.store import Store, keys

if TYPE_CHECKING:
    from tensoryard.registry import Registry

FOLDER = ".tensoryard"
SETTINGS = "workspace.json"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    workspace.json, all of it optional.

    concurrent_runs: runs that may be in Running on this machine at once; the others wait in Scaling.
    """

    name: str = "local"
    concurrent_runs: int = 1


class Workspace:
    """
    A workspace by its folder. `Workspace.from_config()` finds the one to use.

    root: the folder; name: from its workspace.json, else "local".
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> "Workspace":
        """
        The workspace at path; else of $TYARD_WORKSPACE; else the nearest `.tensoryard` folder from here upwards;
        else `~/.tensoryard`. It need not exist: the first thing kept in it makes it.

        Raises NotFoundError when a path is given and is not there.
        """
        if path is not None:
            given = Path(path)
            given = given.parent if given.name == SETTINGS else given
            if not given.is_dir():
                raise NotFoundError(f"workspace: `{path}` is not a folder", hint=f"make it: mkdir -p {path}")
            return cls(given / FOLDER if (given / FOLDER).is_dir() else given)
        if os.environ.get("TYARD_WORKSPACE"):
            return cls(Path(os.environ["TYARD_WORKSPACE"]))
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / FOLDER).is_dir():
                return cls(folder / FOLDER)
        return cls(Path.home() / FOLDER)

    @property
    def name(self) -> str:
        return self.settings().name

    def settings(self) -> Settings:
        """workspace.json as it is now. Raises CorruptRecordError when it cannot be read."""
        path = self.root / SETTINGS
        try:
            return msgspec.json.decode(path.read_bytes(), type=Settings)
        except FileNotFoundError:
            return Settings()
        except msgspec.MsgspecError as error:
            raise CorruptRecordError(f"{path}: {error}") from None

    @cached_property
    def store(self) -> Store:
        from tensoryard.store.file import FileStore

        return FileStore(self.root)

    @cached_property
    def registry(self) -> "Registry":
        from tensoryard.registry import Registry

        return Registry(self.store)

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run on disks that its nodes share."""
        folder = self.store.local_path(keys.run(run_id))
        if folder is None:
            raise NotFoundError(f"run `{run_id}`: this workspace keeps no runs on this machine's disks")
        return folder
