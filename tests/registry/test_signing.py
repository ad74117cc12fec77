"""What a signature promises: who has the public key knows that files and record are those that were signed."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_signing import verifying

from tensoryard.cli.models import models
from tensoryard.errors import CorruptRecordError, NotFoundError, UsageError, VerificationError
from tensoryard.registry import ModelVersion, Registry
from tensoryard.registry.signing import sign_version, signature_problems
from tensoryard.store import Store, keys
from tensoryard.store.file import FileStore

FILES = {"saved_model.pb": b"graph" * 1000, "variables/index": b"index", "variables.txt": b"", "naïve été": b"e"}


def make_key(folder: Path, name: str = "key", curve: str = "prime256v1") -> tuple[Path, Path]:
    """A private and a public key, as people make them."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    subprocess.run(["openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(
        ["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, stderr=subprocess.DEVNULL
    )
    return private, public


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path)


@pytest.fixture
def version(store: Store, tmp_path: Path) -> ModelVersion:
    for name, data in FILES.items():
        path = tmp_path / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Registry(store).register_folder("digits", tmp_path / "exported", lineage={"metrics": {"accuracy": 0.97}})


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1"])
def test_model_signing_itself_verifies_what_was_signed_without_the_files(tmp_path: Path, curve: str) -> None:
    store = FileStore(tmp_path / "store")
    folder = tmp_path / "exported"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    version = Registry(store).register_folder("digits", folder)
    private, public = make_key(tmp_path, curve=curve)
    target = tmp_path / "downloaded"
    Registry(store).download_version(version, target)
    shutil.rmtree(tmp_path / "store" / "objects")
    (tmp_path / "sig").write_bytes(sign_version(store, version, private))
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)

    verifier.verify(target, tmp_path / "sig")
    (target / "extra").write_bytes(b"")
    with pytest.raises(ValueError, match="Extra files"):
        verifier.verify(target, tmp_path / "sig")
    (target / "extra").unlink()
    (target / "variables" / "index").write_bytes(b"INDEX")
    with pytest.raises(ValueError, match="Hash mismatch"):
        verifier.verify(target, tmp_path / "sig")


def test_a_signature_is_kept_once_for_each_key(store: Store, version: ModelVersion, tmp_path: Path) -> None:
    (private, public), (other, other_public) = make_key(tmp_path), make_key(tmp_path, "other")
    first = sign_version(store, version, private)

    assert sign_version(store, version, private) == first
    assert signature_problems(store, version, public) == []
    with pytest.raises(NotFoundError, match="has no signature by the key"):
        signature_problems(store, version, other_public)
    sign_version(store, version, other)
    assert signature_problems(store, version, other_public) == []
    assert signature_problems(store, version, public) == []


def signature_key(store: Store) -> str:
    return next(entry.key for entry in store.list(keys.model("digits", "signatures/")))


def record(store: Store, version: ModelVersion, change: dict[str, object]) -> ModelVersion:
    """The version as its record would read after somebody had changed that in the store."""
    where = keys.model_version("digits", version.version)
    changed = json.loads(store.read(where)) | change
    store.put(where, json.dumps(changed).encode(), overwrite=True)
    return Registry(store).get("digits", version.version)


def test_a_record_changed_after_signing_is_told(store: Store, version: ModelVersion, key: tuple[Path, Path]) -> None:
    sign_version(store, version, key[0])
    changed = record(store, version, {"lineage": {"metrics": {"accuracy": 0.99}}})

    assert [str(problem) for problem in signature_problems(store, changed, key[1])] == [
        "record: was changed after it was signed"
    ]


def test_files_added_changed_and_taken_away_in_the_record_are_told(
    store: Store, version: ModelVersion, key: tuple[Path, Path]
) -> None:
    sign_version(store, version, key[0])
    files = json.loads(store.read(keys.model_version("digits", 1)))["files"]
    by_path = {file["path"]: file for file in files}
    by_path["variables/index"]["sha256"] = "0" * 64
    by_path["evil.so"] = by_path.pop("variables.txt") | {"path": "evil.so"}
    changed = record(store, version, {"files": list(by_path.values())})
    found = signature_problems(store, changed, key[1])
    problems = {problem.path: problem.what.partition(":")[0] for problem in found}

    assert problems == {
        "evil.so": "extra",
        "variables.txt": "missing",
        "variables/index": "changed",
        "": "was changed after it was signed",
    }


