"""
Environments as container images: built by buildah without a daemon, kept in a registry, unpacked to be run in.

    images/asked/<key>.json      what one spec became on this machine: its Environment
    images/<digest>/             see `ImageFolders`
    buildah/                     buildah's own storage: layers that later builds take up
    records/                     what a workspace has in its store, where there is no workspace

What a spec is pinned to, and which image was built of it, is in the store, where all machines of a workspace look:
see `ImageRecords`. The key of an image is made of the Dockerfile and all that it is built with, and is its tag in the
registry; where the store says which digest that is, the tag is not asked.
"""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from tensoryard.environment import (
    Environment,
    EnvironmentSpec,
    ImageSpec,
    Log,
    build_turn,
    buildah,
    locking,
    own_dockerfile,
)
from tensoryard.environment.image import ImageInputs, parse_reference
from tensoryard.environment.image_asked import Asked, AskedImages
from tensoryard.environment.image_builds import Build, OursBuild, TheirsBuild
from tensoryard.environment.image_environment import REPOSITORY, at, not_ours, of_existing, of_inputs, reused
from tensoryard.environment.image_folders import ImageFolders, files_of, short
from tensoryard.environment.image_inputs import inputs_now, place_of, resolve, spec_key, write_context
from tensoryard.environment.image_programs import program
from tensoryard.environment.image_records import ImageRecords, Pin
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.environment.records import check_writable
from tensoryard.environment.spec import Recipe, recipe
from tensoryard.environment.venv import Pruned, VenvBuilder
from tensoryard.errors import EnvironmentBuildError, NotFoundError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import MANIFESTS, Place
from tensoryard.store import Store
from tensoryard.store.file import FileStore
from tensoryard.text import size

LEFT_SECONDS = 24 * 3600  # so long a build elsewhere is kept whose builder was killed and that nobody asks for
LOCAL = f"localhost/{REPOSITORY}"  # of images that were pushed nowhere


