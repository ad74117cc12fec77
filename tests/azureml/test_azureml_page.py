"""
Azure ML's page of Python, run as a program with only its import lines changed, on real TensorFlow.

Its script says at its end what it ran on: that the curated environments work needs no TensorFlow of its own then.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tensoryard.idx_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, write_idx
from tensoryard.run import find_run
from tensoryard.workspace import Workspace

pytestmark = pytest.mark.long
TEMPLATES = Path(__file__).parents[2] / "templates" / "training"

PAGE = """
from azureml.core import Workspace, Experiment
from azureml.core.compute import ComputeTarget
from azureml.core.runconfig import MpiConfiguration, TensorflowConfiguration
from azureml.train.dnn import TensorFlow
from azureml.widgets import RunDetails

ws = Workspace.from_config()
exp = Experiment(workspace=ws, name='tf-mnist')
ds = ws.get_default_datastore()
ds.upload(src_dir='./data', target_path='mnist', overwrite=True, show_progress=True)
compute_target = ComputeTarget(workspace=ws, name='local')
script_params = {
    '--data-folder': ds.path('mnist').as_mount(),
    '--batch-size': 8,
    '--first-layer-neurons': 16,
    '--second-layer-neurons': 8,
    '--learning-rate': 0.01,
    '--epochs': 1,
}
DISTRIBUTED
est = TensorFlow(source_directory='./tf-mnist',
                 script_params=script_params,
                 compute_target=compute_target,
                 entry_script='tf_mnist.py',
                 use_gpu=False,
                 LAYOUT)
run = exp.submit(est)
RunDetails(run).show()
run.wait_for_completion(show_output=True)
model = run.register_model(model_name='tf-dnn-mnist', model_path='outputs/model')
print(run.get_file_names())
print(sorted(run.get_metrics()))
os_file = 'outputs/model/saved_model.pb'
run.download_file(name=os_file, output_file_path='./model/saved_model.pb')
print(model.name, model.version, model.download(target_dir='downloaded'))
"""

WAYS = {
    "single": ("", ""),
    "horovod": (
        "distributed_training = MpiConfiguration()\ndistributed_training.process_count_per_node = 1\n"
        "script_params['--epochs'] = 2",
        "node_count=2, process_count_per_node=1, distributed_training=distributed_training, framework_version='2.15'",
    ),
    "parameter_server": (
        "distributed_training = TensorflowConfiguration()\ndistributed_training.worker_count = 2",
        "node_count=2, process_count_per_node=1, distributed_training=distributed_training, framework_version='2.15'",
    ),
}

# The first task gets there. TensorBoard comes with 2.15, asks for no setuptools in its metadata, and then imports it.
AT_THE_END = {
    "single": """
    import keras
    print("on", tf.__version__, keras.__version__.split(".")[0], int(tf.reduce_sum(tf.range(5))))
""",
    "horovod": """
    import keras
    print("on", tf.__version__, keras.__version__.split(".")[0])
    total = hvd.allreduce(tf.constant(float(hvd.rank() + 1)), op=hvd.Sum)
    print(f"rank {hvd.rank()} of {hvd.size()}: {float(total)}")
    # Once more, as if it had been killed in the second epoch.
    if hvd.rank() == 0:
        (OUTPUTS / "checkpoints" / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"')
    main(parser.parse_args())
""",
    "parameter_server": """
    import keras, sys
    from tensorboard.main import run_main
    print("on", tf.__version__, keras.__version__.split(".")[0], flush=True)
    longer = parser.parse_args()
    longer.epochs = 2
    main(longer)  # goes on from the epoch that it saved
    sys.argv = ["tensorboard", "--version"]
    run_main()
""",
}
EPOCH = r"loss [\d.]+, accuracy [\d.]+"
SAID = {
    "single": [r"on 2\.21\.\d+ 3 10"],
    "horovod": [
        r"on 2\.15\.\d+ 2",
        r"rank 0 of 2: 3\.0",
        r"rank 1 of 2: 3\.0",
        rf"Epoch 2/2: ({EPOCH}), (?s:.*)\nResumed after epoch 1\n(?s:.*)Epoch 2/2: \1, .*",
    ],
    "parameter_server": [
        r"on 2\.15\.\d+ 2",
        r"2\.15\.\d+",
        rf"Resumed after epoch 1\n(?s:.*)Epoch 2/2: {EPOCH}, .*",
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_page_trains_and_registers(way: str, tmp_path: Path) -> None:
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, 64), (TEST_IMAGES, TEST_LABELS, 16)):
        (tmp_path / "data").mkdir(exist_ok=True)
        write_idx(tmp_path / "data" / images, bytes(number % 251 for number in range(count * 64)), (count, 8, 8))
        write_idx(tmp_path / "data" / labels, bytes(number % 10 for number in range(count)), (count,))
    (tmp_path / "tf-mnist").mkdir()
    (tmp_path / "tf-mnist" / "tf_mnist.py").write_text((TEMPLATES / way / "train.py").read_text() + AT_THE_END[way])
    distributed, layout = WAYS[way]
    page = PAGE.replace("DISTRIBUTED", distributed).replace("LAYOUT", layout)
    (tmp_path / "page.py").write_text(page.replace("from azureml.", "from tensoryard.azureml."))
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"TYARD_WORKSPACE": str(tmp_path / "ws")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files, metrics, model = done.stdout.splitlines()[-3:]
    assert "'outputs/model/saved_model.pb'" in files
    assert metrics == "['accuracy', 'loss', 'samples_per_second']"
    assert model == "tf-dnn-mnist 1 downloaded/model"
    saved = (tmp_path / "model" / "saved_model.pb").read_bytes()
    assert saved == (tmp_path / "downloaded" / "model" / "saved_model.pb").read_bytes()
    run = find_run(Workspace(tmp_path / "ws").store, "tf-mnist-0001")
    log = "\n".join(run.store.read(entry.key).decode() for entry in run.store.list(run.key("logs/")))
    assert [one for one in SAID[way] if not re.search(f"^{one}$", log, re.MULTILINE)] == [], log
    assert f"\non {run.state().facts['environment']['tensorflow']} " in log
