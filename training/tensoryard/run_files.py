"""The files of a run as Python programs use them, with the names and meanings of Azure ML's SDK v1."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tensoryard.datastore import Datastore
from tensoryard.errors import NotFoundError, UsageError
from tensoryard.instead import refuse

if TYPE_CHECKING:
    from tensoryard.run import RunRecord
    from tensoryard.workspace import Workspace


class RunFiles:
    """What a run left, listed, fetched and added to."""

    def __init__(self, workspace: "Workspace", record: "RunRecord") -> None:
        self._workspace = workspace
        self._record = record

    def get_file_names(self) -> list[str]:
        """Paths of the run's files so far: outputs/..., logs/..., metrics/... and what was uploaded."""
        return self._record.file_names()

    def download_file(self, name: str, output_file_path: str | Path | None = None) -> None:
        """
        Write one of the run's files to this machine, whole and checked.

        output_file_path: a file, or a folder that is there; None is a file of the same name in the current folder.
        Raises NotFoundError that names the nearest when the run has no such file.
        """
        target = Path(name.rpartition("/")[2]) if output_file_path is None else Path(output_file_path)
        if target.is_dir() or str(output_file_path or "").endswith("/"):
            target = target / name.rpartition("/")[2]
        self._download([(name, target)])

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | Path | None = None,
        output_paths: Sequence[str | Path] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> None:
        """
        Write the run's files whose names start with a prefix to this machine, whole and checked.

        output_directory: where; None is the current folder. output_paths: a path for each file instead of its own.
        batch_size changes nothing. append_prefix: whether names keep the prefix. timeout_seconds is refused.
        Raises NotFoundError when no name starts so.
        """
        refuse("download_files", timeout_seconds=timeout_seconds)
        names = [name for name in self.get_file_names() if name.startswith(prefix or "")]
        if not names:
            raise NotFoundError(
                f"run `{self._record.id}`: has no file whose name starts with `{prefix or ''}`",
                hint="`run.get_file_names()` lists what it has",
            )
        if output_paths is not None and len(set(output_paths)) != len(names):
            raise UsageError(f"output_paths: got {len(set(output_paths))} different paths for {len(names)} files")
        start = 0 if append_prefix or prefix is None else len(prefix)
        inner = output_paths or [name[start:].lstrip("/") or name.rpartition("/")[2] for name in names]
        top = Path(output_directory or ".")
        self._download([(name, top / path) for name, path in zip(names, inner, strict=True)])

    def upload_file(
        self, name: str, path_or_stream: str | Path | IO[bytes], datastore_name: str | None = None
    ) -> None:
        """
        Add a file to the run's files, once; `register_model` takes it like one that the run wrote.

        datastore_name: of the workspace's one datastore, if any. Raises AlreadyExistsError when the run has a file
        of that name, NotFoundError for another datastore.
        """
        if datastore_name is not None:
            Datastore(self._workspace, datastore_name)
        if isinstance(path_or_stream, str | Path):
            self._record.upload(name, Path(path_or_stream))
            return
        with tempfile.NamedTemporaryFile() as file:
            while chunk := path_or_stream.read(1 << 20):
                file.write(chunk)
            file.flush()
            self._record.upload(name, Path(file.name))

    def _download(self, wanted: Sequence[tuple[str, Path]]) -> None:
        from tensoryard.store.transfer import download

        outputs = self._record.outputs()
        recorded = {file.path: file for file in outputs.files} if outputs else {}
        keys_of = self._record.file_keys()
        # `file_key` is for the error that names the nearest.
        found = [(name, keys_of.get(name) or self._record.file_key(name), path) for name, path in wanted]
        for name, key, path in found:
            file = recorded.get(name)
            ours = file is not None and key == self._record.key(name)
            sha256, size_bytes = (file.sha256, file.size_bytes) if file and ours else (None, None)
            download(self._record.store, key, path, sha256, size_bytes)
