"""The datastore of a workspace as Python programs use it, with the names and meanings of Azure ML's SDK v1."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tensoryard.downloads import download_path
from tensoryard.errors import NotFoundError, UsageError
from tensoryard.folders import clean_path, folder_files, summary
from tensoryard.instead import refuse
from tensoryard.job import DatastoreReference
from tensoryard.uploads import upload_files

if TYPE_CHECKING:
    from tensoryard.workspace import Workspace

DEFAULT = "default"
# Azure ML's name of a workspace's own datastore, so that scripts that ask for it by name go on working.
_NAMES = (DEFAULT, "workspaceblobstore")


class Datastore:
    """
    A datastore of a workspace, which has one: `default`.

    Raises NotFoundError for another name.
    """

    def __init__(self, workspace: "Workspace", name: str = DEFAULT) -> None:
        if name not in _NAMES:
            raise NotFoundError(
                f"datastore: there is no `{name}`, this workspace has `{DEFAULT}`",
                hint="`ws.get_default_datastore()` gives it",
            )
        self.workspace = workspace
        self.name = DEFAULT

    def __repr__(self) -> str:
        return f"Datastore({self.workspace.name!r}, {self.name!r})"

    @classmethod
    def get(cls, workspace: "Workspace", datastore_name: str) -> "Datastore":
        """The datastore of that name."""
        return cls(workspace, datastore_name)

    @classmethod
    def get_default(cls, workspace: "Workspace") -> "Datastore":
        """The workspace's own datastore."""
        return cls(workspace)

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DatastoreReference:
        """
        A reference to a folder or file, for script_params and inputs; it need not be there yet.

        data_reference_name is refused: inputs have names.
        """
        refuse("path", data_reference_name=data_reference_name)
        return DatastoreReference(self.name, clean_path(path))

    def as_mount(self) -> DatastoreReference:
        """A reference to all of the datastore, read where it lies."""
        return self.path().as_mount()

    def as_download(self) -> DatastoreReference:
        """A reference to all of the datastore, copied into the run first."""
        return self.path().as_download()

    def upload(
        self,
        src_dir: str | Path,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DatastoreReference:
        """
        A reference to target_path, below which the files of src_dir now lie; None is the datastore's top.

        Files that are there with the same bytes are left alone, so the same call again sends what is missing.
        Raises AlreadyExistsError, before anything is written, when some are there with other bytes and overwrite is
        false; UsageError for a link out of src_dir and for names that cannot be kept; StoreError, which names them,
        when some files could not be sent: all others were.
        """
        return self._upload(folder_files(Path(src_dir)), target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Sequence[str | Path],
        relative_root: str | Path | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DatastoreReference:
        """
        A reference to target_path, below which the files now lie, with their paths from relative_root on.

        relative_root: None is the folder that all of them share. The rest is as in `upload`.
        """
        paths = [Path(file).absolute() for file in files]
        for path in paths:
            if not path.is_file():
                raise NotFoundError(f"`{path}`: there is no such file")
        shared = [str(path.parent) for path in paths] or ["."]
        root = Path(relative_root).absolute() if relative_root else Path(os.path.commonpath(shared))
        outside = next((path for path in paths if not path.is_relative_to(root)), None)
        if outside:
            raise UsageError(f"relative_root: `{outside}` is not below `{root}`")
        named = {path.relative_to(root).as_posix(): path for path in paths}
        return self._upload(named, target_path, overwrite, show_progress)

    def download(
        self, target_path: str | Path, prefix: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> int:
        """
        The number of files that are now below target_path, each under its whole path in the datastore.

        prefix: a folder or file of the datastore, None for all of it. Raises NotFoundError when there is nothing,
        AlreadyExistsError when a local file has other bytes and overwrite is false.
        """
        done = download_path(
            self.workspace.store,
            prefix,
            Path(target_path),
            whole_paths=True,
            overwrite=overwrite,
            show_progress=show_progress,
        )
        if show_progress:
            print(summary("Downloaded", done, str(target_path)))
        return done.files + done.same

    def _upload(
        self, files: Mapping[str, Path], target_path: str | None, overwrite: bool, show_progress: bool
    ) -> DatastoreReference:
        reference = self.path(target_path)
        done = upload_files(
            self.workspace.store, files, reference.path, overwrite=overwrite, show_progress=show_progress
        )
        if show_progress:
            print(summary("Uploaded", done, reference.path or "the datastore"))
        return reference
