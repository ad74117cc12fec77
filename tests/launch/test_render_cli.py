"""`tyard render` as a command: what it prints, what it writes with --out, and that it touches nothing else."""

import json
import re
from pathlib import Path

import pytest

from cli_runner import Tyard

TASKS = ("chief-0", "ps-0", "worker-0")


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with the bytes of each file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def printed(out: str) -> dict[str, str]:
    """The files that the command printed, by name."""
    _, *found = re.split(r"^==> (.*) <==\n", out, flags=re.MULTILINE)
    return {name: text.removesuffix("\n") for name, text in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize("scheduler", ["local", "slurm"])
def test_what_is_printed_is_what_out_writes_and_nothing_else_is_touched(cli: Tyard, scheduler: str) -> None:
    servers = {"parameter_server": {"worker_count": 1, "parameter_server_count": 1}}
    cli.job("", distributed_training=servers, node_count=2)
    before = tree(cli.folder)
    asked = ["render", "job.yaml", "--scheduler", scheduler, "--hosts", "gpu-1, gpu-2,gpu-3"]
    asked += ["--set", "node_count=3", "--set", "script_params.--note=it's $HOME"]

    shown = printed(cli(*asked))

    assert tree(cli.folder) == before
    assert sorted(shown) == ["layout.json", "run.sh", *(f"tf_config/{task}.json" for task in TASKS)]
    assert json.loads(shown["layout.json"])["hosts"] == ["gpu-1", "gpu-2", "gpu-3"]
    assert [line for line in shown["run.sh"].splitlines() if line.startswith("#SBATCH --nodes")] == (
        ["#SBATCH --nodes=3"] if scheduler == "slurm" else []
    )
    assert "  --note\n  'it'\"'\"'s $HOME'\n" in shown["run.sh"]

    out, talk = cli.both(*asked, "--out", "new/folder")

    assert (out, talk) == ("", "Wrote 5 files to new/folder\n")
    after = tree(cli.folder)
    written = {name.removeprefix("new/folder/"): data for name, data in after.items() if name.startswith("new/")}
    assert {name: text.encode() for name, text in shown.items()} == {
        name: data for name, data in written.items() if data is not None
    }
    assert before == {name: data for name, data in after.items() if name.split("/")[0] != "new"}


@pytest.mark.parametrize(
    ("out", "code", "said"),
    [
        ("train.py", 2, "error: --out: `train.py` is there and is no folder\n\nhint: name a new folder\n"),
        (".", 2, "error: --out: `.` is there and not empty\n\nhint: name a new folder\n"),
        ("train.py/below", 1, "error: `train.py/below`: writing failed: not a directory\n"),
    ],
)
def test_a_folder_that_out_cannot_make_is_said_in_one_line(cli: Tyard, out: str, code: int, said: str) -> None:
    cli.job("")
    before = tree(cli.folder)

    assert cli.both("render", "--out", out, code=code) == ("", said)
    assert tree(cli.folder) == before
