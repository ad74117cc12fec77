"""`tyard completion`: the script that lets a shell complete commands, options, runs and models."""

import click

_VARIABLE = "_TYARD_COMPLETE"

# Not click's own: bash takes `digits:3` and `digits@champion` for three words each. They are joined again where no
# blank is between them. What bash holds for finished is taken off the words that are offered: all up to the last
# break, but for an `@`, which readline replaces with what follows it.
_BASH = r"""_tyard_completion() {
    local IFS=$'\n' rest=$COMP_LINE words=() last=-1 at word breaks before="" type value
    for (( at = 0; at <= COMP_CWORD; at++ )); do
        word=${COMP_WORDS[at]}
        if [[ $at -eq 0 || $rest == [[:blank:]]* ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            words[++last]=$word
        else
            words[last]+=$word
        fi
        rest=${rest#"$word"}
    done

    word=${words[last]}
    [[ $word == --*=* ]] && word=${word#*=}
    breaks=${COMP_WORDBREAKS//[^:@=]/}
    [[ -n $breaks ]] && before=${word%"${word##*[$breaks]}"}
    before=${before%@}

    while IFS=, read -r type value; do
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            [[ $word == [\"\']* ]] || printf -v value %q "$value"
            [[ $value == */ ]] && compopt -o nospace
            COMPREPLY+=("${value#"$before"}")
        fi
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$last _TYARD_COMPLETE=bash_complete "$1" 2> /dev/null)
}

complete -o nosort -F _tyard_completion tyard
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print the completion script of a shell.

    For zsh put the bash line into ~/.zshrc with `zsh` in it; for fish write the script to
    ~/.config/fish/completions/tyard.fish. Bash has to be 4.4 or newer.

    \b
    Examples:
      echo 'eval "$(tyard completion bash)"' >> ~/.bashrc
      tyard completion fish > ~/.config/fish/completions/tyard.fish
    """
    from click.shell_completion import get_completion_class

    from tensoryard.cli.main import tyard

    found = get_completion_class(shell)
    if shell == "bash" or found is None:
        click.echo(_BASH, nl=False)
    else:
        click.echo(found(tyard, {}, "tyard", _VARIABLE).source())
