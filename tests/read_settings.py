"""What becomes of settings, for the tests of them: the typed ones, or one error."""

from typing import Any

import pytest

from infra.settings import Settings, SettingsError, settings_from

REGION = "eastus"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me"


def one(**cluster: Any) -> dict[str, Any]:
    """Settings with one cluster like that."""
    return {"clusters": [{"name": "gpu", **cluster}]}


def refused(values: Any, location: Any = REGION) -> SettingsError:
    """The error that these settings give."""
    with pytest.raises(SettingsError) as caught:
        settings_from(values, location)
    return caught.value


def outcome(values: Any, location: Any) -> Settings | SettingsError:
    """What becomes of settings: the typed ones, or their error, and never anything else."""
    try:
        return settings_from(values, location)
    except SettingsError as error:
        return error


def is_one_readable_paragraph(error: SettingsError) -> bool:
    """Whether the error is a line of printable text that starts with its key."""
    text = str(error)
    return text.startswith(f"`{error.key}`") and text.isprintable() and len(text) < 1500
