"""
Virtual environments in a cache folder, one for each lock, built by uv.

    locks/<key>/lock.json        what one recipe was locked to, written once
    locks/<key>/environment      the hash of the environment that lock became on this machine
    environments/<hash>/         environment.json (there only when finished), lock.txt, used, venv/
    wheels/horovod/<key>/        see ``horovod``
    flocks/                      empty but for the name of who holds each lock

A build goes into `environments/.building-<hash>-...` and is renamed when it is finished, so a folder with a
hash for its name is always whole, whatever was killed and when.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tensoryard.environment import Environment, EnvironmentSpec, Log, Package, bytecode, command, locking
from tensoryard.environment.in_use import in_use
from tensoryard.environment.interpreter import Interpreter, describe, this_platform
from tensoryard.environment.interpreter import find as find_python
from tensoryard.environment.lock import CondaRecord, Lock, content_hash, recipe_key
from tensoryard.environment.resolve import pinned, resolve
from tensoryard.environment.spec import HOROVOD, Recipe, recipe
from tensoryard.errors import EnvironmentBuildError, NotFoundError

_MIB = 1024**2


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that `prune` removes or would remove; own_bytes: what that frees."""

    hash: str
    name: str
    own_bytes: int
    used_at: float


def default_cache() -> Path:
    """$TYARD_CACHE, else tensoryard below $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("TYARD_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "tensoryard"


class VenvBuilder:
    """
    Builds environments into a cache folder that all workspaces of a user share; see `EnvironmentBuilder`.

    cache: the folder, created when first needed; `default_cache()` when not given.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache or default_cache()
        self._environments = self.cache / "environments"

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        """The finished environment of a spec, or None."""
        return self.find_recipe(recipe(spec))

    def ensure(self, spec: EnvironmentSpec, log: Log, rebuild: bool = False) -> Environment:
        """The environment of a spec, built if it is not there. Raises EnvironmentBuildError when it cannot be."""
        return self.ensure_recipe(recipe(spec), log, rebuild, spec)

    def lock(self, environment: Environment) -> str:
        """The lock of an environment. Raises NotFoundError when it was pruned."""
        try:
            return (self._folder(environment.hash) / "lock.txt").read_text()
        except FileNotFoundError:
            raise _absent(environment.hash) from None

    def find_recipe(self, wanted: Recipe) -> Environment | None:
        """The finished environment of a recipe, or None; marks it as used now."""
        try:
            found = self._read((self._locks(recipe_key(wanted)) / "environment").read_text())
        except FileNotFoundError:
            return None
        with contextlib.suppress(OSError):  # a cache that others own can be used all the same
            os.utime(self._folder(found.hash) / "used")
        # The link to the base interpreter dangles once that Python is uninstalled.
        return found if Path(found.python).exists() else None

    def ensure_recipe(
        self, wanted: Recipe, log: Log, rebuild: bool = False, spec: EnvironmentSpec | None = None
    ) -> Environment:
        """The environment of a recipe, built if it is not there; spec: kept in its record."""
        if not rebuild and (found := self.find_recipe(wanted)):
            return found
        key = recipe_key(wanted)
        self._environments.mkdir(parents=True, exist_ok=True)
        with locking.held(self.cache / "flocks" / key, f"the build of environment {wanted.name}", log):
            if not rebuild and (found := self.find_recipe(wanted)):
                return found
            self._check_space(wanted)
            python = None if wanted.conda_packages else find_python(wanted.python, self.cache, log)
            lock = self._locked(key, wanted, python, rebuild, log)
            environment = self._built(lock, python, rebuild, spec, log)
            _write(self._locks(key) / "environment", environment.hash.encode())
            return environment

    def lock_recipe(self, wanted: Recipe, log: Log, rebuild: bool = False) -> tuple[Lock, Path]:
        """The lock of a recipe without conda packages, made if need be, and the Python that it was made for."""
        with locking.held(self.cache / "flocks" / recipe_key(wanted), f"the lock of {wanted.name}", log):
            python = find_python(wanted.python, self.cache, log)
            return self._locked(recipe_key(wanted), wanted, python, rebuild, log), python

    def update(self, wanted: Recipe, log: Log) -> tuple[str, str]:
        """The packages of a lock as it was ("" for none) and as it is now, made anew; the next run builds from it."""
        key = recipe_key(wanted)
        with locking.held(self.cache / "flocks" / key, f"the build of environment {wanted.name}", log):
            path = self._locks(key) / "lock.json"
            before = msgspec.json.decode(path.read_bytes(), type=Lock) if path.exists() else None
            python = None if wanted.conda_packages else find_python(wanted.python, self.cache, log)
            after = self._locked(key, wanted, python, True, log)
            if before is None or (before.requirements, before.conda) != (after.requirements, after.conda):
                (self._locks(key) / "environment").unlink(missing_ok=True)
            return before.packages if before else "", after.packages

    def list(self) -> list[Environment]:
        """Every finished environment, the newest first."""
        names = [path.parent.name for path in self._environments.glob("[!.]*/environment.json")]
        return sorted(map(self._read, names), key=lambda environment: -environment.created_at)

    def show(self, environment_hash: str) -> Environment:
        """
        The environment with a hash, or with a hash that begins so, or the newest with this name.

        Raises NotFoundError when there is none, or more than one hash begins so.
        """
        return chosen(self.list(), environment_hash)

    def prune(self, unused_days: float | None = 30, dry_run: bool = True, free_bytes: int = 0) -> tuple[Pruned, ...]:
        """
        The environments not used for unused_days (None: all of them), and then of the others those used longest ago
        until free_bytes are free; removed unless dry_run.

        One that a running process uses, or that is being built, stays. Locks stay, so a later run gets the
        same packages again; Horovod's wheels stay unless all environments go.
        """
        before = time.time() - (unused_days or 0) * 86400
        pruned = []
        used = {one: (self._folder(one.hash) / "used").stat().st_mtime for one in self.list()}
        free = shutil.disk_usage(self._environments).free if used else 0
        for environment, used_at in sorted(used.items(), key=lambda item: item[1]):
            folder = self._folder(environment.hash)
            if (unused_days is not None and used_at > before and free >= free_bytes) or in_use(folder):
                continue
            if locking.is_held(self._flock(environment.hash)):
                continue
            one = Pruned(
                hash=environment.hash, name=environment.name, own_bytes=environment.own_bytes, used_at=used_at
            )
            pruned.append(one)
            free += one.own_bytes
            if not dry_run:
                self._remove(folder)
        if not dry_run:
            if unused_days is None:
                self._remove(self.cache / "wheels")
            self._remove_leftovers()
        return tuple(pruned)

    def _locked(self, key: str, wanted: Recipe, python: Path | None, rebuild: bool, log: Log) -> Lock:
        """The stored lock of a recipe, made first if there is none or rebuild."""
        path = self._locks(key) / "lock.json"
        if not rebuild and path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Lock)
        log(f"locking {wanted.name} for Python {wanted.python}")
        records: tuple[CondaRecord, ...] = ()
        version = str(python)
        if wanted.conda_packages:
            from tensoryard.environment import conda

            records = conda.solve(wanted, log)
            version = next(record.version for record in records if record.name == "python")
        text = resolve(wanted, version, self.cache, log) if wanted.base or wanted.requirements else ""
        lock = Lock(recipe=wanted, requirements=text, conda=records, locked_at=time.time())
        _write(path, msgspec.json.encode(lock))
        return lock

    def _built(
        self, lock: Lock, python: Path | None, rebuild: bool, spec: EnvironmentSpec | None, log: Log
    ) -> Environment:
        """The environment of a lock, built aside and renamed if it is not there."""
        interpreter = describe(python) if python else _conda_interpreter(lock)
        wheel_inputs = None
        if lock.recipe.horovod_for is not None:
            from tensoryard.environment import horovod

            release = pinned(lock.requirements, lock.recipe.horovod_for)
            wheel_inputs = horovod.wheel_inputs(lock.recipe.horovod_for, release, interpreter, lock.recipe.use_gpu)
        environment_hash = content_hash(lock, interpreter, wheel_inputs.key if wheel_inputs else "")
        folder = self._folder(environment_hash)
        what = f"the build of environment {environment_hash}"
        with locking.held(self._flock(environment_hash), what, log) as waited:
            if (folder / "environment.json").exists() and (waited or not rebuild):
                found = self._read(environment_hash)
                if Path(found.python).exists():
                    return found
            self._remove_leftovers(environment_hash)
            aside = Path(tempfile.mkdtemp(prefix=f".building-{environment_hash}-", dir=self._environments))
            try:
                log(f"building environment {environment_hash} ({lock.recipe.name})")
                prefix = self._install(aside, folder, lock, python, log)
                wheel = None
                if wheel_inputs is not None:
                    wheel = horovod.ensure_wheel(
                        self.cache, wheel_inputs, prefix / "bin" / "python", lock.recipe.use_gpu, log
                    )
                    source = horovod.wheel_path(self.cache, wheel)
                    self._pip(prefix, lock, ["--no-deps", str(source)], log)
                packages = self._packages(prefix)
                names = {package.name for package in packages}
                packages += tuple(Package(one.name, one.version) for one in lock.conda if one.name not in names)
                donor = None if lock.conda else self._donor(interpreter.version, packages)
                bytecode.compile_all(prefix, donor, log)
                (aside / "lock.txt").write_text(lock.requirements)
                (aside / "used").touch()
                size_bytes, own_bytes = _sizes(aside)
                environment = Environment(
                    hash=environment_hash,
                    name=lock.recipe.name,
                    python=str(folder / "venv" / "bin" / "python"),
                    python_version=interpreter.version,
                    tensorflow=_tensorflow(lock),
                    horovod=HOROVOD if wheel else None,
                    mpi=wheel_inputs.mpi if wheel_inputs else None,
                    lock_sha256=hashlib.sha256(lock.requirements.encode()).hexdigest(),
                    spec=spec,
                    packages=packages,
                    created_at=time.time(),
                    size_bytes=size_bytes,
                    own_bytes=own_bytes,
                )
                _write(aside / "environment.json", msgspec.json.encode(environment))
                if folder.exists():
                    self._remove(folder)
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            log(f"built environment {environment_hash}: {size_bytes // _MIB} MiB, {own_bytes // _MIB} of its own")
            return environment

    def _install(self, aside: Path, folder: Path, lock: Lock, python: Path | None, log: Log) -> Path:
        """A prefix below aside with everything of the lock in it, to be moved to folder."""
        prefix = aside / "venv"
        if python is None:
            from tensoryard.environment import conda

            conda.install(lock.conda, prefix, folder / "venv", log)
        else:
            made = command.run(
                command.uv("venv", "--no-project", "--relocatable", "--quiet", "--python", python, prefix),
                cwd=aside,
                log=log,
            )
            if made.code != 0:
                raise _failed("the virtual environment could not be made", made.talk, lock)
        if lock.requirements.strip():
            text = aside / "lock.txt"
            text.write_text(lock.requirements)
            log("installing")
            self._pip(prefix, lock, ["--no-deps", "--require-hashes", "-r", str(text)], log)
        return prefix

    def _pip(self, prefix: Path, lock: Lock, arguments: Sequence[str], log: Log) -> None:
        python = prefix / "bin" / "python"
        # uv warns at every file system border that it copies; nothing can be done about it there.
        quiet = {"UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "hardlink")}
        finished = command.run(
            command.uv("pip", "install", "--python", python, "--no-progress", *arguments),
            cwd=prefix.parent,
            log=log,
            environ=quiet,
            keep_addresses=lock.recipe.requirements,
        )
        if finished.code != 0:
            raise _failed("the packages could not be installed", finished.talk, lock)

    def _donor(self, python_version: str, packages: tuple[Package, ...]) -> Path | None:
        """The prefix of the finished environment that shares most packages with a new one, or None."""
        same = [one for one in self.list() if one.python_version == python_version]
        best = max(same, key=lambda one: len({*packages}.intersection(one.packages)), default=None)
        return Path(best.python).parents[1] if best else None

    def _packages(self, prefix: Path) -> tuple[Package, ...]:
        argv = command.uv("pip", "list", "--format", "json", "--python", prefix / "bin" / "python")
        finished = command.run(argv, cwd=prefix.parent)
        return msgspec.json.decode(finished.stdout, type=tuple[Package, ...]) if finished.code == 0 else ()

    def _check_space(self, wanted: Recipe) -> None:
        free = shutil.disk_usage(self.cache).free
        if free < wanted.free_bytes:
            raise EnvironmentBuildError(
                f"{self.cache}: {free // _MIB} MiB are free, environment {wanted.name} needs "
                f"{wanted.free_bytes // _MIB} MiB",
                hint="run `tyard env prune --yes`, or set TYARD_CACHE to a folder on a larger disk",
            )

    def _read(self, environment_hash: str) -> Environment:
        record = self._folder(environment_hash) / "environment.json"
        found = msgspec.json.decode(record.read_bytes(), type=Environment)
        # The cache may have been moved since.
        return msgspec.structs.replace(found, python=str(record.parent / "venv" / "bin" / "python"))

    def _remove_leftovers(self, environment_hash: str = "") -> None:
        """Remove what dead builders left of one environment, whose lock is held, or of all that nobody builds."""
        command.end_orphans()
        for path in self._environments.glob(f".building-{environment_hash}*"):
            owner = path.name.split("-")[1]
            if environment_hash or not locking.is_held(self._flock(owner)):
                shutil.rmtree(path, ignore_errors=True)
        for path in self._environments.glob(".removed-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove(self, folder: Path) -> None:
        """Remove a folder so that nobody ever sees half of it under its name."""
        if folder.exists():
            away = Path(tempfile.mkdtemp(prefix=".removed-", dir=self._environments))
            folder.rename(away / folder.name)
            shutil.rmtree(away, ignore_errors=True)

    def _folder(self, environment_hash: str) -> Path:
        return self._environments / environment_hash

    def _locks(self, key: str) -> Path:
        return self.cache / "locks" / key

    def _flock(self, environment_hash: str) -> Path:
        return self.cache / "flocks" / f"environment-{environment_hash}"


def chosen(known: Sequence[Environment], wanted: str) -> Environment:
    """Of environments, the newest first, the one that `VenvBuilder.show` means by a text. Raises NotFoundError."""
    found = [one for one in known if wanted and one.hash.startswith(wanted)]
    if len(found) > 1:
        raise NotFoundError(f"{len(found)} environments begin with `{wanted}`: give more of the hash")
    if not found:
        found = [one for one in known if one.name == wanted][:1]
    if not found:
        raise _absent(wanted)
    return found[0]


def _conda_interpreter(lock: Lock) -> Interpreter:
    import sysconfig

    version = next(record.version for record in lock.conda if record.name == "python")
    abi = "conda-cpython-" + "".join(version.split(".")[:2])
    return Interpreter(version=version, abi=abi, platform=sysconfig.get_platform(), libc=this_platform())


def _tensorflow(lock: Lock) -> str:
    return pinned(lock.requirements, "tensorflow-cpu") or pinned(lock.requirements, "tensorflow")


def _failed(what: str, talk: list[str], lock: Lock) -> EnvironmentBuildError:
    said = [line for line in talk if line.strip()][-12:]
    if any("No space left on device" in line for line in said):
        return EnvironmentBuildError(
            f"environment {lock.recipe.name}: the disk filled up during the build",
            hint="run `tyard env prune --yes` or `uv cache prune`, or set TYARD_CACHE to a larger disk",
        )
    return EnvironmentBuildError(f"environment {lock.recipe.name}: {what}; uv says:\n" + "\n".join(said))


def _absent(environment_hash: str) -> NotFoundError:
    return NotFoundError(
        f"environment `{environment_hash}` is not on this machine", hint="`tyard env list` shows those that are"
    )


def _write(path: Path, data: bytes) -> None:
    """Put a whole file in place: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
    aside.write_bytes(data)
    aside.replace(path)


def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes of all files below a folder, and of those that have no other name elsewhere."""
    total = own = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - 20,000 files, a Path each costs a second
            total += status.st_size
            own += status.st_size if status.st_nlink == 1 else 0
    return total, own
