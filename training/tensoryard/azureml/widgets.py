"""The name of `azureml.widgets`: a run at a glance, in words."""

from tensoryard.experiment import Run

__all__ = ["RunDetails"]


class RunDetails:
    """
    Shows a run.

    run: the one to show.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def show(self) -> None:
        """Prints the run's stage and its newest metrics as they are now; `run.wait_for_completion` follows it."""
        print(self.run)
        for name, value in self.run.get_metrics().items():
            print(f"  {name}: {value[-1] if isinstance(value, list) else value}")
