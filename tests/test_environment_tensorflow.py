"""The curated environments themselves: built into the cache of this machine once, imported each time."""

import subprocess

import pytest

from tensoryard.environment.spec import Way, environment_spec
from tensoryard.environment.venv import VenvBuilder


@pytest.mark.parametrize(("way", "release", "keras"), [("single", "2.21", "3"), ("parameter_server", "2.15", "2")])
def test_tensorflow_computes_in_its_curated_environment(way: Way, release: str, keras: str) -> None:
    built = VenvBuilder().ensure(environment_spec(way=way), print)
    code = (
        "import keras, sys, tensorflow as tf\n"
        "print(tf.__version__, keras.__version__.split('.')[0], int(tf.reduce_sum(tf.range(5))))\n"
    )
    tensorboard = []
    if release == "2.15":  # brings TensorBoard, which asks for no setuptools in its metadata and then imports it
        code += "from tensorboard.main import run_main\nsys.argv = ['tensorboard', '--version']\nrun_main()\n"
        tensorboard = ["2.15"]

    said = subprocess.run([built.python, "-c", code], capture_output=True, text=True, check=True)

    words = said.stdout.split()
    assert words[:3] == [built.tensorflow, keras, "10"]
    assert [word.rpartition(".")[0] for word in words[3:]] == tensorboard
    assert built.tensorflow.startswith(f"{release}.")
    assert built.name == f"tensorflow-{release}"
    assert "tensorflow" not in {package.name for package in built.packages}
