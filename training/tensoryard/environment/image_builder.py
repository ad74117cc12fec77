"""
Environments as container images: built by buildah without a daemon, kept in a registry, unpacked to be run in.

    images/asked/<key>.json      what one spec became: its Environment, and the image below it by digest
    images/<digest>/             see `ImageFolders`
    buildah/                     buildah's own storage: layers that later builds take up

The key of an image is made of the Dockerfile and all that it is built with, and is its tag in the registry: whoever
asks for the same image finds it there.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tensoryard.environment import Environment, EnvironmentSpec, ImageSpec, Log, Package, buildah, locking
from tensoryard.environment.image import (
    PREFIX,
    ImageInputs,
    Reference,
    default_base,
    dockerfile,
    parse_reference,
    shared_part,
)
from tensoryard.environment.image_folders import ImageFolders, short, size_of
from tensoryard.environment.image_unpack import OciFolder
from tensoryard.environment.interpreter import describe
from tensoryard.environment.lock import recipe_key
from tensoryard.environment.resolve import pinned, pins
from tensoryard.environment.spec import HOROVOD, Recipe, recipe
from tensoryard.environment.venv import Pruned, VenvBuilder
from tensoryard.errors import EnvironmentBuildError, NotFoundError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import INDEXES, MANIFESTS, Place

REPOSITORY = "tensoryard/environments"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a spec became. base: the digest of the image it stands on, pinned when it was locked."""

    base: str
    environment: Environment | None = None


