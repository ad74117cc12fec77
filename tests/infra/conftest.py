"""What the program of this checkout declares, for any stack or any settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from infra.review.declare import Declared

ROOT = Path(__file__).parents[2]


@pytest.fixture
def declared() -> "Callable[[str | Mapping[str, Any]], list[Declared]]":
    """
    declared("dev"): what that stack declares; declared({"clusters": [...]}): a stack with just these settings.

    Keys are the `tensoryard:` ones without their namespace; the location is westeurope unless given as
    "azure-native:location".
    """
    from infra.review.declare import declare

    def run(of: "str | Mapping[str, Any]") -> "list[Declared]":
        if isinstance(of, str):
            return declare(ROOT, of)
        return declare(ROOT, None, {"azure-native:location": "westeurope", **of})

    return run
