"""How far the nodes of a run are with pulling its image: a part of Scaling, as they train nothing yet."""

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tensoryard.text import size


class _Pull(NamedTuple):
    node: str
    done: int
    total: int


def pulling(folder: Path) -> str:
    """What the nodes of a run wait for, such as `image: node-2 412 of 514 MB`; "" once all have it, or need none."""
    if not (folder / "launch" / "pull_image.py").exists() or (folder / "launch" / "pulling" / "done").exists():
        return ""
    found = []
    for path in (folder / "launch" / "pulling").glob("*.json"):
        with suppress(OSError, ValueError, KeyError):  # as it is replaced
            said = json.loads(path.read_bytes())
            found.append(_Pull(path.stem, said["done"], said["total"]))
    if not found:
        return "image: nodes begin to pull it"
    last = min(found, key=lambda pull: (pull.done / max(pull.total, 1), pull.node))
    whole = sum(pull.done >= pull.total for pull in found)
    others = f"; {whole} of {len(found)} nodes have it" if whole and len(found) > 1 else ""
    return f"image: {last.node} {size(last.done)} of {size(last.total)}{others}"
