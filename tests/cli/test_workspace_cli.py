"""Connecting a folder to a workspace on Azure, from what the Pulumi program gives out."""

import json
import os
from pathlib import Path

import pytest

from cli_runner import Tyard
from services.azurite_fixtures import SignedIn
from tensoryard import Workspace
from workspace_output import WORKSPACE


@pytest.fixture
def here(tmp_path: Path, cli: Tyard) -> Tyard:
    """`tyard` where no workspace is named by the environment."""
    del cli.environ["TYARD_WORKSPACE"]
    cli.environ["HOME"] = str(tmp_path / "home")
    (tmp_path / "outputs.json").write_text(json.dumps({"workspace": WORKSPACE, "access": []}))
    return cli


def pulumi(cli: Tyard, script: str) -> None:
    """A `pulumi` on the PATH that answers as the real one does; the real one's own test is with the engine."""
    program = cli.folder / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    cli.environ["PATH"] = f"{program.parent}{os.pathsep}{cli.environ['PATH']}"


def test_connect_writes_the_file_that_from_config_finds(here: Tyard, monkeypatch: pytest.MonkeyPatch) -> None:
    out = here("workspace", "connect", "outputs.json")
    monkeypatch.delenv("TYARD_WORKSPACE", raising=False)
    (here.folder / "below").mkdir()
    monkeypatch.chdir(here.folder / "below")
    found = Workspace.from_config()
    assert (found.name, found.settings().azure.storage_account) == ("tensoryard", "storage1234")  # type: ignore[union-attr]
    assert "gpucluster: 0 to 4 nodes of Standard_NC4as_T4_v3 (1 x T4), Spot" in out


def test_what_is_shown_as_json_is_what_the_program_gave_out(here: Tyard) -> None:
    here("workspace", "connect", "outputs.json")
    assert json.loads(here("workspace", "show", "--json"))["azure"] == WORKSPACE


def test_connect_keeps_the_other_settings_of_the_folder(here: Tyard) -> None:
    (here.folder / ".tensoryard").mkdir()
    (here.folder / ".tensoryard" / "workspace.json").write_text('{"concurrent_runs": 3}')
    here("workspace", "connect", "outputs.json")
    assert json.loads((here.folder / ".tensoryard" / "workspace.json").read_text())["concurrent_runs"] == 3


def test_connect_takes_what_a_newer_program_adds(here: Tyard) -> None:
    newer = WORKSPACE | {"addedLater": {"x": 1}}
    (here.folder / "outputs.json").write_text(json.dumps({"workspace": newer}))
    here("workspace", "connect", "outputs.json")


def test_connect_asks_pulumi_for_a_stack_of_the_checkout_around(here: Tyard) -> None:
    pulumi(here, '[ "$*" = "stack output --json --non-interactive --stack dev" ] && cat outputs.json')
    (here.folder / "Pulumi.yaml").write_text("name: tensoryard\n")
    assert "Connected" in here("workspace", "connect", "--stack", "dev")


def test_a_stack_that_pulumi_does_not_know_is_told_in_its_words(here: Tyard) -> None:
    pulumi(here, "echo \"error: no stack named 'dve' found\" >&2; exit 255")
    (here.folder / "Pulumi.yaml").write_text("name: tensoryard\n")
    _, talk = here.both("workspace", "connect", "--stack", "dve", code=1)
    assert "--stack dve: no stack named 'dve' found" in talk


def test_no_checkout_around_says_how_to_bring_the_outputs(here: Tyard) -> None:
    _, talk = here.both("workspace", "connect", "--stack", "dev", code=1)
    assert "no Pulumi.yaml" in talk
    assert "tyard workspace connect x.json" in talk


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "is not the JSON object that `pulumi stack output --json` prints"),
        ("[]", "is not the JSON object"),
        ("{}", "there is no output `workspace`, got none"),
        ('{"other": 1}', "got `other`"),
        ('{"workspace": {"name": "x"}}', "missing required field `subscriptionId`"),
    ],
)
def test_outputs_that_are_not_a_workspace_are_refused_and_nothing_is_written(
    here: Tyard, text: str, told: str
) -> None:
    (here.folder / "outputs.json").write_text(text)
    _, talk = here.both("workspace", "connect", "outputs.json", code=2)
    assert told in talk
    assert not (here.folder / ".tensoryard").exists()


def test_a_folder_with_runs_of_its_own_is_not_turned_into_a_window_on_azure(here: Tyard) -> None:
    (here.folder / ".tensoryard" / "runs").mkdir(parents=True)
    _, talk = here.both("workspace", "connect", "outputs.json", code=2)
    assert "holds runs or models of its own" in talk


