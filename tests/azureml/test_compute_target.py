"""Azure ML's way to a cluster: named where it is there, else written into the stack that makes it."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Tyard
from tensoryard import Workspace
from tensoryard.azureml.core import ComputeTarget
from tensoryard.azureml.core.compute import AmlCompute
from tensoryard.azureml.core.compute_target import ComputeTargetException
from tensoryard.errors import NotFoundError, UsageError
from tensoryard.settings import Settings
from workspace_output import WORKSPACE

ROOT = Path(__file__).resolve().parents[2]


def connected(folder: Path, **azure: Any) -> Workspace:
    """A workspace that `tyard workspace connect` has connected."""
    import msgspec

    folder.mkdir(exist_ok=True)
    settings = {"name": "tensoryard", "azure": {**WORKSPACE, "location": "eastus", **azure}}
    msgspec.convert(settings, Settings)
    # Whole at once: a thread may be looking at it.
    (folder / "new.json").write_bytes(msgspec.json.encode(settings))
    (folder / "new.json").replace(folder / "workspace.json")
    return Workspace(folder)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout to write in, which one is in."""
    shutil.copytree(ROOT / "infra", tmp_path / "repo" / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "stacks", tmp_path / "repo" / "stacks")
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path / "repo")
    monkeypatch.chdir(tmp_path / "repo" / "stacks")
    monkeypatch.delenv("TYARD_STACK", raising=False)
    return tmp_path / "repo"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return connected(tmp_path / ".tensoryard")


T4 = {"vm_size": "STANDARD_NC8AS_T4_V3", "max_nodes": 2}


def test_a_cluster_that_is_there_is_named(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    target = ComputeTarget(workspace=ws, name="gpucluster")
    target.wait_for_completion(show_output=True, min_node_count=1)
    assert "min_node_count: nodes run only while runs wait" in capsys.readouterr().out

    assert target.provisioning_state == "Succeeded"
    status = target.get_status().serialize()
    assert (status["vmSize"], status["vmPriority"]) == ("Standard_NC4as_T4_v3", "lowpriority")
    assert status["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": 300}
    # As Microsoft's own samples ask.
    assert type(target) is AmlCompute
    assert (target.vm_size, target.vm_priority) == ("Standard_NC4as_T4_v3", "lowpriority")
    assert target.scale_settings == (0, 4, 300)
    assert {name: found.type for name, found in ws.compute_targets.items()} == {
        "local": "Local",
        "gpucluster": "AmlCompute",
    }
    with pytest.raises(ComputeTargetException, match="there is no `big`, this workspace has `local`, `gpucluster`"):
        ComputeTarget(workspace=ws, name="big")
    with pytest.raises(ComputeTargetException) as caught:
        ComputeTarget(workspace=ws, name="gpu-cluster")
    assert caught.value.hint == "did you mean `gpucluster`?"


def test_a_new_cluster_is_written_into_the_stack_and_every_line_of_it_stays(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "prod")
    file = checkout / "stacks" / "Pulumi.prod.yaml"
    before = file.read_text().splitlines()
    made = ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4, vm_priority="lowpriority"))

    added = ["    - name: big", "      vmSize: Standard_NC8as_T4_v3", "      maxNodes: 2", "      spot: true"]
    assert file.read_text().splitlines() == [*before, *added]
    assert made.provisioning_state == "Creating"
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_lines_below_the_clusters_stay_where_they_are(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "dev")
    file = checkout / "stacks" / "Pulumi.dev.yaml"
    with file.open("a") as more:
        more.write("\n  # Who pays.\n  tensoryard:tags: {team: vision}\n")
    before = file.read_text().splitlines()
    ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))
    after = file.read_text().splitlines()

    at = after.index("    - name: big")
    assert [*after[:at], *after[at + 3 :]] == before
    assert after[at - 1] == "      ephemeralOsDisk: true"


def test_a_stack_that_named_no_cluster_keeps_the_one_that_it_had(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "new")
    file = checkout / "stacks" / "Pulumi.new.yaml"
    file.write_text("config:\n  azure-native:location: eastus\n")
    ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))

    assert file.read_text().splitlines()[2:] == [
        "  tensoryard:clusters:",
        "    - name: gpucluster",
        "    - name: big",
        "      vmSize: Standard_NC8as_T4_v3",
        "      maxNodes: 2",
    ]


def test_the_stack_is_the_workspaces_own(checkout: Path, ws: Workspace) -> None:
    """Of name and region; of several, none is guessed."""
    stacks = checkout / "stacks"
    with pytest.raises(UsageError, match="`dev`, `nc6` and `prod` are of that name and region"):
        ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))
    (stacks / "Pulumi.prod.yaml").unlink()
    (stacks / "Pulumi.nc6.yaml").unlink()
    ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))

    assert "- name: big" in (stacks / "Pulumi.dev.yaml").read_text()


