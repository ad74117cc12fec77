"""Jobs of every kind with what is hard to quote, rendered as they are kept under tests/golden/job."""

from unittest.mock import patch

from launching import parameter_server
from tensoryard.job import DatastoreReference, Job
from tensoryard.render import Placement, render

DATA = DatastoreReference("default", "mnist/train")
ODD = {
    "--quotes": """it's a "quote" """,
    "--shell": "$(reboot) `reboot` ; reboot && $HOME \\ *",
    "--lines": "one\ntwo\n",
    "--empty": "",
    "-": "--",
    "--umlaut": "Größe 日本 🎉",
    "--flag": None,
    "--rate": 1e-05,
    "--data": DATA,
}
PLAIN = {"script_params": {"--epochs": "3", "--data": DATA}}
JOBS = {
    "single": PLAIN,
    "single-odd": {
        "entry_script": "-odd dir/it's.py",
        "script_params": ODD,
        "environment_variables": {"GREETING": 'it\'s $HOME\n"x"', "EMPTY": "", "task": "mine"},
        "inputs": {"train": DATA},
    },
    "horovod": PLAIN | {"distributed_training": "mpi", "node_count": 2, "process_count_per_node": 4},
    "parameter-server": PLAIN
    | {
        "distributed_training": parameter_server(worker_count=2, parameter_server_count=2, evaluator=True),
        "node_count": 3,
        "process_count_per_node": 2,
    },
    "horovod-image": PLAIN
    | {
        "distributed_training": "mpi",
        "process_count_per_node": 2,
        "base_image": "python:3.11",
        "environment_variables": {"LANG": "C"},
    },
    # As Azure ML's TensorflowConfiguration lays it out: no chief, worker 0 ends the run.
    "parameter-server-azureml": PLAIN
    | {
        "distributed_training": parameter_server(worker_count=2, parameter_server_count=1, chief=False),
        "node_count": 3,
    },
    "multi-worker": PLAIN
    | {
        "distributed_training": "multi_worker_mirrored",
        "node_count": 3,
        "use_gpu": True,
        "max_run_duration_seconds": 5400,
    },
}
CASES = [f"{name}-{scheduler}" for name in JOBS for scheduler in ("local", "slurm")] + ["multi-worker-slurm-no-hosts"]
# Nodes that pull their image first.
JOBS["pulls"] = PLAIN | {"distributed_training": "mpi", "node_count": 2, "runtime": "image"}
CASES.append("pulls-slurm")


def rendered(case: str) -> dict[str, str]:
    name, _, scheduler = case.removesuffix("-no-hosts").rpartition("-")
    job = Job(**{"experiment": "golden", "entry_script": "train.py"} | JOBS[name])
    if scheduler == "local":
        placement = Placement(
            "local", ("localhost",) * job.node_count, tuple(41000 + n for n in range(len(job.tasks())))
        )
    else:
        hosts = () if case.endswith("-no-hosts") else tuple(f"gpu-{n}" for n in range(job.node_count))
        placement = Placement("slurm", hosts)
    with patch("tensoryard.__version__", "1.2.3"):
        return render(
            job,
            placement,
            run_id="golden-0007",
            run_dir="/yard/runs/golden-0007",
            local_paths={DATA: "/yard/data/it's"},
            node_images="/mnt/images" if name == "pulls" else "",
        )
