"""`tyard infra`: what the Pulumi program of a checkout would do to Azure, without asking Azure."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import click


@click.group()
def infra() -> None:
    """
    Review the workspace program of a checkout.

    \b
    Examples:
      tyard infra review                       every stack, as Markdown
      tyard infra review --base origin/main    what a branch changes
    """


@infra.command()
@click.option(
    "--stack", "stacks", multiple=True, metavar="STACK", help="A stack in stacks/; repeatable. Default: all."
)
@click.option("--base", metavar="GITREF", help="Compare with the program at this git revision.")
@click.option("--json", "as_json", is_flag=True, help="Print the review as JSON.")
@click.option("--sarif", is_flag=True, help="Print the findings as SARIF 2.1.0, for code scanning.")
@click.option(
    "--sarif-file", type=click.Path(dir_okay=False), metavar="FILE", help="Write the SARIF to a file as well."
)
@click.option(
    "--fail-on",
    type=click.Choice(["high", "medium", "low"]),
    help="End with exit code 3 when a finding this severe is open.",
)
@click.pass_context
def review(
    context: click.Context,
    stacks: tuple[str, ...],
    base: str | None,
    as_json: bool,
    sarif: bool,
    sarif_file: str | None,
    fail_on: str | None,
) -> None:
    """
    Print what `pulumi up` would do, whom it lets in and its cost.

    What is created, changed, replaced and removed, lost data first; what the internet reaches; who may do what;
    policy findings. Made from the checkout around the current folder, in seconds, without credentials or network.
    Markdown for a pull request unless --json or --sarif is given.

    \b
    Exit codes: 0 done, 1 a program ended in an error, 2 wrong use,
    3 a finding as severe as --fail-on says is open.

    \b
    Examples:
      tyard infra review --stack dev
      tyard infra review --base origin/main --fail-on high
    """
    from tensoryard.errors import NotFoundError, UsageError

    if as_json and sarif:
        raise UsageError("--json and --sarif cannot be given together", "give one of them")
    root = find_checkout(Path.cwd())
    if root is None:
        raise NotFoundError(
            f"no workspace program at or above {Path.cwd()}: no folder there has Pulumi.yaml and infra/__main__.py",
            "start in a checkout: `git clone` the Tensoryard repository and `cd` into it",
        )
    if not (root / "infra" / "review" / "__main__.py").is_file():
        raise NotFoundError(
            f"the program in {root} predates `tyard infra review`", "check a newer revision out: `git pull`"
        )
    if not all(map(importlib.util.find_spec, ("pulumi", "pulumi_azure_native"))):
        raise UsageError(
            f"the review needs Pulumi's Python packages, which the interpreter of tyard ({sys.executable}) lacks",
            f"in {root}: `make infra`",
        )
    argv = [sys.executable, "-m", "infra.review", *(f"--stack={stack}" for stack in stacks)]
    argv += [f"--base={base}"] if base is not None else []
    argv += ["--json"] * as_json + ["--sarif"] * sarif
    if sarif_file:
        argv += ["--sarif-file", str(Path(sarif_file).absolute())]
    argv += [f"--fail-on={fail_on}"] if fail_on else []
    context.exit(subprocess.run(argv, cwd=root, check=False).returncode)


def find_checkout(start: Path) -> Path | None:
    """The nearest folder at or above start that holds the workspace program, or None."""
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").is_file() and (folder / "infra" / "__main__.py").is_file():
            return folder
    return None
