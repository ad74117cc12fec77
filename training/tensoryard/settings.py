"""workspace.json."""

from pathlib import Path
from typing import Annotated

import msgspec

from tensoryard.errors import UsageError


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    workspace.json, all of it optional.

    concurrent_runs: runs that may be in Running on this machine at once; the others wait in Scaling.
    """

    name: str = "local"
    concurrent_runs: Annotated[int, msgspec.Meta(ge=1)] = 1


def read_settings(data: bytes, path: Path) -> Settings:
    """
    The settings of a workspace.json.

    Raises UsageError with the line, what was given and what is allowed.
    """
    try:
        return msgspec.json.decode(data, type=Settings)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _explained(data, path, str(error)) from None


def _explained(data: bytes, path: Path, rule: str) -> UsageError:
    import json

    # Loaded for an error only: these know job.yaml.
    from tensoryard.job_errors import Place, Places, explained, kind

    try:
        text = data.decode()
        fields = json.loads(text)
    except UnicodeDecodeError:
        return UsageError(f"{path}: is not UTF-8", hint="save the file as UTF-8")
    except json.JSONDecodeError as error:
        hint = 'for example {"concurrent_runs": 2}'
        return UsageError(f"{path}: line {error.lineno}: is not JSON: {error.msg[:1].lower()}{error.msg[1:]}", hint)
    if not isinstance(fields, dict):
        return UsageError(f'{path}: got {kind(fields)}, expected a mapping such as {{"concurrent_runs": 2}}')
    places: Places = {}
    for name in fields:
        before = text.partition(json.dumps(name, ensure_ascii=False))[0]
        places[(name,)] = Place(f"{path}: line {before.count(chr(10)) + 1}")
    found = explained(rule, path, fields, places, Settings)
    return UsageError(found.message, found.hint)
