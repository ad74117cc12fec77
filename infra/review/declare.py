"""
What the program declares: it runs unmodified against a monitor that writes down what it is told and answers as Azure.

No Pulumi CLI, no credential, no network. Settings come from `stacks/Pulumi.<stack>.yaml` as the CLI reads them, with
what Pulumi.yaml fills in.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

SECRET = "[secret]"  # noqa: S105 - what stands for one
STACK_TYPE = "pulumi:pulumi:Stack"


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """
    One resource or component as the program declared it.

    inputs, outputs: plain JSON in camelCase, secrets as "[secret]"; id: as Azure would have it, "" for a component;
    dependencies: urns; aliases: urns it had before; file, line: where the program declares it, relative to the root.
    The stack itself comes last, with the program's exports as outputs.
    """

    urn: str
    type: str
    name: str
    parent: str | None = None
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    id: str = ""
    custom: bool = True
    protect: bool = False
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    property_dependencies: dict[str, tuple[str, ...]] = {}
    delete_before_replace: bool = False
    aliases: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that the program refused before its first resource: which key, what was given, what may be, how."""

    key: str
    given: str
    allowed: str
    how: str
    text: str


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the program: its resources, or why it was refused or broke, and what it said."""

    stack: str
    resources: tuple[Declared, ...] = ()
    refused: Refused | None = None
    broken: str | None = None
    messages: tuple[str, ...] = ()
    config: dict[str, Any] = {}


class ProgramError(Exception):
    """The program raised something that is not about its settings; the text says where and what."""


def declare(root: Path, stack: str | None, config: Mapping[str, Any] | None = None) -> list[Declared]:
    """
    Everything that the program below root declares, in the order in which it became known.

    stack: whose file in stacks/ is read, None for no file; config: keys (`tensoryard:maxNodes`, or without the
    namespace for the project's own) set over it, as Python values.
    Raises the program's own SettingsError, ProgramError for anything else it raises, FileNotFoundError for the stack.
    """
    return list(_run(root, stack, config)[0])


def declaration(root: Path, stack: str | None, config: Mapping[str, Any] | None = None) -> Declaration:
    """The same as a record that also tells a refusal, a broken program and the program's messages."""
    name = stack or "review"
    try:
        values = stack_config(root, stack, config)
        resources, messages = _run(root, stack, config)
    except ProgramError as error:
        return Declaration(stack=name, broken=str(error), config=values)
    except Exception as error:
        if type(error).__name__ != "SettingsError":
            raise
        facts = {field: str(getattr(error, field)) for field in ("key", "given", "allowed", "how")}
        return Declaration(stack=name, refused=Refused(text=str(error), **facts), config=values)
    return Declaration(stack=name, resources=resources, messages=messages, config=values)


def stacks(root: Path) -> list[str]:
    """Names of the stacks that have a settings file, sorted."""
    return sorted(path.name.split(".", 2)[1] for path in (root / "stacks").glob("Pulumi.?*.yaml"))


def project(root: Path) -> dict[str, Any]:
    """Pulumi.yaml as data, {} where there is none."""
    return _yaml(root / "Pulumi.yaml") if (root / "Pulumi.yaml").exists() else {}


def stack_config(root: Path, stack: str | None, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Full config keys and their values as the CLI passes them on: the project's, the stack's, then those given."""
    about = project(root)
    space = about.get("name", "tensoryard")
    values: dict[str, Any] = {}
    for key, entry in (about.get("config") or {}).items():
        if not isinstance(entry, dict):
            values[_full(key, space)] = entry
        elif "value" in entry or "default" in entry:
            values[_full(key, space)] = entry.get("value", entry.get("default"))
    if stack is not None:
        written = _yaml(root / "stacks" / f"Pulumi.{stack}.yaml").get("config") or {}
        values |= {_full(key, space): value for key, value in written.items()}
    return values | {_full(key, space): value for key, value in (config or {}).items()}


def _full(key: str, space: str) -> str:
    return key if ":" in key else f"{space}:{key}"


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text("utf-8"), loader) or {}  # noqa: S506 - both loaders are safe ones


def _as_text(value: Any) -> str:
    """A config value as the CLI hands it to the program: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _run(
    root: Path, stack: str | None, config: Mapping[str, Any] | None
) -> tuple[tuple[Declared, ...], tuple[str, ...]]:
    root = root.resolve()
    values = stack_config(root, stack, config)
    secrets = [key for key, value in values.items() if isinstance(value, dict) and set(value) == {"secure"}]
    texts = {key: SECRET if key in secrets else _as_text(value) for key, value in values.items() if value is not None}
    context = contextvars.copy_context()  # Pulumi's settings are context variables: each run has its own
    return context.run(_run_program, root, stack or "review", texts, secrets)


def _run_program(
    root: Path, stack: str, config: dict[str, str], secrets: list[str]
) -> tuple[tuple[Declared, ...], tuple[str, ...]]:
    import pulumi.runtime.settings as runtime
    from pulumi.runtime.config import set_all_config
    from pulumi.runtime.stack import run_in_stack

    from infra.review.monitor import Engine, Recorder

    space = project(root).get("name", "tensoryard")
    monitor = Recorder(root, config.get("azure-native:location"))
    engine = Engine()
    runtime.set_root_resource(None)  # type: ignore[arg-type]
    runtime.configure(
        runtime.Settings(
            project=space, stack=stack, monitor=monitor, engine=engine, root_directory=str(root), dry_run=False
        )
    )
    set_all_config(config, secrets)

    async def program() -> None:
        with _imports_from(root), contextlib.redirect_stdout(sys.stderr):
            runpy.run_path(str(root / "infra" / "__main__.py"), run_name="__main__")
        # Pulumi waits for one output at a time and looks at all others each time: quadratic where there are many.
        while pending := [task for task in runtime.SETTINGS.outputs if not task.done()]:
            await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            if any(task.done() and not task.cancelled() and task.exception() for task in pending):
                break

    loop = asyncio.new_event_loop()
    loop.set_default_executor(_Here())
    loop.set_exception_handler(lambda *_: None)  # what failed first is raised; what failed with it says nothing new
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(run_in_stack(program))
    except Exception as error:
        if type(error).__name__ == "SettingsError":
            raise
        raise ProgramError(_where(error, root)) from error
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
    return tuple(monitor.declared()), tuple(engine.messages)


class _Here(ThreadPoolExecutor):
    """Runs what it is given at once: answers come in the order of the questions, and no thread is started."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


@contextlib.contextmanager
def _imports_from(root: Path) -> Iterator[None]:
    """Makes `import infra.x` mean the program below root, also where the review itself was loaded from elsewhere."""
    import infra

    path, searched = list(infra.__path__), list(sys.path)
    if path == [str(root / "infra")]:
        try:
            yield
        finally:
            sys.path[:] = searched
        return
    own = _take_out(infra)
    infra.__path__ = [str(root / "infra")]
    try:
        yield
    finally:
        _take_out(infra)
        sys.path[:] = searched
        infra.__path__ = path
        sys.modules.update(own)
        for name, module in own.items():
            if name.count(".") == 1:
                setattr(infra, name.removeprefix("infra."), module)


def _take_out(package: ModuleType) -> dict[str, ModuleType]:
    """Forgets the program's modules, the review's own apart, and returns them."""
    taken = {
        name: module
        for name, module in sys.modules.items()
        if name.startswith("infra.") and not name.startswith("infra.review")
    }
    for name in taken:
        del sys.modules[name]
        if name.count(".") == 1:
            vars(package).pop(name.removeprefix("infra."), None)
    return taken


def _where(error: BaseException, root: Path) -> str:
    """The place in the program where an error came from, its class and its text, on one line."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(root / "infra") and not file.is_relative_to(root / "infra" / "review"):
            place = f"{file.relative_to(root)}, line {trace.tb_lineno}: "
        trace = trace.tb_next
    if not place and error.__cause__ not in (None, error):  # Pulumi raises an error from itself
        return _where(error.__cause__, root)
    return f"{place}{type(error).__name__}: {' '.join(str(error).split())}"


def source_of(uri: str, root: Path) -> str | None:
    """The file of a `file:` URI relative to root when it belongs to the program, else None."""
    path = Path(unquote(urlsplit(uri).path))
    inside = path.is_relative_to(root / "infra") and not path.is_relative_to(root / "infra" / "review")
    return str(path.relative_to(root)) if inside else None


def main(argv: Sequence[str]) -> None:
    """Prints a JSON array with the Declaration of each stack: --root DIR, then names of stacks."""
    import argparse
    import gc

    gc.disable()  # all that is made lives until the end
    parser = argparse.ArgumentParser(prog="python -m infra.review.declare", description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the checkout with infra/")
    parser.add_argument("stack", nargs="*", help="a stack in stacks/; all of them when none is named")
    given = parser.parse_args(argv)
    names = given.stack or stacks(given.root)
    out = msgspec.json.encode([declaration(given.root, name) for name in names])
    sys.stdout.buffer.write(out)


if __name__ == "__main__":
    main(sys.argv[1:])
