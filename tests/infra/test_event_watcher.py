"""
`tyard-events` on a node whose machine Azure takes away. Slurm's commands are stand-ins that write down how they were
called; on a real Slurm, tests/slurm/test_slurm_whole.py sees a run through an eviction.
"""

from pathlib import Path

import pytest

from services.machine_metadata import ADDRESS, Metadata, commands, script, start

NODE = "gpucluster-1"
REASON = "reason=tyard: taken away: Azure announced"
ASKED = "squeue --noheader --states=RUNNING,CONFIGURING,SUSPENDED,COMPLETING --nodelist=gpucluster-1 --format=%A"


def watch(
    metadata: Metadata, folder: Path, *, requeued: str = ":", state: str = "ALLOCATED", address: str = ADDRESS
) -> list[str]:
    """
    Runs the watcher of a node that has job 12 until it has told Azure to go on. Returns the commands that it gave,
    each once however often in a row.

    requeued: what becomes of the job when it is put back, nothing for one that ignores TERM; state, address: of the
    node, as Slurm knows it.
    """
    (folder / "node").write_text(f"{NODE}\n")
    (folder / "12").touch()
    known = f"NodeName={NODE} NodeAddr={address} NodeHostName={NODE} State={state}+CLOUD"
    scontrol = f'case "$*" in *show*) echo "{known}";; requeue*) {requeued};; esac'
    path = commands(folder, scontrol=scontrol, squeue=f"[ ! -e {folder}/12 ] || echo 12", systemctl="")
    watcher = start(metadata, script("worker", "tyard-events", folder), "--folder", str(folder), PATH=path)
    try:
        assert metadata.has_let_go.wait(300)
    finally:
        watcher.kill()
        watcher.communicate()
    lines = (folder / "ran").read_text().splitlines()
    return [line for before, line in zip(["", *lines], lines, strict=False) if line != before]


CLEARED = [
    f"scontrol --oneliner show node {NODE}",
    f"scontrol update nodename={NODE} state=drain {REASON} Preempt",
    ASKED,
    "scontrol requeue 12",
    ASKED,
    f"scontrol update nodename={NODE} state=down {REASON} Preempt",
    "systemctl stop slurmd",
]


def test_jobs_go_back_into_the_queue_and_azure_need_not_wait_for_its_own_deadline(
    metadata: Metadata, tmp_path: Path
) -> None:
    event = metadata.announce("Preempt", 3600)
    ran = watch(metadata, tmp_path, requeued=f"rm {tmp_path}/12")

    assert ran == CLEARED
    assert metadata.let_go == [event]


def test_a_job_that_ignores_term_keeps_no_node_beyond_the_deadline(metadata: Metadata, tmp_path: Path) -> None:
    """It has until 8 s before the end; then the node is set down with the job still there."""
    event = metadata.announce("Preempt", 10)
    ran = watch(metadata, tmp_path)

    assert ran == CLEARED
    assert (tmp_path / "ran").read_text().count(ASKED) > 2
    assert metadata.let_go == [event]


def test_an_end_that_has_begun_is_not_waited_for(metadata: Metadata, tmp_path: Path) -> None:
    event = metadata.announce("Preempt", None)
    ran = watch(metadata, tmp_path)

    assert ran == CLEARED
    assert (tmp_path / "ran").read_text().count(ASKED) == 2
    assert metadata.let_go == [event]


def test_an_event_of_another_machine_is_left_to_that_one(metadata: Metadata, tmp_path: Path) -> None:
    """Every machine of a set hears of the events of all."""
    others = metadata.announce("Preempt", None, machine="gpucluster_99999999")
    own = metadata.announce("Preempt", None)
    ran = watch(metadata, tmp_path)

    assert ran == CLEARED
    assert metadata.let_go == [own]
    assert [event["EventId"] for event in metadata.events] == [others]


@pytest.mark.parametrize(
    ("state", "address"), [("IDLE+POWERING_DOWN", ADDRESS), ("ALLOCATED", "10.40.128.9")], ids=["let go", "another's"]
)
def test_a_machine_that_is_no_node_any_more_goes_at_once(
    metadata: Metadata, tmp_path: Path, state: str, address: str
) -> None:
    """Another machine may be of that name already, with jobs of its own."""
    event = metadata.announce("Terminate", 300)
    ran = watch(metadata, tmp_path, state=state, address=address)

    assert ran == [f"scontrol --oneliner show node {NODE}"]
    assert metadata.let_go == [event]


def test_what_is_no_end_is_not_acted_upon(metadata: Metadata, tmp_path: Path) -> None:
    metadata.announce("Freeze", None)
    event = metadata.announce("Reboot", None)
    watch(metadata, tmp_path)

    assert metadata.let_go == [event]
