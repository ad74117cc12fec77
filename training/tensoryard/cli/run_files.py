"""`tyard runs logs`, `files` and `download`: what a run wrote."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tensoryard.cli.complete import RUN, TASK, json_option, named
from tensoryard.cli.tables import print_json, print_table
from tensoryard.errors import NotFoundError, UsageError
from tensoryard.text import printable, size

if TYPE_CHECKING:
    from tensoryard.run import RunRecord
    from tensoryard.store import Store

_CHUNK_BYTES = 256 << 10
_LINE_BYTES = 64 << 10
_SHOWN = 8


@click.command()
@click.argument("run", type=RUN, default="latest")
@click.option("--task", type=TASK, metavar="TASK", help="Only this task's log (or `preparing`, `launch`).")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines of each log.")
def logs(run: str, task: str | None, tail: int | None) -> None:
    """
    Print the logs of a run.

    Every task's with its name before each line, or one task's alone, byte for byte when piped.

    \b
    Examples:
      tyard runs logs --tail 20
      tyard runs logs mnist-0007 --task worker-0 > worker-0.log
    """
    record = named(run)[1]
    found = [name for name in _log_names(record) if record.store.stat(record.key(f"logs/{name}.log"))]
    if task is not None and task not in found:
        here = f"this run has {', '.join(f'`{name}`' for name in found)}" if found else "it has written none yet"
        raise NotFoundError(f"run `{record.id}`: there is no log of `{task}`", here)
    out = sys.stdout.buffer
    for name in found if task is None else [task]:
        key = record.key(f"logs/{name}.log")
        start = 0 if tail is None else _tail_offset(record.store, key, tail)
        if task is not None and not sys.stdout.isatty():
            for chunk in _chunks(record.store, key, start):
                out.write(chunk)
        else:
            prefix = b"" if task is not None else f"{name} | ".encode()
            for line in _lines(record.store, key, start):
                if sys.stdout.isatty():
                    line = printable(line.decode(errors="replace")).encode()
                out.write(prefix + line + b"\n")
    out.flush()


@click.command()
@click.argument("run", type=RUN, default="latest")
@json_option
def files(run: str, as_json: bool) -> None:
    """
    List the files of a run: outputs, logs and metrics.

    \b
    Examples:
      tyard runs files
      tyard runs files mnist-0007 --json
    """
    from tensoryard.cli.run_facts import listed_files

    found = listed_files(named(run)[1])
    if as_json:
        print_json(found)
    elif found:
        print_table((), [(printable(str(file["path"])), size(file["size_bytes"])) for file in found])
    else:
        click.echo("No files yet", err=True)


@click.command()
@click.argument("run", type=RUN)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Into this folder; by default ./RUN.")
def download(run: str, paths: tuple[str, ...], to: Path | None) -> None:
    """
    Copy files of a run to this machine.

    Outputs are checked against the digests recorded when the run ended.

    PATH is a file or folder as `tyard runs files` shows it; without one, everything is copied.

    \b
    Examples:
      tyard runs download latest outputs/model --to ./model
      tyard runs download mnist-0007
    """
    from tensoryard.cli.run_facts import listed_files
    from tensoryard.store.keys import check_key
    from tensoryard.store.transfer import download as copy

    record = named(run)[1]
    folder = to or Path(record.id)
    wanted = _chosen(record, listed_files(record), paths)
    for file in wanted:
        check_key(str(file["path"]), "path")
    top = folder.resolve()
    for file in wanted:
        target = folder / str(file["path"])
        if not target.resolve().is_relative_to(top):
            raise UsageError(f"`{target}`: a link there leads out of `{folder}`", hint="download into a new folder")
    checked = 0
    kept_at = record.file_keys()
    for file in wanted:
        recorded = file["sha256"] is not None
        checked += recorded
        copy(
            record.store,
            kept_at[str(file["path"])],
            folder / str(file["path"]),
            file["sha256"],
            file["size_bytes"] if recorded else None,
        )
    total = size(sum(file["size_bytes"] for file in wanted))
    amount = f"{len(wanted)} file{'' if len(wanted) == 1 else 's'}, {total}"
    click.echo(f"Downloaded {amount}; checked the digest of {checked}", err=True)
    click.echo(folder)


def _chosen(record: "RunRecord", files: list[dict[str, Any]], paths: tuple[str, ...]) -> list[dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {}
    for path in paths or ("",):
        wanted = path.strip("/").removeprefix("./")
        found = [file for file in files if not wanted or f"{file['path']}/".startswith(f"{wanted}/")]
        if not found:
            shown = ", ".join(f"`{file['path']}`" for file in files[:_SHOWN])
            more = f" and {len(files) - _SHOWN} more (tyard runs files {record.id})" if len(files) > _SHOWN else ""
            hint = f"it has {shown}{more}" if files else "it has no files yet"
            raise NotFoundError(f"run `{record.id}`: there is no `{path}`", hint)
        chosen |= {str(file["path"]): file for file in found}
    return list(chosen.values())


def _log_names(record: "RunRecord") -> list[str]:
    return ["preparing", "launch", *(task.name for task in record.job.tasks())]


def _chunks(store: "Store", key: str, offset: int) -> Iterator[bytes]:
    while chunk := store.read(key, offset, _CHUNK_BYTES):
        yield chunk
        offset += len(chunk)


def _lines(store: "Store", key: str, offset: int) -> Iterator[bytes]:
    """Lines without their breaks; one that is very long in pieces, so that memory stays bounded."""
    rest = b""
    for chunk in _chunks(store, key, offset):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        while len(rest) > _LINE_BYTES:
            yield rest[:_LINE_BYTES]
            rest = rest[_LINE_BYTES:]
    if rest:
        yield rest


def _tail_offset(store: "Store", key: str, lines: int) -> int:
    """Where the last lines of a log begin, found from its end backwards."""
    entry = store.stat(key)
    end = entry.size_bytes if entry else 0
    if lines == 0 or end == 0:
        return end
    # The break at the very end closes the last line and begins none.
    wanted = lines + (store.read(key, end - 1, 1) == b"\n")
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        block = store.read(key, start, end - start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) != -1:
            wanted -= 1
            if wanted == 0:
                return start + at + 1
        end = start
    return 0
