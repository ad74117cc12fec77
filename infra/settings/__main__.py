"""
`python -m infra.settings --markdown` prints the table of settings for docs/infrastructure.md;
`python -m infra.settings --add-cluster JSON [STACK]` writes a compute target into a stack's file.
"""

import json
import sys
from pathlib import Path

from infra.settings.add_cluster import add_cluster, stack_of
from infra.settings.error import SettingsError
from infra.settings.table import markdown

STACKS = Path(__file__).resolve().parents[2] / "stacks"


def main(words: list[str]) -> None:
    if words == ["--markdown"]:
        print(markdown(), end="")
    elif words[:1] == ["--add-cluster"] and len(words) in (2, 3):
        asked = json.loads(words[1])
        try:
            stack = words[2] if len(words) == 3 else stack_of(STACKS, asked["workspace"], asked["location"])
            made, changed = add_cluster(STACKS / f"Pulumi.{stack}.yaml", asked["cluster"])
        except SettingsError as error:
            sys.exit(str(error))
        print(json.dumps({"stack": stack, "vmSize": made.vm_size, "changed": changed}))
    else:
        sys.exit("usage: python -m infra.settings --markdown | --add-cluster JSON [STACK]")


main(sys.argv[1:])
