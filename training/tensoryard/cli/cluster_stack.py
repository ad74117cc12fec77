"""`tyard cluster create`, `scale` and `delete`: the clusters that a workspace's stack says."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tensoryard.errors import UsageError

if TYPE_CHECKING:
    from tensoryard.stack import Change
    from tensoryard.workspace import Workspace


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    stack = click.option(
        "--stack", metavar="NAME", help="The stack. Default: $TYARD_STACK, else the one of the workspace's name."
    )
    yes = click.option("--yes", is_flag=True, help="Also run `pulumi up`, and update this folder's workspace.json.")
    as_json = click.option("--json", "as_json", is_flag=True, help="A JSON object.")
    return stack(yes(as_json(command)))


@click.command()
@click.argument("name")
@click.option("--vm-size", metavar="SIZE", required=True, help="Azure's name of a GPU size.")
@click.option(
    "--max-nodes", type=click.IntRange(1, 1000), required=True, metavar="N", help="Maximum number of nodes."
)
@click.option("--spot", is_flag=True, help="Spot machines: cheaper, and taken away at 30 seconds' notice.")
@_options
def create(name: str, vm_size: str, max_nodes: int, spot: bool, stack: str | None, yes: bool, as_json: bool) -> None:
    """
    Write a new cluster into the workspace's stack.

    NAME: what jobs will call it. Asked for again, nothing changes. Nodes run only while runs wait for them.

    \b
    Examples:
      tyard cluster create big --vm-size Standard_NC8as_T4_v3 --max-nodes 4
      tyard cluster create big --vm-size Standard_NC8as_T4_v3 --max-nodes 4 --spot --yes
    """
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    _check_free(workspace, name)
    cluster = {"name": name, "vmSize": vm_size, "maxNodes": max_nodes} | ({"spot": True} if spot else {})
    _carry_out(workspace, "add", cluster, "tyard cluster create", stack, yes, as_json)


@click.command()
@click.argument("name")
@click.option(
    "--max", "max_nodes", type=click.IntRange(1, 1000), metavar="N", help="Most nodes at once, in the stack."
)
@click.option(
    "--min", "min_nodes", type=click.IntRange(0), metavar="N", help="Least nodes: 0, as nodes run for runs."
)
@click.option(
    "--nodes",
    type=click.IntRange(0),
    metavar="N",
    help="Have this many nodes up now: Slurm starts them or lets idle ones go.",
)
@_options
def scale(
    name: str, max_nodes: int | None, min_nodes: int | None, nodes: int | None, stack: str | None, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """
    Change how many nodes a cluster may have, or has now.

    NAME: with --max, of a cluster that `pulumi up` made; its runs go on. With --nodes, of any whose nodes are started
    for runs, where Slurm's commands may start them: on the head. Idle nodes go after 5 minutes all the same.

    \b
    Examples:
      tyard cluster scale gpucluster --max 8
      tyard cluster scale gpucluster --max 8 --yes
      tyard cluster scale gpucluster --nodes 2
    """
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    if (max_nodes is None and min_nodes is None) == (nodes is None):
        raise UsageError("tyard cluster scale: give either --max or --nodes", f"tyard cluster scale {name} --max 8")
    if nodes is not None:
        _have_now(workspace, name, nodes, as_json)
        return
    _check_ours(workspace, name)
    if min_nodes:
        raise UsageError(
            f"--min: got {min_nodes}, and nodes run only while runs wait for them",
            f"on the head, `tyard cluster scale {name} --nodes {min_nodes}` starts some ahead of a run",
        )
    cluster = {"name": name} | ({} if max_nodes is None else {"maxNodes": max_nodes})
    _carry_out(workspace, "change", cluster, "tyard cluster scale", stack, yes, as_json)


def _have_now(workspace: "Workspace", name: str, count: int, as_json: bool) -> None:
    from tensoryard.cli.tables import print_json
    from tensoryard.cluster_runs import check_on_head
    from tensoryard.nodes.ahead import have_nodes
    from tensoryard.scheduler.slurm_cluster import answered, named_cluster

    check_on_head(workspace, f"tyard cluster scale {name} --nodes {count}")
    found = named_cluster(name, workspace)
    moved = answered(lambda: have_nodes(name, found.nodes, count))
    if as_json:
        print_json({"name": name, **moved._asdict()})
        return
    for words, names in (("Starting", moved.started), ("Letting go", moved.let_go)):
        if names:
            click.echo(f"{words} {', '.join(names)}")
    if not moved.started and not moved.let_go:
        click.echo(f"Unchanged: {', '.join(moved.there) or 'none'} up or being started")
    click.echo(f"\nNext:\n  tyard cluster nodes {name}", err=True)


@click.command()
@click.argument("name")
@_options
def delete(name: str, stack: str | None, yes: bool, as_json: bool) -> None:
    """
    Take a cluster out of the workspace's stack.

    NAME: of a cluster that `pulumi up` made. Its nodes go with it; runs, data and models stay.

    \b
    Examples:
      tyard cluster delete big
      tyard cluster delete big --yes
    """
    from tensoryard.workspace import Workspace

    workspace = Workspace.from_config()
    _check_ours(workspace, name)
    _carry_out(workspace, "remove", {"name": name}, "tyard cluster delete", stack, yes, as_json)


def _check_free(workspace: "Workspace", name: str) -> None:
    from tensoryard.targets import targets

    azure = workspace.settings().azure
    if name in targets(workspace) and (azure is None or name not in azure.clusters):
        raise UsageError(
            f"NAME: `{name}` is a compute target of this workspace that no stack makes", "name it otherwise"
        )


def _check_ours(workspace: "Workspace", name: str) -> None:
    """Raises UsageError for nodes that somebody else decides on."""
    from tensoryard.targets import LOCAL, targets

    azure = workspace.settings().azure
    if azure is not None and name in azure.clusters:
        return
    if name == LOCAL:
        raise UsageError(f"NAME: `{name}` is this machine, which cannot be scaled")
    if name not in targets(workspace):
        from tensoryard.scheduler.slurm_cluster import partition_names

        if name not in partition_names():
            return  # the stack may have it all the same, and says if it has not
    raise UsageError(
        f"NAME: `{name}` is a Slurm cluster that no stack of ours makes: how many nodes it has is for its "
        "administrators to say",
        "a run asks for as many as it needs by `node_count`; clusters of a workspace on Azure can be changed",
    )


def _carry_out(
    workspace: "Workspace",
    change: "Change",
    cluster: dict[str, Any],
    called: str,
    stack: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Write the file and say what it has now; with yes, make it so too."""
    from tensoryard.cli.tables import print_json
    from tensoryard.stack import Update, check_pulumi, declare

    if yes:
        check_pulumi()
    name = cluster["name"]
    declared = declare(workspace, change, cluster, called, stack)
    has = ", ".join(f"{key} {value}" for key, value in declared.cluster.items() if value is not False)
    words = f"{'Wrote' if declared.changed else 'Unchanged in'} {declared.file}"
    click.echo(f"{words}: {name}{': ' * bool(has)}{has or ' is gone'}", err=as_json)
    commands = declared.commands.split(" && ")
    if yes:
        update = Update(workspace, declared)
        try:
            update.follow(lambda line: click.echo(line, err=True))
        except KeyboardInterrupt:
            click.echo("Telling Pulumi to stop; it ends what it is doing", err=True)
            update.interrupt()
            update.follow(lambda line: click.echo(line, err=True))
        knows = update.finish()
        click.echo(f"Done{f': {workspace.root} knows it' if knows else ''}", err=as_json)
        commands = [] if knows else commands[1:]
    lines = ([] if yes else [f"git diff {declared.file}"]) + ([" && ".join(commands)] if commands else [])
    if lines:
        click.echo("\n  ".join(["\nNext:", *lines]), err=True)
    if as_json:
        facts = {"name": name, "stack": declared.stack, "file": str(declared.file), "changed": declared.changed}
        print_json({**facts, **declared.cluster, "done": yes, "next": commands})