def test_commands_keep_everything_in_the_account_that_was_connected_to(here: Tyard, signed_in: SignedIn) -> None:
    signed_in.make_containers("data", "runs", "models")
    azure = {**WORKSPACE, "storageAccount": "devstoreaccount1", "blobEndpoint": signed_in.azurite.endpoint}
    (here.folder / "outputs.json").write_text(json.dumps({"workspace": azure}))
    here.environ |= signed_in.environ
    here("workspace", "connect", "outputs.json")
    (here.folder / "saved").mkdir()
    (here.folder / "saved" / "weights.bin").write_bytes(os.urandom(100_000))

    here("models", "register", "digits", "--folder", "saved", "--tag", "set=train")
    here("data", "upload", "saved", "sets/one")

    assert here("runs", "list") == ""
    assert [found["name"] for found in json.loads(here("models", "list", "--json"))] == ["digits"]
    here("models", "download", "digits", "back")
    assert (here.folder / "back" / "weights.bin").read_bytes() == (here.folder / "saved/weights.bin").read_bytes()
    assert "weights.bin" in here("data", "list", "sets/one")
    assert sorted(path.name for path in (here.folder / ".tensoryard").iterdir()) == ["workspace.json"]
    assert signed_in.identity.asked


def test_a_cluster_is_shown_as_the_workspace_knows_it_where_slurm_cannot_be_asked(
    here: Tyard, signed_in: SignedIn
) -> None:
    containers = {name: f"shown-{name}" for name in ("data", "runs", "models")}
    signed_in.make_containers(*containers.values())
    account = {"storageAccount": "devstoreaccount1", "blobEndpoint": signed_in.azurite.endpoint}
    azure = {**WORKSPACE, **account, "containers": containers}
    (here.folder / "outputs.json").write_text(json.dumps({"workspace": azure}))
    here.environ |= signed_in.environ
    here("workspace", "connect", "outputs.json")
    here.job(
        "pass",
        compute_target="gpucluster",
        runtime="venv",
        node_count=2,
        distributed_training="multi_worker_mirrored",
    )
    run = here("run", "--detach").split()[1]
    here.environ["PATH"] = "/nowhere"

    out, talk = here.both("cluster", "list")
    assert out.splitlines()[1].split() == [
        *("gpucluster", "4", "-", "-", "4", "cores,", "30.1", "GB,", "1", "GPU", "-", "0", "1", "gpucluster")
    ]
    assert "Slurm on the head node knows" in talk
    out = here("cluster", "show", "gpucluster")
    assert "at most 4: 4 cores, 30.1 GB, 1 GPU\n            Standard_NC4as_T4_v3, Spot" in out
    assert out.splitlines()[-1].split(None, 5) == [
        run,
        "-",
        "-",
        "2",
        "NotStarted",
        "waiting for the controller on the head",
    ]
    slurm_has = set(json.loads(here("cluster", "show", "gpucluster", "--json")))
    assert {"nodes", "up", "jobs", "compute_targets"} < slurm_has
    _, talk = here.both("cluster", "show", "gpuclutser", code=1)
    assert "did you mean `gpucluster`?" in talk
    for words in ("cluster nodes", "cluster scale gpucluster --nodes 2", "doctor --cluster --repair"):
        _, talk = here.both(*words.split(), code=1)
        assert (
            f"error: tyard {words}: only `{azure['head']['name']}`, the head of `tensoryard`, can ask Slurm" in talk
        )
        assert f"--command-id RunShellScript --scripts 'tyard {words}'" in talk


def test_whoever_is_not_signed_in_is_told_how(here: Tyard, signed_in: SignedIn) -> None:
    azure = {**WORKSPACE, "blobEndpoint": signed_in.azurite.endpoint}
    (here.folder / "outputs.json").write_text(json.dumps({"workspace": azure}))
    here.environ["AZURE_TOKEN_CREDENTIALS"] = "EnvironmentCredential"
    here("workspace", "connect", "outputs.json")

    _, talk = here.both("runs", "list", code=1)

    assert "listing failed: not signed in to Azure" in talk
    assert f"hint: az login --tenant {WORKSPACE['tenantId']}" in talk


def test_without_the_extra_the_command_that_installs_it_is_named(here: Tyard) -> None:
    here("workspace", "connect", "outputs.json")
    (here.folder / "azure.py").write_text("raise ModuleNotFoundError(name='azure')\n")
    here.environ["PYTHONPATH"] = str(here.folder)

    _, talk = here.both("runs", "list", code=2)

    assert "`tensoryard` is a workspace on Azure; `azure` is missing" in talk
    assert "pip install 'tensoryard[azure]'" in talk
