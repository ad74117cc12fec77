"""`from tensoryard import Run` inside of a script, and outside of any run."""

import subprocess
import sys

import pytest

from launching import Yard
from tensoryard.context import Run


def test_a_script_logs_metrics_without_tensoryard_in_its_environment(yard: Yard) -> None:
    script = """
from tensoryard import Run
run = Run.get_context()
print(run.id, run.task, run.outputs, run.experiment.name)
for n in range(3): run.log("loss", 1 / (n + 1))
run.log("accuracy", 0.5, description="on the test set")
run.log_list("rates", [1, 2])
run.log_row("confusion", cat=3, dog=float("nan"))
run.log("vector", [1, (2.5, "x")])
"""
    run = yard.run(script)
    assert yard.log(run) == "test-0001 worker-0 outputs test\n".replace("\\\n", "\n")
    assert run.metrics() == {
        "loss": [1.0, 0.5, 1 / 3],
        "accuracy": 0.5,
        "rates": [1, 2],
        "confusion": {"cat": 3, "dog": "nan"},
        "vector": [1, [2.5, "x"]],
    }


def test_outside_of_a_run_it_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TYARD_RUN_DIR", raising=False)
    run = Run.get_context()
    run.log("loss", 0.5)
    run.log_list("rates", [1, 2])
    assert (run.id, capsys.readouterr().out) == ("offline", "loss: 0.5\nrates: 1\nrates: 2\n")


def test_what_a_script_cannot_do_is_answered_with_what_it_can() -> None:
    run = Run(None, "offline", "worker-0")
    assert run.experiment.name == "offline"
    with pytest.raises(AttributeError, match=r"no `upload_file`: write the file below `\./outputs`"):
        run.upload_file("a", "b")  # type: ignore[attr-defined]
    assert not hasattr(run, "nothing")


class Tensor:
    """Stands in for what TensorFlow and NumPy give: `.numpy()`, then `.tolist()`."""

    def __init__(self, value: object) -> None:
        self.value = value

    def numpy(self) -> "Tensor":
        return self

    def tolist(self) -> object:
        return self.value


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (Tensor(0.25), "0.25"),
        (Tensor([1, 2]), "[1, 2]"),
        (Tensor(float("inf")), "inf"),
        ({"a": Tensor(1)}, "{'a': 1}"),
        (None, "None"),
        (b"x", "b'x'"),
    ],
)
def test_values_of_tensorflow_and_numpy_become_plain(
    capsys: pytest.CaptureFixture[str], value: object, printed: str
) -> None:
    Run(None, "offline", "worker-0").log("x", value)
    assert capsys.readouterr().out == f"x: {printed}\n"


def test_it_needs_the_standard_library_only() -> None:
    program = (
        "import sys; import tensoryard.context; print(sorted(m for m in sys.modules if m in ('msgspec', 'click')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
