"""
Files that a build reads and that are in no image: certificates, and settings of uv with a package index.

Source: https://docs.astral.sh/uv/reference/environment/, https://docs.astral.sh/uv/reference/settings/#pip
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tensoryard.errors import EnvironmentBuildError

SECRETS = "secrets-"
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM = Path("/etc/uv/uv.toml")


def secrets(folder: Path) -> dict[str, Path]:
    """
    The files by their ids in a build, made in a folder where this machine has none.

    Raises EnvironmentBuildError for settings of uv that cannot be read.
    """
    found = {}
    for variable in _CERTIFICATES:
        path = Path(os.environ.get(variable, ""))
        if path.is_file():
            found["ca"] = path
            break
    own = _own_settings()
    said = _of_variables(os.environ)
    if said:
        found["index"] = folder / "uv.toml"
        found["index"].touch(mode=0o600)
        found["index"].write_text(_merged(own, said), encoding="utf-8")
    elif own:
        found["index"] = own
    return found


def _own_settings() -> Path | None:
    """The one file that uv reads its settings from; of a project's it knows nothing in a build."""
    if named := os.environ.get("UV_CONFIG_FILE"):
        return Path(named)
    configs = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return next((path for path in (configs / "uv" / "uv.toml", _SYSTEM) if path.is_file()), None)


def _of_variables(environ: Mapping[str, str]) -> dict[str, Any]:
    """What uv's variables say of package indexes, as its settings say it."""
    indexes = [_index(entry, environ) | {"default": True} for entry in environ.get("UV_DEFAULT_INDEX", "").split()]
    indexes += [_index(entry, environ) for entry in environ.get("UV_INDEX", "").split()]
    said = {
        "index": indexes,
        "index-url": environ.get("UV_INDEX_URL"),
        "extra-index-url": environ.get("UV_EXTRA_INDEX_URL", "").split(),
        "index-strategy": environ.get("UV_INDEX_STRATEGY"),
    }
    return {key: value for key, value in said.items() if value}


def _index(entry: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """An index from `url` or `name=url`; the login of one with a name may have variables of its own."""
    name, equals, url = entry.partition("=")
    if not equals or ":" in name:
        return {"url": entry}
    of_name = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
    user, password = (environ.get(f"{of_name}_{what}", "") for what in ("USERNAME", "PASSWORD"))
    parts = urlsplit(url)
    if (user or password) and "@" not in parts.netloc:
        url = parts._replace(netloc=f"{quote(user, '')}:{quote(password, '')}@{parts.netloc}").geturl()
    return {"name": name, "url": url}


def _merged(own: Path | None, said: Mapping[str, Any]) -> str:
    """
    The text of settings that are those of a file, and over them what the variables say.

    What the table `pip` may have goes there: uv prefers it to the same outside of it.
    """
    try:
        settings = tomllib.loads(own.read_text(encoding="utf-8")) if own else {}
    except (OSError, ValueError) as error:
        raise EnvironmentBuildError(f"{own}: uv's settings cannot be read: {error}") from None
    settings["pip"] = dict(settings.get("pip", {}))
    for key, value in said.items():
        table = settings if key == "index" else settings["pip"]
        table[key] = [*value, *table.get(key, [])] if isinstance(value, list) else value
    return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in settings.items())


def _toml(value: Any) -> str:
    """A value as TOML writes it within a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str | bool | int):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
