"""
`python -m infra.up STACK` does what `pulumi up --yes --stack STACK` does, by Pulumi's Automation API.

The program runs in this process, with the libraries of this Python, so that no second environment has to be there.
What Pulumi says comes as it is said; exit code 1 where it failed, with the reason on the last line.
"""

import gc
import runpy
import signal
import sys
from pathlib import Path

import pulumi.automation as auto

from infra.settings.error import PROJECT

ROOT = Path(__file__).resolve().parents[1]


class _Workspace(auto.LocalWorkspace):
    """The checkout. Naming a stack does not select it: the next `pulumi destroy` by hand would be of another one."""

    def select_stack(self, stack_name: str) -> None:
        self.pulumi_command.run(["stack", "--non-interactive", "--stack", stack_name], str(self.work_dir), {})

    def stack_outputs(self, stack_name: str) -> auto.OutputMap:
        """None: Pulumi would ask for them after an update, by two commands, and nobody here reads them."""
        return {}


def program() -> None:
    runpy.run_path(str(ROOT / "infra" / "__main__.py"), run_name="__main__")


def main(stack: str) -> str | None:
    """Returns why it failed, if it did."""
    gc.disable()  # all that is made lives until the end: a quarter of the program's own time
    # Ctrl-C reaches Pulumi too, which ends in good order: this process is to hear how.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    failed: list[str] = []

    def heard(event: auto.EngineEvent) -> None:
        if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
            resource = (event.diagnostic_event.urn or "").rpartition("::")[2]
            failed.append(f"{resource}: {' '.join(event.diagnostic_event.message.split())}".removeprefix(": "))

    try:
        workspace = _Workspace(work_dir=str(ROOT), program=program)
        auto.Stack.select(stack, workspace).up(
            on_output=_say,
            on_error=_say,
            on_event=heard,
            color="never",
            message=f"tyard, for a cluster of {PROJECT}",
        )
    except auto.CommandError as error:
        return failed[0] if failed else _said(str(error))
    return None


def _say(line: str) -> None:
    print(line, flush=True)


def _said(text: str) -> str:
    """Pulumi's own `error: ` among what a command of it left."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line.partition("error: ")[2] for line in reversed(lines) if "error: " in line), lines[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
