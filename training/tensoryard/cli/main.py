"""`tyard`: the table of its commands, and the one place where an error becomes an exit code."""

import importlib
import io
import os
import sys
from typing import Any

import click

from tensoryard import __version__
from tensoryard.errors import StoreError, TensoryardError, UsageError

# name: (module, what it is for). A command's module is imported only when that command is meant.
COMMANDS = {
    "init": ("init", "Make a job folder that runs as it is"),
    "render": ("render", "Show every file a job would run with"),
    "run": ("run", "Run a job and follow it to its end"),
    "runs": ("runs", "List, follow, cancel and fetch runs"),
    "models": ("models", "Register, find, verify and fetch model versions"),
    "data": ("data", "Put data into the workspace and get it back"),
    "env": ("env", "Build, list and prune the environments of jobs"),
    "workspace": ("workspace", "Say which workspace is used, and connect to one on Azure"),
    "node": ("node", "Start and stop the machines of Slurm's nodes"),
    "controller": ("controller", "Serve the runs of compute targets, on a cluster's head node"),
    "cluster": ("cluster", "Show clusters, their nodes and why they are as they are"),
    "infra": ("infra", "Review what the Pulumi program would do to Azure"),
    "schema": ("schema", "Print the JSON Schema of job.yaml for editors"),
    "doctor": ("doctor", "Say what this machine has and lacks, each with its fix"),
    "completion": ("completion", "Print the shell completion script"),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and loads one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tensoryard.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=about) for name, (_, about) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return found or super(click.Group, self).shell_complete(ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tyard")
def tyard() -> None:
    """
    Train TensorFlow on one machine or many, and keep what it made.

    \b
    Examples:
      tyard init mnist --kind single     a new job folder
      tyard run mnist/job.yaml           run it, follow it
    """


def main() -> None:
    """The console script. Exit codes: 0 done, 1 tyard failed, 2 wrong use, 3 the run failed or was canceled."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows its number: no output ends in a stack trace.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = tyard.main(standalone_mode=False, prog_name="tyard")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        show_error(_worded(error))
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped", err=True)
        code = 1
    except TensoryardError as error:
        show_error(error)
        code = 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # The reader of a pipe went away, as `head` does: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        # No command foresees every disk: what the system says, and of which file, is what there is to say.
        from tensoryard.store.disk import HINTS

        where = f"`{error.filename}`: " if error.filename else ""
        said = os.strerror(error.errno).lower() if error.errno else str(error)
        show_error(StoreError(f"{where}{said}", HINTS.get(error.errno or 0)))
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _worded(error: click.ClickException) -> UsageError:
    """A wrong option or argument in the words of all other errors: what was wrong, and the nearest right name."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _command_meant()
    message = error.format_message().rstrip(".")
    hint = f"`{command} --help` shows what there is"
    if isinstance(error, click.NoSuchOption | click.NoSuchCommand):
        message = error.message.rstrip(".")
        if error.possibilities:
            before = f"{command} " if isinstance(error, click.NoSuchCommand) else ""
            hint = f"did you mean {' or '.join(f'`{before}{name}`' for name in error.possibilities)}?"
    return UsageError(f"{command}: {message[:1].lower()}{message[1:]}", hint)


def _command_meant() -> str:
    """The command of this process: click does not say it with an option that lacks its value."""
    context = click.Context(tyard, info_name="tyard", resilient_parsing=True)
    for word in sys.argv[1:]:
        inner = context.command.get_command(context, word) if isinstance(context.command, click.Group) else None
        if inner is None:
            break
        context = click.Context(inner, info_name=word, parent=context, resilient_parsing=True)
    return context.command_path


def show_error(error: TensoryardError) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    if error.hint:
        click.echo(f"\n{click.style('hint:', bold=True)} {error.hint}", err=True)
