"""Nodes from zero and back: a real Slurm, the real programs, and namespaces of this computer as machines."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launching import Yard, all_processes
from services.slurm_cloud import CloudCluster
from tensoryard.scheduler.slurm_nodes import NodeWords
from tensoryard.slurm_target import SlurmOptions, SlurmTarget


@pytest.fixture(scope="module")
def _one_cloud() -> Iterator[CloudCluster]:
    cluster = CloudCluster(2)
    yield cluster
    cluster.close()


@pytest.fixture
def cloud(_one_cloud: CloudCluster) -> Iterator[CloudCluster]:
    """A cluster without a node, on an Azure with room for all."""
    cloud = _one_cloud
    yield cloud
    cloud.boots, cloud.azure.quota = True, 1000
    cloud.run("scancel", "--user=root")
    wait_until(cloud, lambda: are_sent_away(cloud))
    # Slurm waits for no program, and one that is late would take the next test's machines away.
    wait_until(cloud, lambda: not programs(cloud))


def wait_until(cloud: CloudCluster, condition: Callable[[], object], within_s: float = 300) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        known = f"{cloud.jobs()} {states(cloud)} {cloud.azure.nodes}\n{cloud.log}"
        assert time.monotonic() < deadline, known
        time.sleep(0.1)


def states(cloud: CloudCluster) -> dict[str, str]:
    said = cloud.run("scontrol", "--oneliner", "show", "nodes")
    return dict(re.findall(r"NodeName=(\S+) .* State=(\S+)", said))


def is_away(state: str) -> bool:
    """Whether a node has no machine and gets one as soon as a job needs it."""
    return state.startswith("IDLE") and "POWERED_DOWN" in state


def are_sent_away(cloud: CloudCluster) -> bool:
    """Whether all nodes are away; those that are not and not on their way are told to go, failed ones among them."""
    found = states(cloud)
    for name, state in found.items():
        if not is_away(state) and "POWERING_DOWN" not in state:
            cloud.run("scontrol", "update", f"nodename={name}", "state=power_down", check=False)
    return all(map(is_away, found.values()))


def programs(cloud: CloudCluster) -> list[int]:
    """Those that start and stop nodes and are still at work."""
    mark = f"TYARD_NODES={cloud.folder}/".encode()
    return [pid for pid, command, environ in all_processes() if " node " in command and mark in environ]


def reason(cloud: CloudCluster, node: str) -> str:
    found = re.search(r"Reason=(.*) \[", cloud.run("scontrol", "--oneliner", "show", "node", node))
    return found[1] if found else ""


def submit(cloud: CloudCluster, out: Path, script: str, *options: str) -> str:
    words = ["sbatch", "--parsable", "--requeue", f"--output={out}", "--gres=gpu:1", *options, "--wrap", script]
    return cloud.run(*words).strip()


def job_state(cloud: CloudCluster, job: str) -> str:
    return re.findall(r"JobState=(\w+)", cloud.run("scontrol", "show", "job", job))[0]


def test_what_azure_refuses_stands_in_the_nodes_reason(
    cloud: CloudCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.azure.quota = 3
    job = submit(cloud, tmp_path / "out", "true", "--nodelist=node-1")
    wait_until(cloud, lambda: reason(cloud, "node-1").startswith("tyard: quota"))

    assert reason(cloud, "node-1") == "tyard: quota NCASv3_T4 0 of 3 vCPUs in use, 4 more needed"
    assert states(cloud)["node-1"].startswith("DOWN")
    assert job_state(cloud, job) == "PENDING"
    # Where runs that wait have it from.
    monkeypatch.setenv("SLURM_CONF", str(cloud.conf))
    words = NodeWords()
    words.refresh()
    assert words.why_not("node") == reason(cloud, "node-1").removeprefix("tyard: ")
    assert (words.up("node"), words.up_of("node-[1-2]")) == (0, 0)
    (finding,) = json.loads(cloud.tyard("doctor", "--cluster", "--json"))
    assert finding["problem"] == "`node-1` has no machine: quota NCASv3_T4 0 of 3 vCPUs in use, 4 more needed"
    # Not at once: Azure would be asked again and again.
    assert "try again" not in cloud.tyard("node", "reconcile")
    assert states(cloud)["node-1"].startswith("DOWN")
    # At its ResumeTimeout Slurm comes to the node too, with a reason of its own. Nothing has failed to come up.
    # Releases differ in whether that takes the place of ours or comes after it.
    ours = "tyard: quota NCASv3_T4 0 of 3 vCPUs in use, 4 more needed"
    wait_until(cloud, lambda: "fail node-1" in cloud.log and reason(cloud, "node-1") == ours)
    assert json.loads((cloud.folder / "nodes" / "node-never-came-up.json").read_text()) == {}


def test_a_node_that_never_comes_up_three_times_waits_for_a_person(cloud: CloudCluster, tmp_path: Path) -> None:
    (cloud.folder / "nodes" / "node-never-came-up.json").write_text('{"node-1": 2}')
    cloud.boots = False
    job = submit(cloud, tmp_path / "out", "true", "--nodelist=node-1")
    wait_until(cloud, lambda: "kept down" in reason(cloud, "node-1"))

    assert re.fullmatch(
        r"tyard: kept down: it never came up: its machine \w+ was running, and its slurmd did not report, "
        "3 times in a row",
        reason(cloud, "node-1"),
    )
    assert cloud.azure.nodes == {}
    cloud.tyard("node", "reconcile")
    assert states(cloud)["node-1"].startswith("DOWN")
    assert job_state(cloud, job) == "PENDING"

    cloud.boots = True
    assert "repaired  `tyard doctor --cluster --repair` lets Slurm start it anew" in cloud.tyard(
        "doctor", "--cluster", "--repair"
    )
    wait_until(cloud, lambda: job_state(cloud, job) == "COMPLETED")


@pytest.mark.parametrize("yard", ["folder"], indirect=True)
def test_a_run_can_be_canceled_while_its_nodes_are_made(
    cloud: CloudCluster, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cloud.environ[name])
    cloud.boots = False
    run = yard.submit("raise SystemExit('never')", compute_target=SlurmTarget(SlurmOptions()))
    yard.start_controller()
    wait_until(cloud, lambda: "is being started for job" in str(run.state().reason))
    run.request_cancel()
    assert yard.wait_for_stage(run, "Canceled", "Failed", "Completed") == "Canceled"
    wait_until(cloud, lambda: not cloud.jobs())


def test_a_machine_that_nobody_wants_goes(cloud: CloudCluster) -> None:
    cloud.azure.add(created=1000.0)
    cloud.azure.add("node-2")
    found = json.loads(cloud.tyard("doctor", "--cluster", "--json"))

    assert [re.sub(r"\w+_0\w+", "it", one["problem"]).partition(" for ")[0] for one in found] == [
        "it has been no node's",
        "it runs, though Slurm has let go of `node-2`",
    ]
    cloud.tyard("node", "reconcile")
    assert cloud.azure.nodes == {}


def test_nodes_are_started_ahead_and_idle_ones_let_go(cloud: CloudCluster) -> None:
    def scale(count: int) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads(
            cloud.tyard("cluster", "scale", "node", "--nodes", str(count), "--json")
        )
        return found

    assert scale(1) == {"name": "node", "there": [], "started": ["node-1"], "let_go": []}
    assert scale(1) == {"name": "node", "there": ["node-1"], "started": [], "let_go": []}
    wait_until(cloud, lambda: states(cloud)["node-1"] == "IDLE+CLOUD")
    assert scale(0) == {"name": "node", "there": [], "started": [], "let_go": ["node-1"]}
    assert "got 3, `node` has 2 nodes" in cloud.tyard("cluster", "scale", "node", "--nodes", "3")
    wait_until(cloud, lambda: not cloud.azure.nodes)


def test_nodes_of_other_clusters_are_not_touched(cloud: CloudCluster) -> None:
    said = cloud.tyard("node", "resume", "other-[1-2]")

    assert "error: HOSTLIST: got `other-[1-2]`, expected nodes of `node-N`" in said
    assert "error: other-1, other-2: no cluster of the workspace has such nodes" in cloud.log
    assert cloud.azure.nodes == {}
