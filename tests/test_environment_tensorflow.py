"""The curated environments themselves: built into the cache of this machine once, imported each time."""

import subprocess
from pathlib import Path

import pytest

from tensoryard.environment.spec import Way, environment_spec
from tensoryard.environment.venv import VenvBuilder


@pytest.mark.parametrize(("way", "release", "keras"), [("single", "2.21", "3"), ("parameter_server", "2.15", "2")])
def test_tensorflow_computes_in_its_curated_environment(way: Way, release: str, keras: str) -> None:
    built = VenvBuilder().ensure(environment_spec(way=way), print)
    code = (
        "import keras, tensorflow as tf\n"
        "print(tf.__version__, keras.__version__.split('.')[0], int(tf.reduce_sum(tf.range(5))))"
    )

    said = subprocess.run([built.python, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == [built.tensorflow, keras, "10"]
    assert built.tensorflow.startswith(f"{release}.")
    assert built.name == f"tensorflow-{release}"
    assert "tensorflow" not in {package.name for package in built.packages}


def test_tensorboard_starts_where_tensorflow_brings_it() -> None:
    """TensorBoard 2.15 asks nothing of setuptools in its metadata, and then imports pkg_resources."""
    built = VenvBuilder().ensure(environment_spec(way="parameter_server"), print)
    tensorboard = Path(built.python).with_name("tensorboard")

    said = subprocess.run([tensorboard, "--version"], capture_output=True, text=True, check=True)

    assert said.stdout.startswith("2.15.")
