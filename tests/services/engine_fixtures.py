"""Fixtures around Pulumi's real engine: import them where they are used."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.engine import Engine
from services.engine import pulumi_cli as built_cli


@pytest.fixture(scope="session")
def pulumi_cli() -> Path:
    """The folder that holds `pulumi`, built at its first use: then it takes minutes."""
    return built_cli()


@pytest.fixture(scope="session")
def new_engine(pulumi_cli: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Engine]]:
    """Makes a Pulumi of its own with an Azure of its own, both empty."""
    with contextlib.ExitStack() as made:
        yield lambda: made.enter_context(
            contextlib.closing(Engine(tmp_path_factory.mktemp("engine") / "own", pulumi_cli))
        )
