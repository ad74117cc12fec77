"""
Signatures of versions, made of the digests in their records: no file is read to sign.

A signature is a Sigstore bundle as model-signing writes and checks them, made with an elliptic-curve key: whoever has
the files, the signature and the public key needs nothing of ours. The format is written here and not by that package,
as its public side signs nothing but a folder on this machine's disks.
Source: https://github.com/sigstore/model-transparency (predicate v1.0), https://docs.sigstore.dev/about/bundle,
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoryard.errors import AlreadyExistsError, CorruptRecordError, NotFoundError, UsageError
from tensoryard.registry.downloads import Problem
from tensoryard.registry.outcome import AGAIN, told
from tensoryard.registry.records import ModelVersion
from tensoryard.store import Store, keys
from tensoryard.store.disk import plain_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_KEY_HINT = "`openssl ecparam -name prime256v1 -genkey -noout -out private.pem` makes one"


def sign_version(
    store: Store, version: ModelVersion, key: Path, ask_password: Callable[[], str] = lambda: ""
) -> bytes:
    """
    The signature of a version's files and record by a private key, kept beside the record from now on.

    key: a PEM file; ask_password: called where it is encrypted. One key signs a version once: signing again gives the
    signature that is there. Raises UsageError for a key that cannot be used.
    """
    private = _private_key(key, ask_password)
    public = private.public_key()
    where = keys.model_signature(version.name, version.version, _key_id(public))
    what = f"`{version.name}:{version.version}`"
    with told(f"{what}: was not signed", f"{what}: whether the signature was kept is not known", AGAIN):
        return _sign(store, version, private, where)


def _sign(store: Store, version: ModelVersion, private: "EllipticCurvePrivateKey", where: str) -> bytes:
    public = private.public_key()
    payload = json.dumps(_statement(version, _record_digest(store, version))).encode()
    signature = private.sign(_signed_bytes(payload), _algorithm(public))
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": _key_id(public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _text(payload),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": _text(signature), "keyid": ""}],
        },
    }
    data = json.dumps(bundle).encode()
    try:
        store.put(where, data)
    except AlreadyExistsError:
        return store.read(where)
    return data


def signature_problems(store: Store, version: ModelVersion, key: Path) -> list[Problem]:
    """
    What keeps a version from being the one that was signed by the owner of a public key; empty when nothing does.

    It compares records: that the stored bytes are the recorded ones is `Registry.verify_version`.
    key: a PEM file. Raises NotFoundError when this key signed no such version, UsageError for a key of no use.
    """
    public = _public_key(key)
    where = keys.model_signature(version.name, version.version, _key_id(public))
    try:
        data = store.read(where)
    except NotFoundError:
        reference = f"{version.name}:{version.version}"
        raise NotFoundError(
            f"`{reference}`: has no signature by the key in `{key}`",
            f"`tyard models sign {reference} --key private.pem` signs it",
        ) from None
    try:
        payload = _verified_payload(data, public)
        if payload is None:
            return [Problem(path="", what=f"the signature in `{where}` is not by the key in `{key}`")]
        predicate = payload["predicate"]
        signed = {resource["name"]: str(resource["digest"]) for resource in predicate["resources"]}
        record = predicate["record"]["sha256"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptRecordError(f"`{where}`: is no signature of ours: {error}") from None
    problems = _differences(signed, {file.path: file.sha256 for file in version.files})
    if record != _record_digest(store, version):
        problems.append(Problem(path="", what="was changed after it was signed"))
    return problems


def signed_record(bundle: bytes) -> str:
    """The digest (hex) of the record that a signature is of, by its own word. Raises ValueError for no signature."""
    try:
        payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"], validate=True))
        return str(payload["predicate"]["record"]["sha256"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"it has no {error}") from None


def _differences(signed: dict[str, str], recorded: dict[str, str]) -> list[Problem]:
    problems = []
    for path in sorted(signed.keys() | recorded.keys()):
        if path not in signed:
            problems.append(Problem(path=path, what="extra: it was not there when the version was signed"))
        elif path not in recorded:
            problems.append(Problem(path=path, what="missing: it was there when the version was signed"))
        elif signed[path] != recorded[path]:
            what = f"changed: has sha256 {recorded[path]}, signed was {signed[path]}"
            problems.append(Problem(path=path, what=what))
    return problems


def _statement(version: ModelVersion, record_digest: str) -> dict[str, Any]:
    import hashlib

    # In the order of the parts of the paths, as model-signing has them: one digest is over all of theirs.
    files = sorted(version.files, key=lambda file: file.path.split("/"))
    whole = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()
    return {
        "_type": _STATEMENT,
        "subject": [{"name": f"{version.name}-{version.version}", "digest": {"sha256": whole}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": file.path, "algorithm": "sha256", "digest": file.sha256} for file in files],
            # Others ignore it, as the predicate's rules say; it is what covers lineage, metrics and tags.
            "record": {"name": version.name, "version": version.version, "sha256": record_digest},
        },
    }


def _verified_payload(data: bytes, public: "EllipticCurvePublicKey") -> Any:
    """What was signed, or None when the signature is not this key's."""
    from cryptography.exceptions import InvalidSignature

    envelope = json.loads(data)["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    try:
        public.verify(signature, _signed_bytes(payload), _algorithm(public))
    except InvalidSignature:
        return None
    statement = json.loads(payload)
    if (envelope["payloadType"], statement["predicateType"]) != (_PAYLOAD, _PREDICATE):
        raise ValueError(f"it holds {statement['predicateType']}")
    return statement


def _signed_bytes(payload: bytes) -> bytes:
    """DSSE's encoding of a payload together with its type, which is what a key signs."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _record_digest(store: Store, version: ModelVersion) -> str:
    import hashlib

    return hashlib.sha256(store.read(keys.model_version(version.name, version.version))).hexdigest()


def _private_key(path: Path, ask_password: Callable[[], str]) -> "EllipticCurvePrivateKey":
    serialization, ec = _cryptography()
    data = _pem(path)
    password = None
    while True:
        try:
            key = serialization.load_pem_private_key(data, password)
            break
        except TypeError:  # it is encrypted
            password = ask_password().encode()
            if not password:
                raise UsageError(f"`{path}`: is encrypted, and its password was not given") from None
        except ValueError as error:
            raise UsageError(f"`{path}`: is no private key that can be read: {error}", _KEY_HINT) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"`{path}`: is not an elliptic-curve key", _KEY_HINT)
    _check_curve(path, key.curve.name)
    private: EllipticCurvePrivateKey = key
    return private


def _public_key(path: Path) -> "EllipticCurvePublicKey":
    serialization, ec = _cryptography()
    hint = "`openssl ec -in private.pem -pubout -out public.pem` makes it from the private one"
    try:
        key = serialization.load_pem_public_key(_pem(path))
    except ValueError as error:
        raise UsageError(f"`{path}`: is no public key that can be read: {error}", hint) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UsageError(f"`{path}`: is not an elliptic-curve key", hint)
    _check_curve(path, key.curve.name)
    public: EllipticCurvePublicKey = key
    return public


def _check_curve(path: Path, curve: str) -> None:
    if curve not in _CURVES:
        raise UsageError(f"`{path}`: is on the curve `{curve}`, allowed are {', '.join(_CURVES)}", _KEY_HINT)


def _algorithm(public: "EllipticCurvePublicKey") -> "ECDSA":
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    return ECDSA(getattr(hashes, _CURVES[public.curve.name])())


def _key_id(public: "EllipticCurvePublicKey") -> str:
    """The digest (hex) of a public key's PEM, by which a bundle names its key."""
    import hashlib

    serialization, _ = _cryptography()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _pem(path: Path) -> bytes:
    if not path.is_file():
        raise NotFoundError(f"`{path}`: there is no such file, a key in PEM is needed")
    with plain_errors(path, "reading"):
        return path.read_bytes()


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise UsageError(
            "signatures: the package cryptography is not installed", "pip install 'tensoryard[signing]'"
        ) from None
    return serialization, ec


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
