"""`tyard cluster` beside a real Slurm."""

import json

from cli_runner import Tyard
from launching import wait_until
from services.slurm import SlurmCluster


def test_clusters_and_nodes_are_shown_with_states_in_words(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    slurm.run("scontrol", "update", "nodename=node-2", "state=drain", "reason=a fan is broken")
    slurm.run("sbatch", "--job-name=mine-0001", "--nodelist=node-1", "--output=/dev/null", "--wrap=sleep 600")
    slurm.run("sbatch", "--job-name=mine-0002", "--nodelist=node-2", "--output=/dev/null", "--wrap=sleep 600")
    wait_until(
        lambda: len([job for job in slurm.jobs() if "RUNNING" in job or "ReqNode" in job]) == 2, "jobs are seen"
    )
    wait_until(lambda: "RUNNING" in "".join(slurm.jobs()), "one runs")

    listed = cli("cluster", "list").splitlines()
    assert listed[0].split()[:4] == ["CLUSTER", "NODES", "UP", "FREE"]
    assert listed[1].split()[:3] == ["main", "3", "3"]
    nodes = {line.split()[0]: line for line in cli("cluster", "nodes", "main").splitlines()[1:]}
    assert "mine-0001" in nodes["node-1"]
    assert "in use" in nodes["node-1"]
    assert "takes no more jobs" in nodes["node-2"]
    assert "a fan is broken" in nodes["node-2"]
    shown = cli("cluster", "show", "main")
    assert "1 takes no more jobs" in shown
    assert "the nodes it needs are not available" in shown
    said = json.loads(cli("cluster", "show", "main", "--json"))
    assert (said["name"], said["nodes"], said["running"], said["waiting"]) == ("main", 3, 1, 1)
    assert [job["kind"] for job in said["jobs"] if job["state"] == "PENDING"] == ["resources"]


def test_a_cluster_that_is_not_there_names_the_nearest(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ["SLURM_CONF"] = slurm.environ["SLURM_CONF"]
    _, talk = cli.both("cluster", "show", "mian", code=1)
    assert "there is no `mian`; Slurm has `main`, `gpu`, `short`" in talk
    assert "did you mean `main`?" in talk


def test_a_machine_without_slurm_says_so(cli: Tyard) -> None:
    cli.environ["PATH"] = "/nowhere"
    _, talk = cli.both("cluster", "list", code=1)
    assert "`squeue` is not on this machine's PATH" in talk