def test_asked_for_again_it_is_the_same_and_another_is_refused(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "prod")
    ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))
    file = checkout / "stacks" / "Pulumi.prod.yaml"
    before = file.read_text()
    ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))
    assert file.read_text() == before
    with pytest.raises(UsageError, match=r"pulumi config set --path 'tensoryard:clusters\[2\].maxNodes' 3"):
        ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration("Standard_NC8as_T4_v3", max_nodes=3))
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("old", "STANDARD_NC6", "Azure retired that size .1 NVIDIA K80"),
        ("old", "Standard_NC6", "`Standard_NC4as_T4_v3` .1 NVIDIA T4"),
        ("big", "Standard_NC99", "Standard_NC99"),
        ("Big One", "Standard_NC4as_T4_v3", "small letters"),
    ],
)
def test_what_the_program_refuses_is_refused_in_its_words(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, size: str, message: str
) -> None:
    monkeypatch.setenv("TYARD_STACK", "dev")
    file = checkout / "stacks" / "Pulumi.dev.yaml"
    before = file.read_text()
    with pytest.raises(UsageError, match=message):
        ComputeTarget.create(ws, name, AmlCompute.provisioning_configuration(vm_size=size, max_nodes=4))

    assert file.read_text() == before


def test_it_waits_until_the_workspace_has_it(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TYARD_STACK", "prod")
    monkeypatch.setattr("tensoryard.azureml.core.compute._LOOK_S", 0.01)
    made = ComputeTarget.create(ws, "big", AmlCompute.provisioning_configuration(**T4))
    with pytest.raises(ComputeTargetException) as caught:
        made.wait_for_completion(timeout_in_minutes=0)
    assert caught.value.hint == "pulumi up --stack prod && tyard workspace connect --stack prod"

    waiting = threading.Thread(target=made.wait_for_completion, kwargs={"show_output": True})
    waiting.start()
    connected(ws.root, clusters={**WORKSPACE["clusters"], "big": WORKSPACE["clusters"]["gpucluster"]})
    waiting.join(300)
    assert not waiting.is_alive()
    assert capsys.readouterr().out.splitlines()[-1] == "big: Succeeded"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({}, "vm_size: got ''", "STANDARD_NC4AS_T4_V3"),
        ({"vm_size": "x"}, "max_nodes: got None", "from 1 to 1000"),
        ({"vm_size": "x", "max_nodes": 0}, "max_nodes: got 0", "from 1"),
        ({"vm_size": "x", "max_nodes": 4, "min_nodes": 1}, "min_nodes: got 1", "leave it out"),
        ({"vm_size": "x", "max_nodes": 4, "vm_priority": "spot"}, "vm_priority: got 'spot'", "'lowpriority'"),
        ({"vm_size": "x", "max_nodes": 4, "vnet_name": "v"}, "`vnet_name` is not supported", "addressSpace"),
        ({"vm_size": "x", "max_nodes": 4, "vm_sise": "v"}, "there is no argument `vm_sise`", "vm_size"),
    ],
)
def test_mistakes_are_told_with_what_to_do(arguments: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        AmlCompute.provisioning_configuration(**arguments)

    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_outside_of_a_checkout_and_for_a_folder_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    config = AmlCompute.provisioning_configuration(**T4)
    with pytest.raises(UsageError, match="is a folder"):
        ComputeTarget.create(Workspace(tmp_path / "plain"), "big", config)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match="no workspace program"):
        ComputeTarget.create(Workspace(tmp_path / "plain"), "big", config)


def test_a_cluster_is_scaled_in_its_stack_and_every_other_line_stays(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "prod")
    file = checkout / "stacks" / "Pulumi.prod.yaml"
    before = file.read_text()
    target = ComputeTarget(ws, "gpucluster")
    assert isinstance(target, AmlCompute)
    target.update(max_nodes=12)

    assert file.read_text() == before.replace("maxNodes: 8", "maxNodes: 12")
    assert target.provisioning_state == "Updating"
    target.update()
    target.update(max_nodes=12)
    assert file.read_text() == before.replace("maxNodes: 8", "maxNodes: 12")
    facts = {**WORKSPACE["clusters"]["gpucluster"], "maxNodes": 12, "spot": False}
    connected(ws.root, clusters={"gpucluster": facts})
    target.wait_for_completion()
    assert target.provisioning_state == "Succeeded"


def test_a_number_that_the_file_left_out_is_added_to_its_cluster(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "new")
    file = checkout / "stacks" / "Pulumi.new.yaml"
    first = "config:\n  azure-native:location: eastus\n"
    target = ComputeTarget(ws, "gpucluster")
    assert isinstance(target, AmlCompute)
    for text in (first, f"{first}  tensoryard:clusters:\n    - name: gpucluster\n"):
        file.write_text(text)
        target.update(max_nodes=6)
        assert file.read_text() == f"{first}  tensoryard:clusters:\n    - name: gpucluster\n      maxNodes: 6\n"
    file.write_text(f"{first}  tensoryard:clusters: [{{name: gpucluster}}]\n")
    with pytest.raises(UsageError, match=r"pulumi config set --path 'tensoryard:clusters\[0\].maxNodes' 6"):
        target.update(max_nodes=6)


