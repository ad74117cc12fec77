"""What a stack file sets: `stacks/Pulumi.<stack>.yaml` read without the Pulumi CLI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.settings.error import LOCATION, PROJECT, SettingsError, shown


def stack_values(path: Path) -> tuple[dict[str, Any], str | None]:
    """
    The `tensoryard:` keys that a stack file sets, without that prefix, and its region, for `settings_from`.

    path: the file. A key without a namespace is the project's, as for Pulumi. What Pulumi keeps beside `config:`
    (encryption, environments) is left alone.
    Raises SettingsError where the file is missing, is no YAML of that form, or hides a setting by encryption: none of
    the settings is a secret, and a review must be able to read them.
    """
    import yaml

    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = sorted(each.name.split(".")[1] for each in path.parent.glob("Pulumi.*.yaml"))
        there = f"There are: {', '.join(names)}." if names else "There is none."
        raise SettingsError(path.name, "no file", f"A stack is a file in {path.parent.name}/. {there}", "") from None
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        # One line: YAML's own message spans several, with the place in it.
        raise SettingsError(path.name, "no YAML that can be read", f"{error}.", "Correct the file.") from None
    config = (read or {}).get("config") if isinstance(read or {}, dict) else read
    if config is None:
        return {}, None
    if not isinstance(config, dict):
        form = f"It holds `config:` with keys such as `{LOCATION}` and `{PROJECT}:headSize` under it."
        raise SettingsError(path.name, shown(config), form, "Correct the file.")
    values: dict[str, Any] = {}
    location: Any = None
    for key, value in config.items():
        space, _, name = str(key).rpartition(":")
        if space not in ("", PROJECT) and key != LOCATION:
            continue
        _check_readable(str(key) if space else f"{PROJECT}:{key}", value)
        if key == LOCATION:
            location = value
        else:
            values[name] = value
    return values, location


def _check_readable(key: str, value: Any) -> None:
    """Whether nothing in the value is encrypted."""
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            name = key.split(".")[0].split("[")[0]
            allowed = "None of the settings is a secret, and an encrypted one cannot be reviewed."
            how = f"Set it in the open with `pulumi config set --plaintext {name} ...`."
            raise SettingsError(key, "encrypted", allowed, how)
        for name, inner in value.items():
            _check_readable(f"{key}.{name}", inner)
    if isinstance(value, list):
        for index, inner in enumerate(value):
            _check_readable(f"{key}[{index}]", inner)
