"""workspace.json."""

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    workspace.json, all of it optional.

    concurrent_runs: runs that may be in Running on this machine at once; the others wait in Scaling.
    """

    name: str = "local"
    concurrent_runs: int = 1
