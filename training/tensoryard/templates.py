"""Where the templates are: inside the package in a wheel, at the top of the tree in a checkout."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def folder(name: str) -> Traversable:
    """A folder of templates: `job`, `training`."""
    packaged = files("tensoryard") / "templates"
    if packaged.is_dir():
        return packaged / name
    return Path(__file__).resolve().parents[2] / "templates" / name
