"""`tyard doctor` on what images need, on a machine that has it and on one that withholds it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAY = """
import msgspec
from tensoryard.cli.doctor_images import examine_images
print(msgspec.json.encode({one.name: one for one in examine_images()}).decode())
"""


def findings(*wrapped_in: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run([*wrapped_in, sys.executable, "-c", SAY], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_a_machine_with_all_that_images_need_is_told_so() -> None:
    found = findings()
    assert found["buildah"]["ok"]
    assert (found["namespaces"]["ok"], found["namespaces"]["found"]) == (True, "may be made")


def test_a_user_without_namespaces_is_told_how_to_get_them() -> None:
    """In a namespace that allows no further ones, without root's rights: what a hardened machine gives a user."""
    none_allowed = (
        'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$0" "$@"'
    )
    found = findings("unshare", "--user", "--map-root-user", "sh", "-c", none_allowed)["namespaces"]
    assert not found["ok"]
    assert found["found"].startswith("this machine does not allow unprivileged user namespaces (")
    assert "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in found["fix"]


def test_a_machine_without_a_builder_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert findings()["buildah"]["fix"] == "sudo apt-get install buildah"


def test_a_machine_with_docker_but_no_daemon_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    docker = tmp_path / "docker"
    docker.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    docker.chmod(0o755)
    found = findings()["buildah"]
    assert (found["ok"], found["found"]) == (False, f"{docker}, whose daemon does not answer")
    docker.write_text(f"#!{sys.executable}\n")
    assert findings()["buildah"]["ok"]
