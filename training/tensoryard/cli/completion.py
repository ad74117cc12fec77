"""`tyard completion`: the script that lets a shell complete commands, options, runs and models."""

import click

_VARIABLE = "_TYARD_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print the completion script of a shell.

    For zsh put the bash line into ~/.zshrc with `zsh` in it; for fish write the script to
    ~/.config/fish/completions/tyard.fish.

    \b
    Examples:
      echo 'eval "$(tyard completion bash)"' >> ~/.bashrc
      tyard completion fish > ~/.config/fish/completions/tyard.fish
    """
    from click.shell_completion import get_completion_class

    from tensoryard.cli.main import tyard

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(tyard, {}, "tyard", _VARIABLE).source())
