"""
Models and their versions.

A version exists from the moment its record is there: the number before it and the tags after it may be lost without
harm. Deletion, restoration and aliases are events beside the record, so that nothing is ever edited.
"""

import posixpath
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tensoryard.errors import AlreadyExistsError, CorruptRecordError, NotFoundError, StoreError, UsageError
from tensoryard.registry.aliases import alias_number, aliases_of
from tensoryard.registry.changes import delete, point, restore
from tensoryard.registry.deletions import deletion_of, gone
from tensoryard.registry.downloads import Problem, download_version, problems
from tensoryard.registry.history import history
from tensoryard.registry.outcome import told_of_registration
from tensoryard.registry.records import (
    NEWEST,
    Event,
    FileRecord,
    ModelVersion,
    Reference,
    check_alias,
    check_labels,
    decode_version,
    index_tags,
    now,
    parse_reference,
    tree_digest,
    whoami,
)
from tensoryard.registry.sources import folder_files, nearest, pinned, run_files, run_lineage
from tensoryard.registry.tickets import (
    NUMBERS_TRIED,
    check_case,
    highest_number,
    number_of_nonce,
    take_number,
    used_up,
)
from tensoryard.store import Store, is_folder, keys
from tensoryard.store.parallel import in_batches

Warn = Callable[[str], None]


def _no_warning(message: str) -> None:
    pass


