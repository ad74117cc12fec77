"""A registry in each kind of store, and a model for it."""

from pathlib import Path

import pytest

from models_made import exported
from tensoryard.registry import Registry
from tensoryard.store import Store


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on this machine's disk."""
    return exported(tmp_path)
