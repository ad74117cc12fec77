"""`tyard cluster ... --yes` and `create(yes=True)` under Pulumi's real engine, with the stand-in for Azure."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from services.engine import ROOT, Engine
from services.engine_fixtures import new_engine, pulumi_cli
from tensoryard import Workspace
from tensoryard.azureml.core.compute import AmlCompute, ComputeTarget
from tensoryard.azureml.core.compute_target import ComputeTargetException

__all__ = ["new_engine", "pulumi_cli"]

# The first test of a machine may build the CLI.
pytestmark = pytest.mark.timeout(1800)


class Desk:
    """A checkout with a stack `dev` of which nothing is up, and a folder that is to stand for its workspace."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.folder = engine.project
        for part in ("infra", "templates", "requirements"):
            # With its byte-code: each of the processes would compile it again where PYTHONDONTWRITEBYTECODE is set.
            shutil.copytree(ROOT / part, self.folder / part, dirs_exist_ok=True)
        for stack in ("dev", "other"):
            engine.cli("stack", "init", stack)
        self.environ = {**engine.environ, "TYARD_WORKSPACE": str(self.folder / ".tensoryard"), "TYARD_STACK": "dev"}

    def tyard(self, *words: str, code: int = 0) -> tuple[str, str]:
        argv = [sys.executable, "-m", "tensoryard", *words]
        done = subprocess.run(argv, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    @property
    def clusters(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads((self.folder / ".tensoryard" / "workspace.json").read_text())
        return {name: facts["maxNodes"] for name, facts in known["azure"]["clusters"].items()}

    @property
    def scale_sets(self) -> int:
        return len([*self.engine.azure.all("compute:VirtualMachineScaleSet")])


def test_a_cluster_is_made_and_scaled_by_the_update_that_was_asked_for(
    new_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One story: an update takes seconds."""
    desk = Desk(new_engine())
    desk.engine.azure.fail("compute:VirtualMachineScaleSet", name="big")
    size = ("--vm-size", "standard_nc8as_t4_v3", "--max-nodes", "2")
    out, talk = desk.tyard("cluster", "create", "big", *size, "--yes", code=1)
    assert out.startswith("Wrote ")
    assert "creating failed" in talk
    assert 'error: pulumi up --stack dev failed: big: Code="SkuNotAvailable"' in talk
    assert (desk.scale_sets, (desk.folder / ".tensoryard" / "workspace.json").exists()) == (1, False)

    monkeypatch.chdir(desk.folder)
    for name, value in desk.environ.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    ws = Workspace.from_config()
    asked = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC8AS_T4_V3", max_nodes=2)
    made = ComputeTarget.create(ws, "big", asked, yes=True)
    made.wait_for_completion(show_output=True)
    assert "VirtualMachineScaleSet big created" in capsys.readouterr().out
    assert (made.provisioning_state, made.provisioning_errors) == ("Succeeded", None)
    assert made.scale_settings.maximum_node_count == 2
    assert (desk.clusters, desk.scale_sets) == ({"gpucluster": 4, "big": 2}, 2)

    # A folder that stands for itself goes on to.
    desk.environ["TYARD_WORKSPACE"] = str(desk.folder / "plain")
    out, talk = desk.tyard("cluster", "scale", "big", "--max", "3", "--yes", "--json")
    said = json.loads(out)
    assert (said["done"], said["maxNodes"], said["next"]) == (True, 3, ["tyard workspace connect --stack dev"])
    assert "Next:\n  tyard workspace connect --stack dev" in talk
    assert not (desk.folder / "plain" / "workspace.json").exists()
    desk.tyard("workspace", "connect", "--stack", "dev")
    assert desk.clusters == {"gpucluster": 4, "big": 3}
    # What somebody types by hand next is about the stack that they chose.
    assert desk.engine.cli("stack", "--show-name").strip() == "other"

    monkeypatch.setenv("TYARD_STACK", "prod")
    made = ComputeTarget.create(ws, "more", asked, yes=True)
    with pytest.raises(ComputeTargetException, match="no stack named 'prod' found"):
        made.wait_for_completion()
    assert made.provisioning_state == "Failed"
