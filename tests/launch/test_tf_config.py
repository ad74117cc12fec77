"""Which task runs where, and TF_CONFIG as TensorFlow itself reads it."""

import json
import socket
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launching import parameter_server
from rendered_jobs import CASES, rendered
from tensoryard.environment.spec import environment_spec
from tensoryard.environment.venv import VenvBuilder
from tensoryard.errors import LayoutError
from tensoryard.job import Job
from tensoryard.tf_config import SHARED_PORTS, Task, addresses, first_port, own_tf_config, place, tf_configs

READS = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
read = []
for text in json.load(sys.stdin):
    os.environ["TF_CONFIG"] = text
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    cluster = resolver.cluster_spec().as_dict()
    read.append([cluster, resolver.task_type, resolver.task_id])
print(json.dumps(read))
"""


def test_tensorflow_reads_every_rendered_tf_config() -> None:
    files = {
        (case, name): text for case in CASES for name, text in rendered(case).items() if name.startswith("tf_config/")
    }
    python = VenvBuilder().ensure(environment_spec(way="parameter_server"), print).python
    done = subprocess.run(
        [python, "-c", READS], input=json.dumps([*files.values()]), capture_output=True, text=True, check=True
    )
    assert len(files) > 20
    for (_, name), text, seen in zip(files, files.values(), json.loads(done.stdout), strict=True):
        given = json.loads(text)
        role, _, index = name.removeprefix("tf_config/").removesuffix(".json").rpartition("-")
        assert [given["cluster"], role, int(index)] == seen


def test_a_chief_cluster_has_the_shape_that_parameter_server_strategy_wants() -> None:
    tasks = place({"chief": 1, "worker": 2, "ps": 1, "evaluator": 1}, 2)
    texts = dict(tf_configs(tasks, addresses(tasks, ["a", "b", "c"])))
    assert json.loads(texts["evaluator-0"]) == {
        "cluster": {"chief": ["a:2222"], "worker": ["a:2223", "b:2222"], "ps": ["b:2223"]},
        "task": {"type": "evaluator", "index": 0},
        "environment": "cloud",
    }


def test_azure_mls_shape_has_no_chief() -> None:
    job = Job(
        experiment="x",
        entry_script="a.py",
        node_count=3,
        distributed_training=parameter_server(worker_count=2, parameter_server_count=1, chief=False),
    )
    assert [(task.name, task.node) for task in job.tasks()] == [("worker-0", 0), ("worker-1", 1), ("ps-0", 2)]


def test_one_task_is_asked_for_alone() -> None:
    tasks = [Task("worker", 0, 0), Task("worker", 1, 1)]
    texts = dict(tf_configs(tasks, ["a:1", "b:1"], only="worker-1"))
    assert list(texts) == ["worker-1"]
    assert dict(tf_configs(tasks, ["a:1", "b:1"]))["worker-1"] == texts["worker-1"]


@given(
    workers=st.integers(1, 20),
    servers=st.integers(1, 5),
    chief=st.booleans(),
    evaluator=st.booleans(),
    nodes=st.integers(1, 30),
    per_node=st.none() | st.integers(1, 10),
)
def test_every_task_has_an_address_of_its_own(
    workers: int, servers: int, chief: bool, evaluator: bool, nodes: int, per_node: int | None
) -> None:
    training = parameter_server(
        worker_count=workers, parameter_server_count=servers, chief=chief, evaluator=evaluator
    )
    try:
        job = Job(
            experiment="x",
            entry_script="a.py",
            distributed_training=training,
            node_count=nodes,
            process_count_per_node=per_node,
        )
    except LayoutError:
        return
    tasks = job.tasks()
    given = addresses(tasks, [f"n{n}" for n in range(nodes)])
    assert len(tasks) == workers + servers + chief + evaluator
    assert len({*given}) == len(tasks)
    assert {task.node for task in tasks} <= {*range(nodes)}
    if per_node is not None:
        assert max(sum(task.node == node for task in tasks) for node in range(nodes)) <= per_node


@pytest.mark.parametrize("ports", [None, [7, 8]])
def test_ports_are_the_given_ones_or_count_up_on_each_host(ports: list[int] | None) -> None:
    tasks = [Task("worker", 0, 0), Task("worker", 1, 0)]
    assert addresses(tasks, ["h"], ports) == ([f"h:{port}" for port in ports] if ports else ["h:2222", "h:2223"])


@given(st.integers(1, 2**31), st.integers(1, 2000), st.integers(1, 100))
def test_jobs_that_follow_one_another_have_ports_of_their_own(number: int, later: int, count: int) -> None:
    tasks = [Task("worker", index, 0) for index in range(count)]
    later = 1 + later % (len(SHARED_PORTS) // max(count, 8) - 1)
    own, others = (
        {int(address[2:]) for address in addresses(tasks, ["h"], first=first_port(tasks, job))}
        for job in (number, number + later)
    )
    assert own | others <= {*SHARED_PORTS}
    assert not own & others


def test_a_port_that_another_program_has_is_known_before_a_task_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [{"name": "chief-0", "role": "chief", "index": 0, "node": 0}]
    tasks += [{"name": "worker-0", "role": "worker", "index": 0, "node": 0}]
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    free = own_tf_config({"tasks": tasks, "ports": None, "shares_nodes": True}, ["h"], "worker-0")
    assert '"worker": ["h:10097"]' in free.text
    with socket.create_server(("", 0)) as other:
        ports = [free.port, other.getsockname()[1]]
        layout = {"tasks": tasks, "ports": ports, "shares_nodes": True}
        assert own_tf_config(layout, ["h"], "worker-0").taken_port() == ports[1]
        # Nobody connects to a chief.
        assert own_tf_config(layout | {"ports": ports[::-1]}, ["h"], "chief-0").taken_port() == 0
    assert own_tf_config(layout, ["h"], "worker-0").taken_port() == 0