class Registry:
    """
    The models of one store.

    warn: called with one sentence for what was passed over, such as a record that cannot be read.
    """

    def __init__(self, store: Store, warn: Warn = _no_warning) -> None:
        self.store = store
        self.warn = warn
        self._ticket_files: dict[str, int] = {}

    def register(
        self,
        name: str,
        files: Sequence[FileRecord],
        *,
        run_id: str | None = None,
        source_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        lineage: Mapping[str, Any] | None = None,
        copy: bool = False,
        nonce: str | None = None,
        created_by: str | None = None,
    ) -> ModelVersion:
        """
        The new version, made of values that are in the store; killed at any moment, all of it is there or nothing.

        copy: keep copies under their digests, so that deleting the originals cannot hurt the version.
        nonce: any text; a second call with it returns the version of the first, however that one ended.
        Raises NotFoundError or VerificationError for a file that is gone or differs, UsageError for a bad name.
        """
        keys.check_name("model", name)
        if is_folder(self.store):  # whose disk may take this name for another's; else it is asked of new names only
            check_case(self.store, name)
        with told_of_registration(name, nonce):
            kept = pinned(self.store, files, copy=copy)
            version = ModelVersion(
                name=name,
                version=0,
                nonce=nonce or secrets.token_hex(16),
                created_at=now(),
                created_by=created_by or whoami(),
                files=kept,
                tree_digest=tree_digest(kept),
                size_bytes=sum(file.size_bytes for file in kept),
                run_id=run_id,
                source_path=source_path,
                lineage=dict(lineage or {}),
                tags=check_labels("tags", tags),
                properties=check_labels("properties", properties),
            )
            if nonce:
                return self._commit(version, number_of_nonce(self.store, name, nonce, self._ticket_files))
            for _ in range(NUMBERS_TRIED):
                try:
                    return self._commit(version, take_number(self.store, name, self._ticket_files))
                except AlreadyExistsError:
                    continue
            raise used_up(name)

    def register_run_files(
        self,
        name: str,
        run_id: str,
        path: str,
        *,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        lineage: Mapping[str, Any] | None = None,
        copy: bool = False,
        nonce: str | None = None,
        created_by: str | None = None,
    ) -> ModelVersion:
        """
        The new version, made of what a finished run has at a path such as `outputs/model`, a folder or a file, be it
        written by the run or uploaded to it.

        run_id: as `find_run` takes it. tags: added to those of the run's job. lineage: where it comes from; read from
        the run's own records when it is None. The rest is as in `register`.
        Raises NotFoundError that says what the run has when the path is not among it.
        """
        from tensoryard.run import find_run

        keys.check_name("model", name)
        run = find_run(self.store, run_id)
        files = run_files(run, path, self.warn)
        return self.register(
            name,
            files,
            run_id=run.id,
            source_path=posixpath.normpath(path),
            tags={**run.job.tags, **(tags or {})},
            properties=properties,
            lineage=run_lineage(run, self.warn) if lineage is None else lineage,
            copy=copy,
            nonce=nonce,
            created_by=created_by,
        )

    def register_folder(
        self,
        name: str,
        folder: Path,
        *,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        lineage: Mapping[str, Any] | None = None,
        nonce: str | None = None,
        created_by: str | None = None,
    ) -> ModelVersion:
        """The new version, made of a folder or file of this machine, whose bytes are copied into the store."""
        keys.check_name("model", name)
        return self.register(
            name,
            folder_files(self.store, folder),
            source_path=str(folder),
            tags=tags,
            properties=properties,
            lineage=lineage,
            nonce=nonce,
            created_by=created_by,
        )

    def get(self, name: str, which: int | str | None = None) -> ModelVersion:
        """
        One version: by its number, by an alias, or the newest that is not deleted.

        Raises NotFoundError that says what there is, CorruptRecordError when the record cannot be read.
        """
        keys.check_name("model", name)
        if which is None or which == NEWEST:
            return self._newest(name)
        if isinstance(which, str):
            number = alias_number(self.store, name, check_alias(which))
            if number is None:
                raise self._no_alias(name, which)
            return self._live(name, number, f"alias `{which}` names it; ")
        return self._live(name, which)

    def resolve(self, reference: str | Reference) -> ModelVersion:
        """The version named by `digits`, `digits:3` or `digits@champion`; see `parse_reference` and `get`."""
        wanted = parse_reference(reference) if isinstance(reference, str) else reference
        return self.get(wanted.name, wanted.alias or wanted.version)

    def list_models(self) -> Iterator[str]:
        """The names of all models, in order."""
        for name in self.store.children(keys.MODELS):
            if name.endswith("/"):
                yield name.removesuffix("/")

    def list_versions(self, name: str, *, before: int | None = None) -> Iterator[ModelVersion]:
        """
        The versions that are not deleted, newest first, read a few at a time as the iteration goes.

        before: only versions below this number, to go on where a page ended.
        A record that cannot be read is passed over with a warning. Raises NotFoundError for an unknown model.
        """
        highest = self._highest(name)
        yield from self._versions(name, highest if before is None else min(highest, before - 1), self.warn)

    def aliases(self, name: str) -> dict[str, int]:
        """The version number of each alias that names one, in the order of the aliases."""
        return aliases_of(self.store, name)

    def alias(self, name: str, alias: str, version: int | None, *, by: str | None = None) -> Event:
        """
        The event that made alias name a version, or none where version is None; of two writers the later holds.

        Raises NotFoundError when there is no such version, or no such alias to take away.
        """
        check_alias(alias)
        if version is not None:
            self.get(name, version)
        elif alias_number(self.store, name, alias) is None:
            raise self._no_alias(name, alias)
        event = point(self.store, name, alias, version, by)
        if event is None:
            raise self._no_alias(name, alias)
        return event

    def delete(
        self, name: str, version: int, *, reason: str = "", force: bool = False, by: str | None = None
    ) -> Event | None:
        """
        The event that hides a version; its number is never used again, and `restore` undoes it until a clean-up.

        Deleting twice changes nothing. Raises UsageError when an alias names the version and force is false.
        """
        self._check_there(name, version)
        return delete(self.store, name, version, reason, force, by)

    def restore(self, name: str, version: int, *, by: str | None = None) -> Event | None:
        """
        The event that brings a deleted version back; None when it never was deleted.

        Raises NotFoundError when a clean-up gave it up (see `gc.collect`).
        """
        self._check_there(name, version)
        return restore(self.store, name, version, by)

    def history(self, name: str) -> list[Event]:
        """
        Everything that happened to a model, oldest first, whatever the clocks of the machines said: who, when, what.

        Records that cannot be read are passed over with a warning. Raises NotFoundError for an unknown model.
        """
        self._highest(name)
        return history(self.store, name, self.warn)

    def download(self, reference: str | Reference, target: Path) -> ModelVersion:
        """The version whose files now lie below target, every byte checked; see `downloads.download_version`."""
        version = self.resolve(reference)
        self.download_version(version, target)
        return version

    def download_version(self, version: ModelVersion, target: Path) -> None:
        """Writes the files of a version that was read before below target; see `downloads.download_version`."""
        download_version(self.store, version, target)

    def verify(self, reference: str | Reference) -> list[Problem]:
        """What is wrong with the stored bytes of a version, all of them read; empty when nothing is."""
        return self.verify_version(self.resolve(reference))

    def verify_version(self, version: ModelVersion) -> list[Problem]:
        """What is wrong with the stored bytes of a version that was read before."""
        return problems(self.store, version)

    def _commit(self, version: ModelVersion, number: int) -> ModelVersion:
        """The version under a number, written now or before by its nonce. Raises AlreadyExistsError for any other."""
        version = msgspec.structs.replace(version, version=number)
        key = keys.model_version(version.name, number)
        try:
            self.store.put(key, msgspec.json.encode(version), tags=index_tags(version))
            return version
        except AlreadyExistsError:
            found = self._read(version.name, number)
            if found is None or found.nonce != version.nonce:
                raise
        if found.tree_digest != version.tree_digest:
            raise UsageError(
                f"nonce: `{version.nonce}` registered other files as `{found.name}:{number}`", "use another nonce"
            )
        # The call that wrote the record may have been killed before its tags were; whoever may not write tags has it.
        with suppress(StoreError):
            self.store.set_tags(key, index_tags(found))
        return found

    def _read(self, name: str, number: int) -> ModelVersion | None:
        key = keys.model_version(name, number)
        try:
            return decode_version(self.store.read(key), key, name, number)
        except NotFoundError:
            return None

    def _newest(self, name: str) -> ModelVersion:
        highest = self._highest(name)
        try:
            version = self._read(name, highest)
        except CorruptRecordError:
            # Nobody should get an older version without a word, unless this one is hidden.
            if deletion_of(self.store, name, highest) is None:
                raise
        else:
            if version is not None and deletion_of(self.store, name, highest) is None:
                return version
        for version in self._versions(name, highest - 1, None):
            return version
        raise NotFoundError(f"model `{name}`: has no version, as all were deleted or none was finished")

    def _versions(self, name: str, highest: int, warn: Warn | None) -> Iterator[ModelVersion]:
        """Versions that are not hidden, from highest down; without warn a record that cannot be read is an error."""
        touched = {keys.parse_numbered(child) for child in self.store.children(keys.model_events(name))}

        def read(number: int) -> ModelVersion | CorruptRecordError | None:
            try:
                if number in touched and deletion_of(self.store, name, number) is not None:
                    return None
                return self._read(name, number)
            except CorruptRecordError as error:
                return error

        for found in in_batches(self.store, read, range(highest, 0, -1)):
            if isinstance(found, ModelVersion):
                yield found
            elif found is not None and warn is None:
                raise found
            elif found is not None and warn is not None:
                warn(found.message)

    def _live(self, name: str, number: int, why: str = "") -> ModelVersion:
        version = self._read(name, number)
        if version is None:
            raise self._no_version(name, number)
        deletion = deletion_of(self.store, name, number)
        if deletion is not None:
            raise NotFoundError(*gone(name, number, deletion, why))
        return version

    def _check_there(self, name: str, number: int) -> None:
        """That a version was registered, even if its record cannot be read any more."""
        keys.check_name("model", name)
        if number < 1 or self.store.stat(keys.model_version(name, number)) is None:
            raise self._no_version(name, number)

    def _highest(self, name: str) -> int:
        highest = highest_number(self.store, keys.check_name("model", name))
        if not highest:
            raise NotFoundError(f"model `{name}`: there is no such model", nearest(name, self.list_models()))
        return highest

    def _no_version(self, name: str, number: int) -> NotFoundError:
        newest = self._newest(name).version
        return NotFoundError(f"`{name}:{number}`: there is no such version, the newest is {newest}")

    def _no_alias(self, name: str, alias: str) -> NotFoundError:
        self._highest(name)
        known = self.aliases(name)
        has = ", ".join(f"`{one}`" for one in known) or "none"
        return NotFoundError(f"model `{name}`: has no alias `{alias}`, its aliases are: {has}", nearest(alias, known))
