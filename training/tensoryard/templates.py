"""Where the templates are: inside the package in a wheel, at the top of the tree in a checkout."""

from pathlib import Path


def folder(name: str) -> Path:
    """A folder of templates: `job`, `training`."""
    packaged = Path(__file__).with_name("templates")
    top = packaged if packaged.is_dir() else Path(__file__).parents[2] / "templates"
    return top / name
