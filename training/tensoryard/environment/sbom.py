"""
What is inside of an environment, as a CycloneDX document (an SBOM): Python's packages, conda's, Debian's.

The folders say what is there, the lock adds the digests that each package was checked against.
Source: https://cyclonedx.org/docs/1.6/json/, https://github.com/package-url/purl-spec
"""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from tensoryard.environment import Environment
from tensoryard.environment.image import entries
from tensoryard.environment.image_folders import files_of
from tensoryard.environment.image_layers import Layers
from tensoryard.environment.resolve import pins
from tensoryard.errors import NotFoundError

Component = dict[str, Any]
_DISTRIBUTION = re.compile(r"/(?:site|dist)-packages/[^/]+\.dist-info/METADATA$")
_NAMESPACE = uuid.UUID("65f2f879-f7b9-4d4c-b474-07c4d76bf087")  # ours alone: made once, by chance


def bill_of_materials(environment: Environment, lock: str, version: str) -> dict[str, Any]:
    """
    The CycloneDX 1.6 document of an environment: the same environment gives the same bytes.

    lock: as `EnvironmentBuilder.lock` returns it; version: of Tensoryard. Raises NotFoundError for an image that is
    on the nodes of a cluster only.
    """
    if environment.image:
        if (Path(environment.unpacked) / "pull.json").exists():
            raise NotFoundError(
                f"environment `{environment.hash}`: its files are on the nodes that run it, not here",
                hint="`tyard env build job.yaml` brings a job's image here; then `tyard env show job.yaml --sbom`",
            )
        files = files_of(Path(environment.unpacked))
        found = [*_debian(files), *_python(files, lock), *_fetched_pythons(files)]
        repository, _, digest = environment.image.partition("@")
        name = repository.rpartition("/")[2]
        purl = f"pkg:oci/{_quoted(name)}@{_quoted(digest)}?repository_url={_quoted(repository)}"
        subject = _component("container", environment.name, digest, purl)
    else:
        root = Path(environment.python).parents[1]
        by_conda = list(_conda(root))
        found = [*by_conda, *_python(Layers([str(root)]), lock)]
        if not by_conda:
            found.append(_generic_python(environment.python_version))
        purl = f"pkg:generic/{_quoted(environment.name)}@{environment.hash}"
        subject = _component("application", environment.name, environment.hash, purl)
    unique = {component["bom-ref"]: component for component in found}
    components = [unique[reference] for reference in sorted(unique)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # Of the contents: who makes it again gets the same, and can compare.
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, msgspec.json.encode([subject, components]).decode())}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(environment.created_at), UTC).isoformat(),
            "tools": {"components": [{"type": "application", "name": "tensoryard", "version": version}]},
            "component": subject,
        },
        "components": components,
    }


def _python(files: Layers, lock: str) -> Iterator[Component]:
    """Distributions of every Python in a tree: those of the base too. Copies inside of a package are a part of it."""
    locked = {
        pin: re.findall(r"sha256:([0-9a-f]{64})", entry) for entry in entries(lock) for pin in pins(entry).items()
    }
    for path, place in files.walk():
        if not _DISTRIBUTION.search(path):
            continue
        said = HeaderParser().parsestr(Path(place).read_text(encoding="utf-8", errors="replace"))
        name, version = re.sub(r"[-_.]+", "-", said["Name"]).lower(), said["Version"]
        component = _component("library", name, version, f"pkg:pypi/{name}@{_quoted(version)}")
        if sha256 := locked.get((name, version)) or locked.get((name, "")):  # "": an address
            component["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in sha256]
        yield component


def _conda(root: Path) -> Iterator[Component]:
    for path in root.glob("conda-meta/*.json"):
        said = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        purl = f"pkg:conda/{_quoted(said['name'])}@{_quoted(said['version'])}?build={_quoted(said['build'])}"
        component = _component("library", said["name"], said["version"], purl)
        if sha256 := said.get("sha256"):
            component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
        yield component


def _debian(files: Layers) -> Iterator[Component]:
    """What dpkg has installed, and what images without dpkg say in its place."""
    system = _os_release(files)
    distribution = system.get("ID", "debian")
    release = f"{distribution}-{system['VERSION_ID']}" if "VERSION_ID" in system else ""
    folder = "/var/lib/dpkg"
    paths = [f"{folder}/status", *(path for path, _ in files.walk(f"{folder}/status.d"))]
    places = [Path(place) for path in paths if (place := files.find(path))]
    text = "\n\n".join(place.read_text(encoding="utf-8", errors="replace") for place in places if place.is_file())
    for stanza in re.split(r"\n{2,}", text):
        said = HeaderParser().parsestr(stanza.strip())
        if not said["Package"] or (said["Status"] or "install ok installed").split()[-1] != "installed":
            continue
        facts = {"arch": said["Architecture"], "distro": release}
        about = "&".join(f"{key}={_quoted(value)}" for key, value in facts.items() if value)
        name, version = said["Package"], said["Version"]
        purl = f"pkg:deb/{_quoted(distribution)}/{_quoted(name)}@{_quoted(version)}?{about}"
        yield _component("library", name, version, purl)


def _fetched_pythons(files: Layers) -> Iterator[Component]:
    """Interpreters that uv put into an image whose base has none of that version."""
    for name in files.names("/opt/python"):
        # Beside it lies a link for its minor version.
        if (
            re.match(r"cpython-\d+\.\d+\.\d+-", name)
            and not Path(files.find(f"/opt/python/{name}") or "").is_symlink()
        ):
            yield _generic_python(name.split("-")[1])


def _generic_python(version: str) -> Component:
    return _component("application", "python", version, f"pkg:generic/python@{_quoted(version)}")


def _os_release(files: Layers) -> dict[str, str]:
    for path in ("/usr/lib/os-release", "/etc/os-release"):
        if place := files.follow(path):
            lines = (line.partition("=") for line in Path(place).read_text(encoding="utf-8").splitlines())
            return {name: value.strip("\"'") for name, _, value in lines}
    return {}


def _component(kind: str, name: str, version: str, purl: str) -> Component:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _quoted(text: str) -> str:
    return quote(text, safe="/:")
