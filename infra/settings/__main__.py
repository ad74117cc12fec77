"""
`python -m infra.settings --markdown` prints the table of settings for docs/infrastructure.md;
`--add-cluster`, `--change-cluster` and `--remove-cluster` JSON [STACK] write the compute targets of a stack's file.
"""

import json
import sys
from pathlib import Path
from typing import Any

from infra.settings.add_cluster import add_cluster, stack_of
from infra.settings.change_cluster import change_cluster, remove_cluster
from infra.settings.error import SettingsError
from infra.settings.table import markdown

STACKS = Path(__file__).resolve().parents[2] / "stacks"
_WRITERS = {"--add-cluster": add_cluster, "--change-cluster": change_cluster}


def main(words: list[str]) -> None:
    if words == ["--markdown"]:
        print(markdown(), end="")
    elif words[:1] and words[0] in (*_WRITERS, "--remove-cluster") and len(words) in (2, 3):
        asked = json.loads(words[1])
        try:
            stack = words[2] if len(words) == 3 else stack_of(STACKS, asked["workspace"], asked["location"])
            print(json.dumps({"stack": stack, **_write(words[0], STACKS / f"Pulumi.{stack}.yaml", asked["cluster"])}))
        except SettingsError as error:
            sys.exit(str(error))
    else:
        sys.exit("usage: python -m infra.settings --markdown | --add-cluster JSON [STACK] | --change-cluster ...")


def _write(what: str, path: Path, cluster: dict[str, Any]) -> dict[str, Any]:
    """What a stack's file then has of a cluster."""
    if what == "--remove-cluster":
        remove_cluster(path, cluster["name"])
        return {"changed": True}
    made, changed = _WRITERS[what](path, cluster)
    return {"changed": changed, "vmSize": made.vm_size, "maxNodes": made.max_nodes, "spot": made.spot}


main(sys.argv[1:])
