"""
The curated environments themselves, built into the cache of this machine once.

That TensorFlow, Horovod and TensorBoard work in them is seen where a script trains in them: test_azureml_page.py.
"""

import pytest

from tensoryard.environment.spec import Way, environment_spec
from tensoryard.environment.venv import VenvBuilder


@pytest.mark.parametrize(
    ("way", "name", "keras"),
    [
        ("single", "tensorflow-2.21", "3"),
        ("parameter_server", "tensorflow-2.15", "2"),
        ("mpi", "tensorflow-2.15+horovod", "2"),
    ],
)
def test_a_curated_environment_has_the_tensorflow_it_is_named_after(way: Way, name: str, keras: str) -> None:
    built = VenvBuilder().ensure(environment_spec(way=way), print)

    packages = {package.name: package.version for package in built.packages}
    assert built.name == name
    assert name.startswith(f"tensorflow-{built.tensorflow.rpartition('.')[0]}")
    assert packages["keras"].partition(".")[0] == keras
    assert packages["tensorflow-cpu"] == built.tensorflow
    assert "tensorflow" not in packages