def test_a_signature_of_another_version_or_by_another_key_is_refused(
    store: Store, version: ModelVersion, tmp_path: Path
) -> None:
    (private, public), (other, _) = make_key(tmp_path), make_key(tmp_path, "other")
    again = Registry(store).register_folder("digits", tmp_path / "exported")
    sign_version(store, version, private)
    store.put(signature_key(store).replace("00000001", "00000002"), store.read(signature_key(store)))
    assert [problem.path for problem in signature_problems(store, again, public)] == [""]

    where = signature_key(store)
    store.delete(where)
    forged = sign_version(store, version, other)
    store.put(where, forged, overwrite=True)
    [problem] = signature_problems(store, version, public)
    assert "is not by the key" in problem.what


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"dsseEnvelope":{"payload":"!","signatures":[]}}'])
def test_a_signature_that_is_none_is_said_in_words(
    store: Store, version: ModelVersion, key: tuple[Path, Path], data: bytes
) -> None:
    sign_version(store, version, key[0])
    store.put(signature_key(store), data, overwrite=True)

    with pytest.raises(CorruptRecordError, match="is no signature of ours"):
        signature_problems(store, version, key[1])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
@given(where=st.integers(0), bit=st.integers(0, 7))
def test_no_bit_of_what_was_signed_can_be_turned(tmp_path: Path, where: int, bit: int) -> None:
    store = FileStore(tmp_path / "turned")
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    if not private.exists():
        make_key(tmp_path)
        (tmp_path / "model").write_bytes(b"model")
        sign_version(store, Registry(store).register_folder("digits", tmp_path / "model"), private)
        (tmp_path / "sig").write_bytes(store.read(signature_key(store)))
    bundle = json.loads((tmp_path / "sig").read_bytes())
    payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload[where % len(payload)] ^= 1 << bit
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    store.put(signature_key(store), json.dumps(bundle).encode(), overwrite=True)

    assert signature_problems(store, Registry(store).get("digits"), public) != []


def test_keys_of_no_use_are_said_in_words(store: Store, version: ModelVersion, tmp_path: Path) -> None:
    private, public = make_key(tmp_path)
    odd, odd_public = make_key(tmp_path, "odd", "secp256k1")
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", rsa, "2048"], check=True, stderr=subprocess.DEVNULL)
    (tmp_path / "text.pem").write_text("no key")

    for path, words in ((odd, "on the curve"), (rsa, "not an elliptic"), (tmp_path / "text.pem", "no private key")):
        with pytest.raises(UsageError, match=words):
            sign_version(store, version, path)
    for path in (odd_public, private, tmp_path / "text.pem"):
        with pytest.raises(UsageError):
            signature_problems(store, version, path)
    with pytest.raises(UsageError, match="no private key"):
        sign_version(store, version, public)
    with pytest.raises(NotFoundError, match="no such file"):
        sign_version(store, version, tmp_path / "nowhere.pem")


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(models, arguments, input=typed)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TYARD_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"weights")
    assert run("register", "digits", "--folder", "model.keras").exit_code == 0
    return tmp_path / "workspace"


def test_sign_and_verify_on_the_command_line(workspace: Path, key: tuple[Path, Path]) -> None:
    result = run("sign", "digits", "--key", "key.pem", "--out", "digits.sig")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("Signed `digits:1`: 1 file, 7 B\n")
    assert json.loads(Path("digits.sig").read_bytes())["mediaType"].startswith("application/vnd.dev.sigstore.bundle")
    result = run("verify", "digits", "--key", "key.pub.pem")
    assert result.stderr == "Verified `digits:1`: 1 file, 7 B, all as registered and signed\n"
    run("download", "digits", "served")
    verifying.Config().use_elliptic_key_verifier(public_key="key.pub.pem").verify("served", "digits.sig")

    store = FileStore(workspace)
    store.put(Registry(store).get("digits").files[0].key, b"WEIGHTS", overwrite=True)
    result = run("verify", "digits", "--key", "key.pub.pem", "--json")
    assert isinstance(result.exception, VerificationError)
    assert [problem["path"] for problem in json.loads(result.stdout)["problems"]] == ["model.keras"]
    record(store, Registry(store).get("digits"), {"created_by": "somebody"})
    result = run("verify", "digits", "--key", "key.pub.pem")
    assert "is not what was signed with the key of `key.pub.pem`" in str(result.exception)
    assert result.stdout.startswith("record: was changed after it was signed\n")


def test_the_password_of_a_private_key_is_asked_for(workspace: Path, key: tuple[Path, Path]) -> None:
    locked = ["openssl", "pkcs8", "-topk8", "-in", "key.pem", "-out", "locked.pem", "-passout", "pass:very secret"]
    subprocess.run(locked, check=True)

    assert isinstance(run("sign", "digits", "--key", "locked.pem", typed="wrong\n").exception, UsageError)
    result = run("sign", "digits", "--key", "locked.pem", typed="very secret\n")
    assert result.exit_code == 0
    assert "very secret" not in result.output
    assert run("verify", "digits", "--key", "key.pub.pem").exit_code == 0