def test_a_cluster_goes_with_the_comment_that_is_about_it(
    checkout: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TYARD_STACK", "prod")
    file = checkout / "stacks" / "Pulumi.prod.yaml"
    before = file.read_text()
    connected(ws.root, clusters=dict.fromkeys(("gpucluster", "h100"), WORKSPACE["clusters"]["gpucluster"]))
    target = ComputeTarget(ws, "h100")
    assert isinstance(target, AmlCompute)
    target.delete()

    assert file.read_text() == before[: before.index("    # For large models")]
    assert target.provisioning_state == "Deleting"
    connected(ws.root)
    target.wait_for_completion(is_delete_operation=True)
    last = ComputeTarget(ws, "gpucluster")
    assert isinstance(last, AmlCompute)
    with pytest.raises(UsageError, match="only `gpucluster`"):
        last.delete()


def test_by_the_command_line(checkout: Path, ws: Workspace, cli: Tyard, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.folder = checkout
    cli.environ |= {"TYARD_WORKSPACE": str(ws.root), "TYARD_STACK": "prod"}
    file = checkout / "stacks" / "Pulumi.prod.yaml"
    before = file.read_text()
    size = ("--vm-size", "standard_nc8as_t4_v3", "--max-nodes", "2")
    out, talk = cli.both("cluster", "create", "big", *size)
    assert out == f"Wrote {file}: big: vmSize Standard_NC8as_T4_v3, maxNodes 2\n"
    assert "pulumi up --stack prod && tyard workspace connect --stack prod" in talk
    said = json.loads(cli("cluster", "create", "big", *size, "--json"))
    assert said == {
        "name": "big",
        "stack": "prod",
        "file": str(file),
        "changed": False,
        "vmSize": "Standard_NC8as_T4_v3",
        "maxNodes": 2,
        "spot": False,
        "done": False,
        "next": ["pulumi up --stack prod", "tyard workspace connect --stack prod"],
    }
    assert "big: vmSize Standard_NC8as_T4_v3, maxNodes 5" in cli("cluster", "scale", "big", "--max", "5")
    cli("cluster", "delete", "big")
    assert file.read_text() == before
    _, talk = cli.both("cluster", "scale", "gpucluster", "--max", "9", "--stack", "dve", code=2)
    assert "There are: dev, nc6, prod" in talk
    _, talk = cli.both("cluster", "scale", "gpucluster", "--min", "1", "--max", "9", code=2)
    assert "--min: got 1, and nodes run only while runs wait for them" in talk
    assert "`tyard cluster scale gpucluster --nodes 1`" in talk
    _, talk = cli.both("cluster", "scale", "local", "--max", "9", code=2)
    assert "`local` is this machine" in talk
    _, talk = cli.both("cluster", "scale", "gpuclustre", "--max", "9", code=2)
    assert "Did you mean `gpucluster`?" in talk


def test_without_pulumi_it_says_what_is_missing(
    checkout: Path, ws: Workspace, cli: Tyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.folder = checkout
    cli.environ |= {"TYARD_WORKSPACE": str(ws.root), "TYARD_STACK": "prod", "PATH": "/nowhere"}
    before = (checkout / "stacks" / "Pulumi.prod.yaml").read_text()
    _, talk = cli.both("cluster", "scale", "gpucluster", "--max", "9", "--yes", code=2)

    assert "error: pulumi up: " in talk
    assert (checkout / "stacks" / "Pulumi.prod.yaml").read_text() == before


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ('{"local": {"slurm": {}}}', "compute_targets: got the name `local`, which is another target's"),
        ('{"gpucluster": {"slurm": {}}}', "got the name `gpucluster`, which is another target's"),
        ('{"": {"slurm": {}}}', "got the name ``, which is no name"),
        ('{"gpu": {"slurm": {"partition": "a b"}}}', "compute_targets: slurm: partition: got `a b`"),
        ('{"gpu": {"slurm": {"partitoin": "gpu"}}}', "unknown field `partitoin`"),
        ('{"gpu": "gpu"}', 'compute_targets.gpu: got `gpu`, expected {"slurm": {...}}'),
    ],
)
def test_names_that_cannot_be_are_told_with_the_file(ws: Workspace, targets: str, message: str) -> None:
    file = ws.root / "workspace.json"
    file.write_text(file.read_text().rstrip("}") + '}}}, "compute_targets": ' + targets + "}")
    with pytest.raises(UsageError) as caught:
        ws.settings()

    assert str(file) in caught.value.message
    assert message in caught.value.message
