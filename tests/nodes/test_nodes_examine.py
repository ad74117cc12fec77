"""Where machines and nodes disagree, and what is done about it: pure, from lists of both."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensoryard.nodes import Machine, State
from tensoryard.nodes.examine import Finding, examine, examine_sizes
from tensoryard.nodes.slurm import SlurmNode, parse
from tensoryard.scheduler.slurm_nodes import Listed, NodeWords
from tensoryard.settings import AzureCluster

NOW = 1_800_000_000.0


def machine(id_: str, node: str | None, state: State = "running", age: float = 60, problem: str = "") -> Machine:
    return Machine(id=id_, node=node, state=state, created=NOW - age, problem=problem or None)


def node(name: str, state: str, reason: str = "", ago: float = 0) -> SlurmNode:
    """state: as scontrol writes it, such as IDLE+POWERED_DOWN."""
    word, *flags = state.split("+")
    return SlurmNode(
        name=name,
        state=word,
        flags=frozenset({"CLOUD", *flags}),
        reason=reason,
        reason_at=NOW - ago if reason else None,
    )


def told(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(finding.problem, finding.fix) for finding in findings]


def test_where_all_agree_nothing_is_said() -> None:
    machines = [machine("vm1", "gpu-1"), machine("vm2", "gpu-2", "starting"), machine("vm3", None, "starting")]
    nodes = [
        node("gpu-1", "ALLOCATED"),
        node("gpu-2", "MIXED+NOT_RESPONDING+POWERING_UP"),
        node("gpu-3", "IDLE+POWERED_DOWN"),
        node("gpu-4", "IDLE+POWERING_DOWN"),
    ]

    assert examine(machines, nodes, NOW) == []


@pytest.mark.parametrize(
    ("one", "state", "problem"),
    [
        (machine("vm", None, age=900), "IDLE+POWERED_DOWN", "vm has been no node's for 15 min"),
        (machine("vm", "gpu-9"), "IDLE+POWERED_DOWN", "vm is for `gpu-9`, which Slurm does not know"),
        (machine("vm", "gpu-1"), "IDLE+POWERED_DOWN", "vm runs, though Slurm has let go of `gpu-1`"),
        (
            machine("vm", None, "stopped", problem="Azure took the Spot machine away"),
            "IDLE+POWERED_DOWN",
            "vm stopped: Azure took the Spot machine away",
        ),
        (machine("vm", None, "failed"), "IDLE+POWERED_DOWN", "vm failed: it will not come back"),
    ],
)
def test_machines_that_are_no_nodes_go(one: Machine, state: str, problem: str) -> None:
    assert told(examine([one], [node("gpu-1", state)], NOW)) == [(problem, "remove")]


def test_of_two_machines_for_one_node_the_first_stays() -> None:
    machines = [machine("later", "gpu-1", age=10), machine("first", "gpu-1", age=20)]

    assert told(examine(machines, [node("gpu-1", "IDLE")], NOW)) == [
        ("later is a second machine for `gpu-1`", "remove")
    ]


@pytest.mark.parametrize(
    ("state", "reason", "ago", "finding"),
    [
        ("MIXED+NOT_RESPONDING", "", 0, ("the machine of `gpu-1` is gone", "give up")),
        ("IDLE+NOT_RESPONDING+POWERING_UP", "", 0, ("`gpu-1` is to start and has no machine", "start")),
        ("DOWN", "Not responding", 5, ("`gpu-1` is down with no machine: Not responding", "try again")),
        ("DOWN+POWERING_UP", "tyard: quota", 60, ("`gpu-1` has no machine: quota", None)),
        ("DOWN+POWERING_UP", "tyard: quota", 400, ("`gpu-1` has no machine: quota", "try again")),
        ("DOWN", "tyard: taken away: Preempt", 9, ("`gpu-1` has no machine: taken away: Preempt", "try again")),
        ("DOWN+POWERED_DOWN", "ResumeTimeout reached", 5, ("`gpu-1` never came up", "fail")),
        ("DOWN", "tyard: kept down: why", 9999, ("`gpu-1`: tyard: kept down: why", "try again")),
    ],
)
def test_nodes_without_a_machine(state: str, reason: str, ago: float, finding: tuple[str, str | None]) -> None:
    assert told(examine([], [node("gpu-1", state, reason, ago)], NOW)) == [finding]


def test_a_node_that_answers_has_a_machine_though_no_list_has_it() -> None:
    """Azure's lists are late now and then; Slurm sees by itself when a node does not answer any more."""
    assert examine([], [node("gpu-1", "ALLOCATED"), node("gpu-2", "IDLE")], NOW) == []


def test_a_node_that_failed_too_often_waits_for_a_person() -> None:
    (finding,) = examine([], [node("gpu-1", "DOWN", "tyard: kept down: why", 9999)], NOW)

    assert not finding.safe


def test_a_machine_that_runs_and_does_not_answer_is_replaced_in_time() -> None:
    machines = [machine("vm", "gpu-1")]

    (young,) = examine(machines, [node("gpu-1", "DOWN", "Not responding", 60)], NOW)
    (old,) = examine(machines, [node("gpu-1", "DOWN", "Not responding", 900)], NOW)
    assert (young.fix, old.fix) == (None, "try again")