class ImageBuilder:
    """
    Images of environments; see `EnvironmentBuilder`.

    venvs: has the locks and Horovod's wheels; registry: host and path that images are pushed below, "" for none:
    then they are on this machine only.
    """

    def __init__(self, venvs: VenvBuilder, registry: str = "") -> None:
        self.venvs = venvs
        self.cache = venvs.cache
        self.registry = registry.strip("/")
        self._images = self.cache / "images"
        self.folders = ImageFolders(self._images, self._flock)

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
        asked = self._asked(_key(wanted, image))
        found = asked.environment if asked else None
        if found is None or not (Path(found.unpacked) / "image.json").exists():
            return None
        with contextlib.suppress(OSError):  # a cache that others own can be used all the same
            os.utime(Path(found.unpacked) / "used")
        return found

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
        self._images.mkdir(parents=True, exist_ok=True)
        key = _key(wanted, image)
        with locking.held(self._flock(key), "the image of this environment", log):
            if not rebuild and (found := self.find_recipe(wanted, image)):
                return found
            if image.existing:
                made = self._existing(image, log)
            elif image.dockerfile:
                made = self._of_the_job(image, log, rebuild)
            else:
                made = self._ours(wanted, image, log, rebuild)
            made = msgspec.structs.replace(made, spec=spec)
            asked = self._asked(key)
            self._write(key, Asked(base=asked.base if asked else "", environment=made))
            return made

    def list(self) -> list[Environment]:
        """Every image that is unpacked here, each once."""
        records = (self._asked(path.stem) for path in (self._images / "asked").glob("[!.]*.json"))
        found = {
            record.environment.image: record.environment
            for record in records
            if record and record.environment and (Path(record.environment.unpacked) / "image.json").exists()
        }
        return [*found.values()]

    def prune(self, unused_days: float | None, dry_run: bool) -> tuple[Pruned, ...]:
        """
        The images not used for unused_days (None: all), removed from this machine unless dry_run.

        One that a running process is in, or that is being unpacked, stays.
        """
        before = time.time() - (unused_days or 0) * 86400
        pruned = []
        for environment in self.list():
            folder = Path(environment.unpacked)
            used_at = (folder / "used").stat().st_mtime
            if (unused_days is not None and used_at > before) or self.folders.is_busy(folder):
                continue
            if locking.is_held(self._flock(f"build-{environment.hash}")):
                continue
            pruned.append(
                Pruned(hash=environment.hash, name=environment.name, own_bytes=environment.own_bytes, used_at=used_at)
            )
            if not dry_run:
                self.folders.remove(folder)
        storage = self.cache / "buildah"
        if pruned and not dry_run and storage.is_dir():
            buildah.Buildah(storage).forget([one.hash for one in pruned])
        return tuple(pruned)

    def push(self, environment: Environment, registry: str, log: Log) -> str:
        """
        The name, with its digest, of an image that was built here and is now in a registry.

        Raises NotFoundError for an image that was not built here, StoreError or EnvironmentBuildError for a registry
        that does not take it.
        """
        storage = self.cache / "buildah"
        if not environment.image or not storage.is_dir() or not buildah.Buildah(storage).has(environment.hash):
            raise NotFoundError(
                f"environment `{environment.hash}` is no image that was built on this machine",
                hint="`tyard env build job.yaml` builds the image of a job",
            )
        host, _, path = f"{registry.strip('/')}/{REPOSITORY}".partition("/")
        digest = buildah.Buildah(storage).push(environment.hash, Place(host, path, environment.hash), log)
        return f"{host}/{path}@{digest}"

    def lock(self, environment: Environment) -> str:
        """The lock of an image's Python packages, as it lies in the image; "" for an image that is not ours."""
        text = ""
        for name in ("framework.lock", "requirements.lock"):
            with contextlib.suppress(FileNotFoundError):
                text += (Path(environment.unpacked) / "root" / "opt" / name).read_text(encoding="utf-8")
        return text

    def inputs(self, wanted: Recipe, image: ImageSpec, log: Log, rebuild: bool = False) -> ImageInputs:
        """
        What the image of a recipe is made from: locks it, and pins its base, where that was not done before.

        rebuild: do both again, so that newer packages and a base that moved under its tag come in.
        """
        lock, python = self.venvs.lock_recipe(wanted, log, rebuild)
        framework = lock.requirements
        if wanted.requirements:
            alone, _ = self.venvs.lock_recipe(msgspec.structs.replace(wanted, requirements=()), log)
            framework = shared_part(lock.requirements, alone.requirements)
        reference = parse_reference(image.base or default_base(wanted.python), "base_image")
        wheel, mpi = "", None
        if wanted.horovod_for is not None:
            from tensoryard.environment import horovod

            release = pinned(lock.requirements, wanted.horovod_for)
            made_from = horovod.wheel_inputs(wanted.horovod_for, release, describe(python), wanted.use_gpu)
            compiled = horovod.ensure_wheel(self.cache, made_from, python, wanted.use_gpu, log)
            wheel, mpi = f"{made_from.key}/{compiled.file}", made_from.mpi
        return ImageInputs(
            name=wanted.name,
            python=wanted.python,
            base_name=str(reference),
            base=reference.at(self._base(_key(wanted, image), reference, rebuild)),
            system_packages=tuple(sorted(set(image.system_packages))),
            mpi=mpi is not None,
            requirements=lock.requirements,
            framework=framework,
            wheel=wheel,
        )

    def write_context(self, inputs: ImageInputs, folder: Path) -> None:
        """The Dockerfile, and beside it all that it is built with."""
        import uv

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Dockerfile").write_text(dockerfile(inputs), encoding="utf-8")
        for file in inputs.locks():
            (folder / file.name).write_text(file.text, encoding="utf-8")
        shutil.copy(uv.find_uv_bin(), folder / "uv")
        if inputs.wheel:
            (folder / inputs.wheel).parent.mkdir(exist_ok=True)
            shutil.copy(self.cache / "wheels" / "horovod" / inputs.wheel, folder / inputs.wheel)

    def _ours(self, wanted: Recipe, image: ImageSpec, log: Log, rebuild: bool) -> Environment:
        inputs = self.inputs(wanted, image, log, rebuild)
        key = inputs.key

        def build(tool: buildah.Buildah, aside: Path) -> None:
            log(f"building image {key} ({inputs.name}) on {inputs.base_name}")
            self.write_context(inputs, aside / "context")
            tool.build(key, aside / "context", log)

        digest, unpacked = self._made(key, build, log, rebuild)
        packages = pins(inputs.requirements) | ({"horovod": HOROVOD} if inputs.wheel else {})
        return Environment(
            hash=key,
            name=inputs.name,
            python=f"{PREFIX}/bin/python",
            python_version=inputs.python,
            tensorflow=pinned(inputs.requirements, "tensorflow-cpu") or pinned(inputs.requirements, "tensorflow"),
            horovod=HOROVOD if inputs.wheel else None,
            mpi="Open MPI" if inputs.mpi else None,
            lock_sha256=hashlib.sha256(inputs.requirements.encode()).hexdigest(),
            packages=tuple(Package(name, version) for name, version in sorted(packages.items())),
            created_at=time.time(),
            size_bytes=size_of(unpacked),
            own_bytes=size_of(unpacked),
            image=f"{self._repository}@{digest}",
            unpacked=str(unpacked),
        )

    def _of_the_job(self, image: ImageSpec, log: Log, rebuild: bool) -> Environment:
        key = _key(None, image)

        def build(tool: buildah.Buildah, aside: Path) -> None:
            log(f"building image {key} from {image.dockerfile}")
            tool.build(key, Path(image.folder), log, image.dockerfile)

        digest, unpacked = self._made(key, build, log, rebuild)
        return _not_ours(image.dockerfile, f"{self._repository}@{digest}", key, unpacked)

    def _existing(self, image: ImageSpec, log: Log) -> Environment:
        reference = parse_reference(image.existing, "image")
        digest = reference.digest or resolve(reference, "image")
        unpacked = self.folders.unpack(Client(_place(reference)), digest, log)
        key = digest.removeprefix("sha256:")[:16]
        return _not_ours(image.existing, reference.at(digest), key, unpacked)

    def _made(
        self, key: str, build: Callable[[buildah.Buildah, Path], None], log: Log, rebuild: bool
    ) -> tuple[str, Path]:
        """The digest and the folder of an image: from the registry, else built, and pushed where there is one."""
        with locking.held(self._flock(f"build-{key}"), f"the build of image {key}", log) as waited:
            # Who waited for another's build has what that one made.
            digest = self._in_registry(key) if waited or not rebuild else None
            if digest is not None:
                log(f"image {short(digest)} in {self.registry}: reused")
                return digest, self.folders.unpack(Client(self._place(key)), digest, log)
            tool = buildah.Buildah(self.cache / "buildah")
            for dead in self._images.glob(f".building-{key}-*"):
                shutil.rmtree(dead, ignore_errors=True)  # the lock is ours, so whoever left it is gone
            aside = Path(tempfile.mkdtemp(prefix=f".building-{key}-", dir=self._images))
            try:
                with locking.held(self.cache / "flocks" / "buildah", "another image's build", log):
                    build(tool, aside)
                    if self.registry:
                        digest = tool.push(key, self._place(key), log)
                        return digest, self.folders.unpack(Client(self._place(key)), digest, log)
                    source = OciFolder(tool.export(key, aside / "oci", log))
                    return source.newest(), self.folders.unpack(source, source.newest(), log)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def _base(self, key: str, reference: Reference, rebuild: bool) -> str:
        """The digest of the base, asked for once."""
        asked = None if rebuild else self._asked(key)
        if reference.digest or (asked and asked.base):
            return reference.digest or (asked.base if asked else "")
        digest = resolve(reference, "base_image")
        self._write(key, Asked(base=digest))
        return digest

    def _in_registry(self, key: str) -> str | None:
        return Client(self._place(key)).tagged() if self.registry else None

    @property
    def _repository(self) -> str:
        return f"{self.registry or 'localhost'}/{REPOSITORY}"

    def _place(self, key: str) -> Place:
        host, _, path = f"{self.registry}/{REPOSITORY}".partition("/")
        return Place(host, path, key)

    def _asked(self, key: str) -> Asked | None:
        try:
            return msgspec.json.decode((self._images / "asked" / f"{key}.json").read_bytes(), type=Asked)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self, key: str, asked: Asked) -> None:
        path = self._images / "asked" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
        aside.write_bytes(msgspec.json.encode(asked))
        aside.replace(path)

    def _flock(self, name: str) -> Path:
        return self.cache / "flocks" / f"image-{name}"


