"""
Virtual environments in a cache folder, one for each lock, built by uv.

    locks/<key>/lock.json        what one recipe was locked to, written once
    locks/<key>/environment      the hash of the environment that lock became on this machine; with Horovod
                                 `environment-<MPI, CUDA>`, as each of these has an environment of its own
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

from tensoryard.environment import Environment, EnvironmentSpec, Log, Package, bytecode, command, locking, records
from tensoryard.environment.in_use import in_use
from tensoryard.environment.interpreter import Interpreter, describe
from tensoryard.environment.interpreter import find as find_python
from tensoryard.environment.lock import CondaRecord, Lock, content_hash, recipe_key
from tensoryard.environment.resolve import pinned, resolve
from tensoryard.environment.spec import HOROVOD, Recipe, recipe
from tensoryard.errors import CorruptRecordError, EnvironmentBuildError

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

    cache: the folder, created when first needed; `default_cache()` when not given; warn: called with one sentence
    for what was passed over, such as an environment whose record is damaged.
    """

    def __init__(self, cache: Path | None = None, warn: Log = lambda message: None) -> None:
        self.cache = cache or default_cache()
        self.warn = warn
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
            raise records.absent(environment.hash) from None

    def find_recipe(self, wanted: Recipe) -> Environment | None:
        """The finished environment of a recipe, or None; marks it as used now."""
        try:
            found = self._finished(self._pointer(wanted).read_text())
        except (FileNotFoundError, ValueError):  # or damaged: no text, or none that names a file
            return None
        if found is not None:
            with contextlib.suppress(OSError):  # a cache that others own can be used all the same
                os.utime(self._folder(found.hash) / "used")
        return found

    def ensure_recipe(
        self, wanted: Recipe, log: Log, rebuild: bool = False, spec: EnvironmentSpec | None = None
    ) -> Environment:
        """The environment of a recipe, built if it is not there; spec: kept in its record."""
        if not rebuild and (found := self.find_recipe(wanted)):
            return found
        records.check_writable(self.cache)
        key = recipe_key(wanted)
        with locking.held(self.cache / "flocks" / key, f"the build of environment {wanted.name}", log):
            if not rebuild and (found := self.find_recipe(wanted)):
                return found
            self._check_space(wanted)
            python = None if wanted.conda_packages else find_python(wanted.python, self.cache, log)
            lock = self._locked(key, wanted, python, rebuild, log)
            environment = self._built(lock, python, rebuild, spec, log)
            records.write(self._pointer(wanted), environment.hash.encode())
            return environment

    def lock_recipe(self, wanted: Recipe, log: Log, rebuild: bool = False) -> tuple[Lock, Path]:
        """The lock of a recipe without conda packages, made if need be, and the Python that it was made for."""
        records.check_writable(self.cache)
        with locking.held(self.cache / "flocks" / recipe_key(wanted), f"the lock of {wanted.name}", log):
            python = find_python(wanted.python, self.cache, log)
            return self._locked(recipe_key(wanted), wanted, python, rebuild, log), python

    def update(self, wanted: Recipe, log: Log) -> tuple[str, str]:
        """The packages of a lock as it was ("" for none) and as it is now, made anew; the next run builds from it."""
        records.check_writable(self.cache)
        key = recipe_key(wanted)
        with locking.held(self.cache / "flocks" / key, f"the build of environment {wanted.name}", log):
            before = self._stored_lock(key, log)
            python = None if wanted.conda_packages else find_python(wanted.python, self.cache, log)
            after = self._locked(key, wanted, python, True, log)
            if before is None or (before.requirements, before.conda) != (after.requirements, after.conda):
                for pointer in self._locks(key).glob("environment*"):
                    pointer.unlink()
            return before.packages if before else "", after.packages

    def list(self) -> list[Environment]:
        """Every finished environment, the newest first; one with a damaged record is passed over with a warning."""
        found = []
        for path in self._environments.glob("[!.]*/environment.json"):
            try:
                found.append(records.read_environment(path.parent))
            except CorruptRecordError as error:
                self.warn(f"{error.message}; a run that needs the environment builds it again")
        return sorted(found, key=lambda environment: -environment.created_at)

    def show(self, environment_hash: str) -> Environment:
        """
        The environment with a hash, or with a hash that begins so, or the newest with this name.

        Raises NotFoundError when there is none, or more than one hash begins so.
        """
        return records.chosen(self.list(), environment_hash)

    def prune(self, unused_days: float | None = 30, dry_run: bool = True, free_bytes: int = 0) -> tuple[Pruned, ...]:
        """
        The environments not used for unused_days (None: all of them), and then of the others those used longest ago
        until free_bytes are free; removed unless dry_run.

        One that a running process uses, or that is being built, stays. Locks stay, so a later run gets the
        same packages again; Horovod's wheels stay unless all environments go.
        """
        if not dry_run:
            records.check_writable(self.cache)
        before = time.time() - (unused_days or 0) * 86400
        pruned = []
        folders = [path.parent for path in self._environments.glob("[!.]*/environment.json")]
        used = {folder: records.last_used(folder) for folder in folders}
        free = shutil.disk_usage(self._environments).free if used else 0
        for folder, used_at in sorted(used.items(), key=lambda item: item[1]):
            if (unused_days is not None and used_at > before and free >= free_bytes) or in_use(folder):
                continue
            if locking.is_held(self._flock(folder.name)):
                continue
            try:
                record = records.read_environment(folder)
                name, own_bytes = record.name, record.own_bytes
            except CorruptRecordError:
                name, own_bytes = "", records.sizes(folder)[1]
            one = Pruned(hash=folder.name, name=name, own_bytes=own_bytes, used_at=used_at)
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
        if not rebuild and (stored := self._stored_lock(key, log)):
            return stored
        log(f"locking {wanted.name} for Python {wanted.python}")
        solved: tuple[CondaRecord, ...] = ()
        version = str(python)
        if wanted.conda_packages:
            from tensoryard.environment import conda

            solved = conda.solve(wanted, log)
            version = conda.interpreter(solved).version
        text = resolve(wanted, version, self.cache, log) if wanted.base or wanted.requirements else ""
        lock = Lock(recipe=wanted, requirements=text, conda=solved, locked_at=time.time())
        records.write(self._locks(key) / "lock.json", msgspec.json.encode(lock))
        return lock

    def _built(
        self, lock: Lock, python: Path | None, rebuild: bool, spec: EnvironmentSpec | None, log: Log
    ) -> Environment:
        """The environment of a lock, built aside and renamed if it is not there."""
        interpreter = _interpreter(lock, python)
        wheel_inputs = None
        if lock.recipe.horovod_for is not None:
            from tensoryard.environment import horovod

            release = pinned(lock.requirements, lock.recipe.horovod_for)
            wheel_inputs = horovod.wheel_inputs(lock.recipe.horovod_for, release, interpreter, lock.recipe.use_gpu)
        environment_hash = content_hash(lock, interpreter, wheel_inputs.key if wheel_inputs else "")
        folder = self._folder(environment_hash)
        what = f"the build of environment {environment_hash}"
        with locking.held(self._flock(environment_hash), what, log) as waited:
            if (waited or not rebuild) and (found := self._finished(environment_hash, log)):
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
                size_bytes, own_bytes = records.sizes(aside)
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
                records.write(aside / "environment.json", msgspec.json.encode(environment))
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

    def _finished(self, environment_hash: str, log: Log = lambda line: None) -> Environment | None:
        """An environment that is there and can be started; log: told that one is damaged."""
        try:
            found = records.read_environment(self._folder(environment_hash))
        except FileNotFoundError:
            return None
        except CorruptRecordError as error:
            log(f"{error.message}; the environment is built again")
            return None
        # The link to the base interpreter dangles once that Python is uninstalled.
        return found if Path(found.python).exists() else None

    def _stored_lock(self, key: str, log: Log) -> Lock | None:
        """The lock of a recipe, or None where there is none that can be read; log: told that one is damaged."""
        try:
            return records.read_lock(self._locks(key) / "lock.json")
        except FileNotFoundError:
            return None
        except CorruptRecordError as error:
            log(f"{error.message}; the packages are locked again")
            return None

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

    def _pointer(self, wanted: Recipe) -> Path:
        """The file with the hash of a recipe's environment."""
        compiled = ""
        if wanted.horovod_for is not None:
            from tensoryard.environment import horovod

            compiled = f"-{horovod.compiled_with(wanted.use_gpu)}"
        return self._locks(recipe_key(wanted)) / f"environment{compiled}"

    def _flock(self, environment_hash: str) -> Path:
        return self.cache / "flocks" / f"environment-{environment_hash}"


def _interpreter(lock: Lock, python: Path | None) -> Interpreter:
    if python is not None:
        return describe(python)
    from tensoryard.environment import conda

    return conda.interpreter(lock.conda)


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