@pytest.mark.parametrize(
    "reason",
    ["Low RealMemory (reported:26000 < 100.00% of configured:27238)", "gres/gpu count reported lower (0 < 1)"],
)
def test_a_node_that_has_less_than_configured_is_told_and_left(reason: str) -> None:
    (finding,) = examine([machine("vm", "gpu-1")], [node("gpu-1", "IDLE+DRAIN", reason, 9)], NOW)

    assert finding.problem == f"`gpu-1` is not as configured: {reason}"
    assert finding.fix is None
    assert finding.advice


def test_nodes_that_are_no_clouds_are_left_alone() -> None:
    """A cluster of one's own may have other nodes beside these."""
    assert examine([], [SlurmNode(name="other-1", state="DOWN", reason="broken fan")], NOW) == []


STATES = ("IDLE", "ALLOCATED", "MIXED", "DOWN", "UNKNOWN")
FLAGS = ("POWERED_DOWN", "POWERING_UP", "POWERING_DOWN", "NOT_RESPONDING", "DRAIN")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "gpu-1", "gpu-2", "gpu-9"]),
            st.sampled_from(["starting", "running", "stopping", "stopped", "failed"]),
            st.floats(0, 10_000),
        )
    ),
    st.lists(st.tuples(st.sampled_from(STATES), st.sets(st.sampled_from(FLAGS))), max_size=2),
)
def test_no_machine_of_a_node_that_is_used_is_ever_removed(
    some: list[tuple[str | None, State, float]], states: list[tuple[str, set[str]]]
) -> None:
    machines = [machine(f"vm{number}", *one) for number, one in enumerate(some)]
    nodes = [node(f"gpu-{number}", "+".join([word, *flags])) for number, (word, flags) in enumerate(states, 1)]
    gone = {
        finding.machine.id for finding in examine(machines, nodes, NOW) if finding.fix == "remove" and finding.machine
    }

    for used in nodes:
        mine = [one for one in machines if one.node == used.name and one.usable]
        if mine and used.state in ("ALLOCATED", "MIXED"):
            assert any(one.id not in gone for one in mine)


LINE = (
    "NodeName=gpu-1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUTot=4 CPULoad=N/A AvailableFeatures=(null) "
    "Gres=gpu:t4:1(S:0) NodeAddr=10.40.128.4 Version=22.05.8 OS=Linux 6.8 #1 SMP RealMemory=27238 AllocMem=0 "
    "State=DOWN+CLOUD+NOT_RESPONDING ThreadsPerCore=1 Partitions=gpu,all  BootTime=2026-11-23T11:12:11 "
    "CfgTRES=cpu=4,mem=27238M,billing=4,gres/gpu=1 AllocTRES= Reason={reason} [slurm@2026-11-23T17:48:22]"
)


@pytest.mark.parametrize("reason", ["Not responding", "tyard: quota a=b [16 of 24] vCPUs", "x Reason=y"])
def test_scontrols_line_of_a_node(reason: str) -> None:
    found = parse(LINE.format(reason=reason))

    assert (found.name, found.state, found.cpus, found.memory_mib, found.gpus) == ("gpu-1", "DOWN", 4, 27238, 1)
    assert found.flags == {"CLOUD", "NOT_RESPONDING"}
    assert found.partitions == ("gpu", "all")
    assert found.reason == reason
    assert time.localtime(found.reason_at)[:6] == (2026, 11, 23, 17, 48, 22)


@pytest.mark.parametrize("state", ["IDLE*+CLOUD", "DOWN*+CLOUD+POWERING_UP", "ALLOCATED#+CLOUD"])
def test_marks_of_a_state_are_read_too(state: str) -> None:
    found = parse(f"NodeName=gpu-1 State={state} RealMemory=1")

    assert found.state in STATES
    assert ("NOT_RESPONDING" in found.flags) == ("*" in state)


def test_what_slurm_was_told_of_a_size_is_compared_with_the_size() -> None:
    size = AzureCluster(
        vm_size="Standard_NC4as_T4_v3", max_nodes=2, spot=True, scale_set="x", gpu_count=1, gpu_model="", vcpu=4,
        memory_gib=28,
    )  # fmt: skip
    right = SlurmNode(name="gpu-1", state="IDLE", cpus=4, memory_mib=27238, gpus=1)
    wrong = SlurmNode(name="gpu-2", state="IDLE", cpus=4, memory_mib=28672, gpus=2)

    assert told(examine_sizes([right, wrong], {"gpu": size})) == [
        (
            "slurm.conf gives `gpu-2` 28672 MiB of memory, of which Standard_NC4as_T4_v3 reports 27238 at least; "
            "2 GPUs, where Standard_NC4as_T4_v3 has 1",
            None,
        )
    ]


def test_a_run_that_waits_says_what_its_nodes_lack() -> None:
    """As sinfo lists nodes: what `tyard node` said of those that are down counts, in the run's own partition."""
    rows = """gpu|gpu-1|down~|tyard: quota 16 of 24 vCPUs
gpu|gpu-2|down#|tyard: quota 16 of 24 vCPUs
gpu|gpu-3|down|broken fan
gpu|gpu-4|idle|none
gpu|gpu-5|allocated#|none
gpu|gpu-6|idle~|tyard: no room
gpu|gpu-7|allocated|none
other|gpu-7|allocated|none
other|o-1|down*|tyard: no room"""
    words = NodeWords(lambda: [Listed(*row.split("|")) for row in rows.splitlines()])
    words.refresh()
    assert (words.up("gpu"), words.up("other"), words.up(None)) == (2, 1, 2)

    assert words.why_not("gpu") == "quota 16 of 24 vCPUs"
    assert words.why_not("other") == "no room"
    assert words.why_not("third") == ""
