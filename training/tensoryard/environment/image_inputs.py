"""What the image of a recipe is made from, as it is now: its lock, the base by its digest, Horovod's wheel."""

import hashlib
import platform
import shutil
import sys
from pathlib import Path

import msgspec

from tensoryard.environment import ImageSpec, Log
from tensoryard.environment.base_libc import base_libc, loads_in
from tensoryard.environment.image import (
    ImageInputs,
    Reference,
    default_base,
    dockerfile,
    parse_reference,
    shared_part,
)
from tensoryard.environment.interpreter import describe
from tensoryard.environment.lock import recipe_key
from tensoryard.environment.resolve import pinned
from tensoryard.environment.spec import Recipe
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import NotFoundError
from tensoryard.registry.oci_client import Client
from tensoryard.registry.oci_manifest import INDEXES, MANIFESTS, Place
from tensoryard.store import Store


def spec_key(wanted: Recipe | None, image: ImageSpec) -> str:
    """
    16 hex digits over what is asked, the same on every machine of a kind.

    wanted: None where no package is installed by us.
    """
    parts = [image.existing]
    if image.dockerfile:
        parts = ["dockerfile", image.dockerfile, image.context]
    elif not image.existing:
        assert wanted is not None
        # Not the C library of whoever asks: the image has its own.
        of_the_image = f"{sys.platform}-{platform.machine()}"
        parts = ["", recipe_key(wanted, of_the_image), image.base, *sorted(set(image.system_packages))]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def inputs_now(
    venvs: VenvBuilder, store: Store, wanted: Recipe, image: ImageSpec, log: Log, rebuild: bool
) -> ImageInputs:
    """
    What the image of a recipe is made from when nobody has pinned it, or somebody wants it anew.

    venvs: has the locks of this machine and its wheels; store: has the wheels of others; rebuild: lock again.
    """
    lock, python = venvs.lock_recipe(wanted, log, rebuild)
    framework = lock.requirements
    if wanted.requirements:
        bare = msgspec.structs.replace(wanted, requirements=())
        framework = shared_part(lock.requirements, venvs.lock_recipe(bare, log)[0].requirements)
        if rebuild and not framework:
            framework = shared_part(lock.requirements, venvs.lock_recipe(bare, log, rebuild)[0].requirements)
    reference = parse_reference(image.base or default_base(wanted.python), "base_image")
    digest = reference.digest or resolve(reference, "base_image")
    wheel, source = "", ""
    if wanted.horovod_for is not None:
        from tensoryard.environment import horovod, shared_wheels

        release = pinned(lock.requirements, wanted.horovod_for)
        made_from = horovod.wheel_inputs(wanted.horovod_for, release, describe(python), wanted.use_gpu)
        base = place_of(reference)._replace(tag=digest)
        if (
            made_from.mpi
            and loads_in(made_from.libc, base_libc(Client(base), digest))
            and (shared_wheels.bring(store, venvs.cache, made_from.key, log) or not horovod.missing_tools())
        ):
            compiled = horovod.ensure_wheel(venvs.cache, made_from, python, wanted.use_gpu, log)
            shared_wheels.share(store, venvs.cache, made_from.key, log)
            wheel = f"{made_from.key}/{compiled.file}"
        else:
            source = horovod.locked()
            log(
                "Horovod is compiled in the image's build: made here it would not load there, or not know MPI"
                + "; it reduces through the CPU" * wanted.use_gpu
            )
    return ImageInputs(
        name=wanted.name,
        python=wanted.python,
        base_name=str(reference),
        base=reference.at(digest),
        system_packages=tuple(sorted(set(image.system_packages))),
        mpi=wanted.horovod_for is not None,
        requirements=lock.requirements,
        framework=framework,
        wheel=wheel,
        horovod=source,
    )


def write_context(inputs: ImageInputs, folder: Path, cache: Path, store: Store, log: Log) -> None:
    """The Dockerfile, and beside it all that it is built with. Raises NotFoundError for a wheel that is nowhere."""
    import uv

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile(inputs), encoding="utf-8")
    for file in inputs.locks():
        (folder / file.name).write_text(file.text, encoding="utf-8")
    shutil.copy(uv.find_uv_bin(), folder / "uv")
    if inputs.wheel:
        from tensoryard.environment import shared_wheels

        wheel = cache / "wheels" / "horovod" / inputs.wheel
        if not shared_wheels.bring(store, cache, wheel.parent.name, log):
            raise NotFoundError(
                f"the wheel of Horovod that image {inputs.key} is made with is neither here nor in the workspace",
                hint="`tyard env build --rebuild job.yaml` compiles it again",
            )
        (folder / inputs.wheel).parent.mkdir(exist_ok=True)
        shutil.copy(wheel, folder / inputs.wheel)


def resolve(reference: Reference, field: str) -> str:
    """The digest that a tag names now. Raises NotFoundError when it names none."""
    place = place_of(reference)
    found = Client(place).tagged((*MANIFESTS, *INDEXES))
    if found is None:
        raise NotFoundError(
            f"{field}: registry `{place.registry}` has no `{place.repository}:{place.tag}`",
            hint="check its name and tag",
        )
    return found


def check_is_there(base: str, field: str, name: str) -> None:
    """Raises NotFoundError when what a name was pinned to is in its registry no longer. base: by its digest."""
    place = place_of(parse_reference(base, field))
    if Client(place).tagged((*MANIFESTS, *INDEXES)) is None:
        raise NotFoundError(
            f"{field}: registry `{place.registry}` has no `{place.repository}@{place.tag}` any more, which "
            f"`{name}` was when the environment was locked",
            hint="`tyard env update job.yaml` moves it to what that name means now, and says what changes",
        )


def place_of(reference: Reference) -> Place:
    """Where a registry has an image: by its digest where the name has one."""
    return Place(reference.registry, reference.repository, reference.digest or reference.tag)