class ImageBuilder:
    """
    Images of environments; see `EnvironmentBuilder`.

    venvs: has the locks and Horovod's wheels; registry: host and path that images are pushed below, "" for none:
    then they are on this machine only; store: what the workspace's machines share, None for the cache alone;
    on_nodes: images are unpacked not here, but by the nodes that run in them.
    """

    def __init__(
        self, venvs: VenvBuilder, registry: str = "", store: Store | None = None, on_nodes: bool = False
    ) -> None:
        self.venvs = venvs
        self.cache = venvs.cache
        self.registry = registry.strip("/")
        self._images = self.cache / "images"
        self._building = self.cache / "flocks" / "buildah"
        self._asked = AskedImages(self._images / "asked")
        self._store = store or FileStore(self.cache / "records")
        self.records = ImageRecords(self._store)
        self.folders = ImageFolders(self._images, self._flock)
        if on_nodes:
            from tensoryard.environment.image_noted import NotedImages

            self.folders = NotedImages(self.cache / "noted", self._flock)

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        """The environment of a spec whose image is unpacked here, or None; marks it as used now."""
        return self.find_recipe(recipe(spec), _image(spec))

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        """
        The environment of a spec as an image: found in the registry or built and pushed, and unpacked here.

        Raises EnvironmentBuildError when it cannot be built, StoreError for what the registry refuses.
        """
        return self.ensure_recipe(recipe(spec), _image(spec), log, rebuild, spec)

    def find_recipe(self, wanted: Recipe, image: ImageSpec) -> Environment | None:
        """The environment of a recipe in an image that is unpacked here, or None."""
        if "@" in image.existing:
            reference = parse_reference(image.existing, "image")
            unpacked = self.folders.find(reference.digest)
            return of_existing(image, reference.digest, unpacked) if unpacked else None
        key = spec_key(wanted, image)
        asked = self._asked.find(key)
        if asked is None or asked.number != self._newest_pin(key, image):
            return None  # or moved by another machine
        unpacked = self.folders.find(asked.environment.image.partition("@")[2])
        return msgspec.structs.replace(asked.environment, unpacked=str(unpacked)) if unpacked else None

    def ensure_recipe(
        self,
        wanted: Recipe,
        image: ImageSpec,
        log: Log,
        rebuild: bool = False,
        spec: EnvironmentSpec | None = None,
    ) -> Environment:
        """The environment of a recipe in an image, built if it is not there; spec: kept in its record."""
        if not rebuild and (found := self.find_recipe(wanted, image)):
            return found
        if not sys.platform.startswith("linux"):
            raise EnvironmentBuildError("runtime: images are built and run on Linux", hint="leave `runtime` out")
        check_writable(self.cache)
        for folder in (self._images, self.folders.folder):
            folder.mkdir(parents=True, exist_ok=True)
        key = spec_key(wanted, image)
        with locking.held(self._flock(key), "the image of this environment", log):
            if not rebuild and (found := self.find_recipe(wanted, image)):
                return found
            if image.dockerfile:
                own = own_dockerfile.pinned(image, self.records, log, rebuild)
                number, made = own.number, self._of_the_job(own, log, rebuild)
            elif "@" in image.existing:
                number, made = 0, self._existing(image, parse_reference(image.existing, "image").digest, log)
            else:
                number, pin = self._pinned(key, wanted, image, log, rebuild)
                made = (
                    self._existing(image, pin.digest, log)
                    if pin.inputs is None
                    else self._ours(pin.inputs, wanted, log, rebuild)
                )
            made = msgspec.structs.replace(made, spec=spec)
            self._asked.write(key, Asked(number=number, environment=made))
            return made

    def update(self, wanted: Recipe, image: ImageSpec, log: Log) -> tuple[Pin | None, Pin]:
        """
        What a spec was pinned to, if it was, and what it is pinned to now: newest packages, and the base of this day.

        Nothing is built, and nothing is recorded where nothing moved.
        """
        key = spec_key(wanted, image)
        number = self.records.newest_pin(key)
        before = self.records.pin(key, number) if number else None
        now = self._now(wanted, image, log, rebuild=True)
        if before and (before.inputs, before.digest) == now:
            return before, before
        return before, self.records.add_pin(key, number + 1, *now)

    def list(self) -> list[Environment]:
        """Every image that is unpacked or noted here, each once."""
        return [*{asked.environment.image: asked.environment for _, asked in self._asked.all()}.values()]

    def prune(self, unused_days: float | None, dry_run: bool, free_bytes: int = 0) -> tuple[Pruned, ...]:
        """The images that `ImageFolders.prune` removes, from this machine only, and their layers in buildah."""
        from tensoryard.environment.image_noted import NotedImages

        known = {Path(environment.unpacked): environment for environment in self.list()}
        pruned = []
        here = ImageFolders(self._images, self._flock), NotedImages(self.cache / "noted", self._flock)
        for folders in (one for one in here if one.folder.is_dir()):
            for gone in folders.prune(unused_days, free_bytes, dry_run):
                environment = known.get(gone.folder)
                name, key = (environment.name, environment.hash) if environment else ("", gone.folder.name[:16])
                pruned.append(Pruned(hash=key, name=name, own_bytes=gone.own_bytes, used_at=gone.used_at))
        if not dry_run:
            self._sweep()
            with locking.alone(self._building) as nobody_builds:
                if pruned and nobody_builds:
                    self._free_storage()
        return tuple(pruned)

    def _free_storage(self) -> None:
        """Remove what buildah keeps of images that are neither unpacked nor noted here any more."""
        storage = self.cache / "buildah"
        if storage.is_dir():
            program(storage).keep_only([environment.hash for environment in self.list()])

    def push(self, environment: Environment, registry: str, log: Log) -> str:
        """
        The name, with its digest, of an image that was built here and is now in a registry.

        Raises NotFoundError for an image that was not built here, StoreError or EnvironmentBuildError for a registry
        that does not take it.
        """
        storage = self.cache / "buildah"
        if not environment.image or not storage.is_dir() or not program(storage).has(environment.hash):
            raise NotFoundError(
                f"environment `{environment.hash}` is no image that was built on this machine",
                hint="`tyard env build job.yaml` builds the image of a job",
            )
        host, _, path = f"{registry.strip('/')}/{REPOSITORY}".partition("/")
        digest = program(storage).push(environment.hash, Place(host, path, environment.hash), log)
        return f"{host}/{path}@{digest}"

    def lock(self, environment: Environment) -> str:
        """The lock of an image's Python packages, as it lies in the image; "" for an image that is not ours."""
        if (Path(environment.unpacked) / "pull.json").exists():
            return self._pinned_lock(environment)
        text = ""
        files = files_of(Path(environment.unpacked))
        for name in ("framework.lock", "requirements.lock"):
            if found := files.find(f"/opt/{name}"):
                text += Path(found).read_text(encoding="utf-8")
        return text

    def _pinned_lock(self, environment: Environment) -> str:
        """The same of an image whose files are on nodes only."""
        for key, asked in self._asked.all():
            if asked.environment.hash == environment.hash and asked.number:
                with contextlib.suppress(NotFoundError):  # another workspace's, or of a Dockerfile
                    inputs = self.records.pin(key, asked.number).inputs
                    return "".join(file.text for file in inputs.locks()) if inputs else ""
        return ""

    def inputs(self, wanted: Recipe, image: ImageSpec, log: Log) -> ImageInputs:
        """What the image of a recipe is made from: as it is pinned, which is done now if it was not."""
        pin = self._pinned(spec_key(wanted, image), wanted, image, log, rebuild=False)[1]
        assert pin.inputs is not None
        return pin.inputs

    def write_context(self, inputs: ImageInputs, folder: Path, log: Log) -> None:
        """The Dockerfile, and beside it all that it is built with."""
        write_context(inputs, folder, self.cache, self._store, log)

    def _pinned(self, key: str, wanted: Recipe, image: ImageSpec, log: Log, rebuild: bool) -> tuple[int, Pin]:
        """The pin of a spec and its number; of two that pin at once the first is right, also for the second."""
        number = self.records.newest_pin(key)
        if number and not rebuild:
            return number, self.records.pin(key, number)
        return number + 1, self.records.add_pin(key, number + 1, *self._now(wanted, image, log, rebuild))

    def _now(self, wanted: Recipe, image: ImageSpec, log: Log, rebuild: bool) -> tuple[ImageInputs | None, str]:
        if image.existing:
            return None, resolve(parse_reference(image.existing, "image"), "image")
        return inputs_now(self.venvs, self._store, wanted, image, log, rebuild), ""

    def _ours(self, inputs: ImageInputs, wanted: Recipe, log: Log, rebuild: bool) -> Environment:
        build = OursBuild(inputs, wanted.requirements, self.write_context, log, rebuild)
        return self._made(of_inputs(inputs), build, log, rebuild)

    def _existing(self, image: ImageSpec, digest: str, log: Log) -> Environment:
        place = place_of(parse_reference(image.existing, "image"))
        return of_existing(image, digest, self.folders.find(digest) or self._pulled(place, digest, log))

    def _of_the_job(self, own: own_dockerfile.Pinned, log: Log, rebuild: bool) -> Environment:
        described = msgspec.structs.replace(not_ours(own.image.dockerfile, own.key), base=own.base)
        return self._made(described, TheirsBuild(own, log, rebuild), log, rebuild)

    def _pulled(self, place: Place, digest: str, log: Log) -> Path:
        """The folder of an image of a registry. Raises NotFoundError, naming both, where it is not there."""
        wanted = place._replace(tag=digest)
        try:
            if f"{place.registry}/{place.repository}" == LOCAL:
                raise NotFoundError("")
            return self.folders.unpack(Client(wanted), digest, log)
        except NotFoundError:
            where = "this machine" if place.registry == "localhost" else f"registry `{place.registry}`"
            raise NotFoundError(
                f"{where} has no image `{place.registry}/{place.repository}@{digest}`",
                hint="it was removed there, or never pushed; `--rebuild` makes it anew",
            ) from None

    def _made(self, described: Environment, build: Build, log: Log, rebuild: bool) -> Environment:
        """An image by its description: as it was built before, else built, and pushed where there is a registry."""
        key = described.hash
        with locking.held(self._flock(f"build-{key}"), f"the build of image {key}", log) as waited:
            number, known = self.records.image(key, self._repository)
            # Who waited for another's build has what that one made.
            if (waited or not rebuild) and (found := self._there(described, number, known, log)):
                return found
            if not self.registry:
                return at(described, LOCAL, *self._built(key, build, log, rebuild))
            with build_turn.of_the_workspace(self._store, key, log):
                before, (number, known) = number, self.records.image(key, self._repository)
                # Who waited for another machine's build has what that one made.
                if number > before and (found := self._there(described, number, known, log)):
                    return found
                self._check_push(key)
                digest, _ = self._built(key, build, log, rebuild)
                made = self.records.add_image(number + 1, at(described, self._repository, digest, Path()))
            return self._here(made, log)

    def _built(self, key: str, build: Build, log: Log, anew: bool) -> tuple[str, Path]:
        """
        The digest of an image that was built now, and pushed; without a registry also its folder.

        anew: whether no layer of an earlier build will do.
        """
        tool = program(self.cache / "buildah")
        self._sweep()
        for dead in self._images.glob(f".building-{key}-*"):
            shutil.rmtree(dead, ignore_errors=True)  # the lock is ours, so whoever left it is gone
        aside = Path(tempfile.mkdtemp(prefix=f".building-{key}-", dir=self._images))
        try:
            with locking.held(self._building, "another image's build", log):
                tool.clear()
                try:
                    self._try(build, tool, aside, key)
                except buildah.DiskFullError as error:
                    shutil.rmtree(aside / "context", ignore_errors=True)  # first: there may be no room for a lock
                    freed = sum(one.own_bytes for one in self.prune(None, dry_run=False))
                    self._free_storage()
                    log(f"{error.message}: removed images that nobody uses ({size(freed)})")
                    self._try(build, tool, aside, key)
                if self.registry:
                    return tool.push(key, self._place(key), log), Path()
                source = OciFolder(tool.export(key, aside / "oci", log))
                return source.newest(), self.folders.unpack(source, source.newest(), log)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _check_push(self, key: str) -> None:
        """Raises StoreError where what takes minutes to build could not be pushed then."""
        Client(self._place(key), push=True).check_push()

    def _sweep(self) -> None:
        """Remove what builders that were killed have left of images that nobody builds now."""
        for left in [*self._images.glob(".building-*")]:
            key = left.name.split("-")[1]
            if not locking.is_held(self._flock(f"build-{key}")) and self._is_over(left):
                shutil.rmtree(left, ignore_errors=True)

    def _is_over(self, left: Path) -> bool:
        """Whether nobody builds any more in the folder of a builder that was killed."""
        return True

    def _try(self, build: Build, tool: buildah.Program, aside: Path, key: str) -> None:
        try:
            try:
                build(tool, aside)
            except OSError as error:  # before the program is asked, as what it builds from is copied
                if not buildah.is_full(error):
                    raise
                raise buildah.disk_full(f"image {key}", self._images) from None
        except buildah.DiskFullError as error:
            needs = build.needs()
            raise buildah.DiskFullError(f"{error.message}{needs and '; '}{needs}", error.hint) from None

    def _there(self, described: Environment, number: int, known: Environment | None, log: Log) -> Environment | None:
        """An image that was built before, by whoever; None where the registry has it no longer, or never had it."""
        if not self.registry:
            return None
        if known:
            digest = known.image.partition("@")[2]
            if unpacked := self.folders.find(digest):
                log(reused(known))
                return at(known, self._repository, digest, unpacked)
        # By the digest where it is known: a tag may be moved by others.
        tag = known.image.partition("@")[2] if known else described.hash
        found = Client(self._place(tag)).tagged(MANIFESTS)
        if found is None:
            if known:
                log(f"image {short(tag)} is not in {self.registry} any more")
            return None
        known = known or self.records.add_image(number + 1, at(described, self._repository, found, Path()))
        log(reused(known))
        return self._here(known, log)

    def _here(self, known: Environment, log: Log) -> Environment:
        repository, _, digest = known.image.partition("@")
        unpacked = self.folders.find(digest) or self._pulled(self._place(digest), digest, log)
        return at(known, repository, digest, unpacked)

    @property
    def _repository(self) -> str:
        return f"{self.registry or 'localhost'}/{REPOSITORY}"

    def _place(self, tag: str) -> Place:
        host, _, path = f"{self.registry}/{REPOSITORY}".partition("/")
        return Place(host, path, tag)

    def _newest_pin(self, key: str, image: ImageSpec) -> int:
        return own_dockerfile.newest(image, self.records) if image.dockerfile else self.records.newest_pin(key)

    def _flock(self, name: str) -> Path:
        return self.cache / "flocks" / f"image-{name}"


def _image(spec: EnvironmentSpec) -> ImageSpec:
    assert spec.image is not None
    return spec.image
