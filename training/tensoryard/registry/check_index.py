"""The index tags of versions compared with their records."""

from collections.abc import Sequence

from tensoryard.errors import NotFoundError, StoreError
from tensoryard.registry.check_keys import Kept
from tensoryard.registry.finding import Finding
from tensoryard.registry.records import ModelVersion, index_tags
from tensoryard.store import Store, is_folder, keys
from tensoryard.store.parallel import each


class Index:
    """The index tags of versions, as long as they can be read: who may read records may lack the role for that."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.findings: list[Finding] = []
        self._found: tuple[Kept, set[str]] | None = None

    def unlike(self, kept: Kept, versions: Sequence[ModelVersion], *, read_all: bool) -> list[ModelVersion]:
        """The versions whose tags are not those of their records; read_all: look at them one by one."""
        if self.findings or not versions:
            return []
        try:
            suspects = versions
            if not read_all:
                indexed = self._indexed(kept)
                suspects = [version for version in versions if kept.versions[version.version] not in indexed]
            tags = each(self.store, lambda version: self._tags(kept.versions[version.version]), suspects)
        except StoreError as error:
            what = f"the index tags were not looked at: {error.message}"
            self.findings.append(Finding(kind="index", model="", key=keys.MODELS, what=what, fix=error.hint or ""))
            return []
        # Blob storage finds by the tags themselves, later; a folder by its log of them, which has lost these.
        lost = is_folder(self.store) and not read_all
        return [
            one
            for one, found in zip(suspects, tags, strict=True)
            if found is not None and (lost or found != index_tags(one))
        ]

    def _indexed(self, kept: Kept) -> set[str]:
        """The keys that a search for the model finds."""
        if self._found is None or self._found[0] is not kept:
            found = self.store.find_by_tags({"model": kept.name}, keys.model(kept.name, "versions/"))
            self._found = (kept, set(found))
        return self._found[1]

    def _tags(self, key: str) -> dict[str, str] | None:
        try:
            return self.store.tags(key)
        except NotFoundError:
            return None