def resolve(reference: Reference, field: str) -> str:
    """The digest that a tag names now. Raises NotFoundError when it names none."""
    place = _place(reference)
    client = Client(place)
    found = client.tagged((*MANIFESTS, *INDEXES))
    if found is None:
        raise NotFoundError(
            f"{field}: registry `{place.registry}` has no `{place.repository}:{place.tag}`",
            hint="check its name and tag",
        )
    return found


def _place(reference: Reference) -> Place:
    return Place(reference.registry, reference.repository, reference.digest or reference.tag)


def _image(spec: EnvironmentSpec) -> ImageSpec:
    assert spec.image is not None
    return spec.image


def _not_ours(name: str, image: str, key: str, unpacked: Path) -> Environment:
    """The environment in an image whose contents we do not know."""
    return Environment(
        hash=key,
        name=name,
        python="python",
        python_version="",
        tensorflow="",
        # Whether it has one shows when a rank starts.
        mpi="the image's own",
        lock_sha256="",
        created_at=time.time(),
        size_bytes=size_of(unpacked),
        own_bytes=size_of(unpacked),
        image=image,
        unpacked=str(unpacked),
    )


def _key(wanted: Recipe | None, image: ImageSpec) -> str:
    """16 hex digits over what is asked; wanted: None where no package is installed by us."""
    parts = [image.existing]
    if image.dockerfile:
        parts = ["dockerfile", image.dockerfile, image.context]
    elif not image.existing:
        assert wanted is not None
        parts = ["", recipe_key(wanted), image.base, *sorted(set(image.system_packages))]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
