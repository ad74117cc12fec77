"""`tyard models sign` and `push`, and the check of a signature: versions for people who do not know this store."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tensoryard.cli.complete import REFERENCE
from tensoryard.text import size

if TYPE_CHECKING:
    from tensoryard.registry import Problem, Registry
    from tensoryard.registry.records import ModelVersion

PUBLIC_KEY = click.option(
    "--key", type=click.Path(path_type=Path), metavar="PUBLIC.PEM", help="Also check the signature by this key."
)


@click.command(short_help="Sign a version with a private key")
@click.argument("model", type=REFERENCE)
@click.option("--key", type=click.Path(path_type=Path), required=True, metavar="PRIVATE.PEM", help="An EC key.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the signature into this file too.")
def sign(model: str, key: Path, out: Path | None) -> None:
    """
    Sign a version's files and record. The digests that were recorded are signed: no file is read.

    The signature stays beside the version; `models verify --key` checks it, and model-signing does.

    \b
    Examples:
      tyard models sign digits:3 --key private.pem
      tyard models sign digits@champion --key private.pem --out digits.sig
    """
    from tensoryard.registry.signing import sign_version
    from tensoryard.store.disk import plain_errors

    registry = _registry()
    version = registry.resolve(model)
    signature = sign_version(registry.store, version, key, lambda: _password(key))
    if out is not None:
        with plain_errors(out, "writing"):
            out.write_bytes(signature)
    reference = f"{version.name}:{version.version}"
    click.echo(f"Signed `{reference}`: {_amount(version)}", err=True)
    click.echo(f"\n  tyard models verify {reference} --key PUBLIC.PEM", err=True)


@click.command(short_help="Send a version to an OCI registry")
@click.argument("model", type=REFERENCE)
@click.argument("place", metavar="REGISTRY/REPOSITORY[:TAG]")
def push(model: str, place: str) -> None:
    """
    Send a version to an OCI registry as a CNCF ModelPack artifact: one layer a file, its digest the file's.

    The tag is the version's number if none is given. Files that the registry has are not sent again. Logins are
    those of `docker login` and `az acr login`.

    \b
    Examples:
      tyard models push digits:3 myregistry.azurecr.io/models/digits
      tyard models push digits@champion localhost:5000/digits:champion
    """
    from tensoryard.registry.oci import push as push_version
    from tensoryard.registry.oci_manifest import parse_place

    registry = _registry()
    version = registry.resolve(model)
    to = parse_place(place, default_tag=str(version.version))
    pushed = push_version(registry.store, version, to)
    there = f", {pushed.there} of its files were there" if pushed.there else ""
    click.echo(f"Pushed `{version.name}:{version.version}` to `{to}`: {_amount(version)}{there}", err=True)
    if pushed.replaced:
        click.echo(f"The tag `{to.tag}` named {pushed.replaced} before", err=True)
    click.echo(f"{to.registry}/{to.repository}@{pushed.digest}")


def signature_problems(registry: "Registry", version: "ModelVersion", key: Path | None) -> "list[Problem]":
    """What is wrong with a version's signature by a public key; empty where no key was given."""
    if key is None:
        return []
    from tensoryard.registry.signing import signature_problems as problems

    return problems(registry.store, version, key)


def _password(key: Path) -> str:
    return str(click.prompt(f"Password of {key}", hide_input=True, err=True))


def _registry() -> "Registry":
    from tensoryard.registry import Registry
    from tensoryard.workspace import Workspace

    return Registry(Workspace.from_config().store)


def _amount(version: "ModelVersion") -> str:
    count = len(version.files)
    return f"{count} file{'' if count == 1 else 's'}, {size(version.size_bytes)}"
