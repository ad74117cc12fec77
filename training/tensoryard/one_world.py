"""
Lets no rank of Horovod train alone unnoticed: on the path of an MPI job's scripts, under the name `sitecustomize`.

A rank whose Horovod does not meet its launcher, since it has another MPI or none, finds itself in a world of one and
says nothing: a job of N ranks would train N models. Standard library only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

WATCHED = "horovod.common.basics"  # which the modules for each framework take `init` and `size` from


class Finder:
    """Finds that module where it is, and has its `init` look at the world's size."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != WATCHED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            plain = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                plain(module)
                watch(module.HorovodBasics)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch(basics: Any) -> None:
    plain = basics.init

    def init(self: Any, comm: Any = None, *more: Any, **named: Any) -> Any:
        answer = plain(self, comm, *more, **named)
        if comm is None:  # else the script asks for some of the ranks
            check(self.size())
        return answer

    basics.init = init


def check(size: int) -> None:
    """Raises RuntimeError in a world of another size than the job's."""
    with open(os.path.join(os.environ["TYARD_RUN_DIR"], "launch", "layout.json"), encoding="utf-8") as file:
        asked = len(json.load(file)["tasks"])
    if size != asked:
        raise RuntimeError(
            f"the job asked for a world of {asked} ranks, Horovod found itself in one of {size}: it was built "
            "without MPI, or its MPI is not of the series that started this rank"
        )


def also_the_hidden_one() -> None:
    """Run the `sitecustomize` that would have been found in place of this one."""
    own = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path) != own])
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, Finder())
    also_the_hidden_one()
