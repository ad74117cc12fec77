"""
Who a registry is told that we are: what `docker login` and `az acr login` left on this machine.

Source: https://docs.docker.com/reference/cli/docker/login (config.json, credential helpers),
https://distribution.github.io/distribution/spec/auth/token
"""

import base64
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from tensoryard.errors import UsageError

_HELPER = re.compile(r"[a-zA-Z0-9._-]+")
_HELPER_S = 60
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


class Login(NamedTuple):
    """A user's name and password, or a token that is exchanged for others (`identity`)."""

    user: str = ""
    password: str = ""
    identity: str = ""

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_login(registry: str) -> Login | None:
    """
    The login of a registry in Docker's config.json, or from the helper that it names; None where there is none.

    Raises UsageError for a config.json that cannot be read and a helper that fails.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        config = json.loads(path.read_bytes())
        names = _names(registry)
        helpers = config.get("credHelpers") or {}
        known = config.get("auths") or {}
        helper = next((helpers[name] for name in names if name in helpers), config.get("credsStore"))
        entry: dict[str, str] = next((known[name] for name in names if name in known), {})
        if helper:
            asked = next((name for name in names if name in known), names[0])
            return _ask_helper(helper, asked)
        if entry.get("identitytoken"):
            return Login(identity=entry["identitytoken"])
        if entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return Login(user, password.rstrip("\0"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"`{path}`: cannot be read: {error}", f"`docker login {registry}` writes it") from None
    return None


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """(scheme in lower case, parameters) of what a registry asks for in WWW-Authenticate."""
    scheme, _, rest = header.partition(" ")
    return scheme.lower(), {key.lower(): value for key, value in _CHALLENGE.findall(rest)}


def _names(registry: str) -> list[str]:
    """The names that config.json may have a registry under."""
    if registry in ("docker.io", "index.docker.io"):
        return ["https://index.docker.io/v1/", "index.docker.io", "docker.io"]
    return [
        registry,
        f"https://{registry}",
        f"https://{registry}/",
        f"https://{registry}/v1/",
        f"https://{registry}/v2/",
    ]


def _ask_helper(helper: str, registry: str) -> Login | None:
    import subprocess

    if not _HELPER.fullmatch(helper):
        raise UsageError(f"Docker's config.json: got the helper `{helper}`, which is no name of one")
    argv = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(argv, input=registry, capture_output=True, text=True, timeout=_HELPER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"`{argv[0]}`: cannot be asked for the login of `{registry}`: {error}",
            "Docker's config.json names this helper: install it, or take it out there",
        ) from None
    if done.returncode != 0:
        # Helpers have no exit code for "none": this sentence is part of their protocol.
        if "credentials not found" in done.stdout + done.stderr:
            return None
        said = (done.stderr or done.stdout).strip()
        raise UsageError(f"`{argv[0]}`: failed: {said}", f"`docker login {registry}`")
    found = json.loads(done.stdout)
    if found["Username"] == "<token>":
        return Login(identity=found["Secret"])
    return Login(found["Username"], found["Secret"])
