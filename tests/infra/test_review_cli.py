"""`tyard infra review` and `python -m infra.review`: bases, outputs, refusals, exit codes."""

import gc
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastjsonschema
import pytest
import yaml

from infra.review import __main__ as command
from infra.review import base, document, sarif
from infra.review.declare import declaration
from infra.review.document import Found, Review, StackReview

ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def copy_program(folder: Path) -> None:
    for part in base.PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / part).parent.mkdir(exist_ok=True)
            shutil.copy(source, folder / part)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("committed")
    git(folder, "init", "-q", "-b", "main")
    (folder / "README.md").write_text("nothing yet\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "empty")
    git(folder, "tag", "empty")
    copy_program(folder)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "program")
    return folder


@pytest.fixture
def checkout(committed: Path, tmp_path: Path) -> Path:
    """A repository whose first commit has no program, whose second has this one."""
    return Path(shutil.copytree(committed, tmp_path / "checkout"))


@dataclass(frozen=True)
class Said:
    """What the review printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def review(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """
    `python -m infra.review` in this process, which has the SDK loaded: that takes a process longer than the review.

    The base too; test_a_changed_program_is_compared_with_its_own_past has it in a process of its own.
    """

    def start(folder: Path, stacks: Sequence[str]) -> SimpleNamespace:
        return SimpleNamespace(found={stack: declaration(folder, stack) for stack in stacks}, poll=lambda: 0)

    def run(root: Path, *words: str) -> Said:
        try:
            code = command.main([*words, "--root", str(root)])
        finally:
            gc.enable()
        return Said(code, *capsys.readouterr())

    monkeypatch.setattr(base, "start", start)
    monkeypatch.setattr(base, "result", lambda process: process.found)
    return run


def tyard(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tensoryard", "infra", "review", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


def set_in_stack(checkout: Path, stack: str, **values: Any) -> None:
    path = checkout / "stacks" / f"Pulumi.{stack}.yaml"
    written = yaml.safe_load(path.read_text())
    written["config"] |= {f"tensoryard:{key}": value for key, value in values.items()}
    path.write_text(yaml.safe_dump(written))


def test_an_unchanged_checkout_changes_nothing(checkout: Path, review: Callable[..., Said]) -> None:
    done = review(checkout, "--stack", "dev", "--base", "main")

    assert done.returncode == 0, done.stderr
    assert "Nothing changes" in done.stdout


def test_a_changed_setting_shows_as_from_and_to(checkout: Path, review: Callable[..., Said]) -> None:
    set_in_stack(checkout, "dev", storageRedundancy="ZRS")

    done = review(checkout, "--stack", "dev", "--base", "HEAD")

    assert "| `sku.name` | `Standard_LRS` | `Standard_ZRS` | in place |" in done.stdout


def test_a_changed_program_is_compared_with_its_own_past(checkout: Path) -> None:
    """The base is declared by the base's modules, not by the ones that were edited since."""
    data_store = checkout / "infra" / "data_store.py"
    data_store.write_text(
        data_store.read_text().replace('minimum_tls_version="TLS1_2"', 'minimum_tls_version="TLS1_0"')
    )

    # Asked anywhere in the checkout.
    done = tyard(checkout / "infra" / "review", "--stack", "dev", "--base", "main", "--fail-on", "medium")

    assert "| `minimumTlsVersion` | `TLS1_2` | `TLS1_0` | in place |" in done.stdout
    assert "(new)" in done.stdout
    assert done.returncode == 3
    assert "--fail-on" in done.stderr


def test_a_moved_stack_shouts_that_its_data_is_lost(checkout: Path, review: Callable[..., Said]) -> None:
    path = checkout / "stacks" / "Pulumi.dev.yaml"
    written = yaml.safe_load(path.read_text())
    written["config"]["azure-native:location"] = "northeurope"
    path.write_text(yaml.safe_dump(written))

    done = review(checkout, "--stack", "dev", "--base", "HEAD", "--json")

    changes = json.loads(done.stdout)["stacks"][0]["changes"]
    replaced = {change["name"] for change in changes if change["kind"] == "replaced" and change["holds"]}
    assert {"workspace", "storage", "registry", "vault", "data", "runs", "models", "logs"} <= replaced
    assert changes[0]["holds"]


def test_a_base_without_a_program_is_said_once(checkout: Path, review: Callable[..., Said]) -> None:
    done = review(checkout, "--stack", "dev", "--base", "empty")

    assert done.returncode == 0
    assert done.stdout.count("`empty` has no program yet: everything is created") == 1


def test_a_stack_that_the_base_lacks_is_all_new(checkout: Path, review: Callable[..., Said]) -> None:
    shutil.copy(checkout / "stacks" / "Pulumi.dev.yaml", checkout / "stacks" / "Pulumi.mine.yaml")

    done = review(checkout, "--stack", "mine", "--base", "HEAD")

    assert "`HEAD` has no such stack: everything is created" in done.stdout


def test_a_stack_that_is_gone_is_not_forgotten(checkout: Path, review: Callable[..., Said]) -> None:
    for stack in ("dev", "prod"):
        (checkout / "stacks" / f"Pulumi.{stack}.yaml").unlink()

    done = review(checkout, "--base", "HEAD")

    assert "pulumi destroy --stack prod" in done.stdout


def test_without_stack_all_stacks_are_in_one_document(checkout: Path, review: Callable[..., Said]) -> None:
    done = review(checkout, "--json")

    found = json.loads(done.stdout)
    assert found["format"] == document.FORMAT
    assert [stack["stack"] for stack in found["stacks"]] == ["dev", "nc6", "prod"]
    assert [stack["status"] for stack in found["stacks"]] == ["reviewed", "refused", "reviewed"]
    assert found["stacks"][1]["refusal"]["successor"] == "Standard_NC4as_T4_v3"
    assert found["stacks"][1]["refusal"]["instead"]["cost"]["monthly"] > 0


def test_the_page_on_json_promises_every_field(checkout: Path, review: Callable[..., Said]) -> None:
    page = (
        (ROOT / "docs" / "json.md").read_text().partition("## `tyard infra review --json`")[2].partition("\n## ")[0]
    )

    def fields(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(fields, value))
        if isinstance(value, dict):
            inner = [inner for name, inner in value.items() if name not in ("before", "after")]
            return set(value).union(*map(fields, inner))
        return set()

    set_in_stack(checkout, "dev", storageRedundancy="ZRS")
    found = fields(json.loads(review(checkout, "--json", "--base", "HEAD").stdout))

    assert {"refusal", "effect", "hourly"} <= found
    assert [field for field in sorted(found) if f"`{field}`" not in page] == []


def test_a_program_that_breaks_is_told_with_its_line(checkout: Path, review: Callable[..., Said]) -> None:
    main = checkout / "infra" / "__main__.py"
    main.write_text(main.read_text() + "\nraise KeyError('oops')\n")

    done = review(checkout, "--stack", "dev")

    assert done.returncode == 1
    assert "infra/\\_\\_main\\_\\_.py, line" in done.stdout
    assert "KeyError" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--stack", "devv"], 2, ["there is no stack `devv`", "`dev`, `nc6`, `prod`", "did you mean `dev`?"]),
        (["--stack", "../x"], 2, ["there is no stack `../x`"]),
        (["--base", "nope"], 1, ["git knows no revision `nope`", "git fetch"]),
        (["--base", "--output=x"], 1, ["git knows no revision `--output=x`"]),
        (["--json", "--sarif"], 2, ["--json and --sarif cannot be given together"]),
        (["--fail-on", "never"], 2, ["'high', 'medium', 'low'"]),
    ],
)
def test_wrong_use_is_one_readable_error(checkout: Path, words: list[str], code: int, said: list[str]) -> None:
    done = tyard(checkout, *words)

    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "\n\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    for words_ in said:
        assert words_ in done.stderr


def test_outside_of_a_checkout_it_says_where_to_go(tmp_path: Path) -> None:
    done = tyard(tmp_path)

    assert done.returncode == 1
    assert "no workspace program at or above" in done.stderr
    assert "git clone" in done.stderr


def test_without_pulumi_it_says_how_to_install_it(checkout: Path) -> None:
    hide = "import importlib.util as u; real = u.find_spec; u.find_spec = lambda n, *a: n != 'pulumi' and real(n, *a)"
    code = (
        f"{hide}\nimport sys; sys.argv = ['tyard', 'infra', 'review']\nfrom tensoryard.cli.main import main; main()"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "`make infra`" in done.stderr


def test_a_base_without_git_is_refused(tmp_path: Path) -> None:
    copy_program(tmp_path)

    done = tyard(tmp_path, "--base", "main")

    assert done.returncode == 1
    assert "is no git checkout" in done.stderr


def test_the_base_cannot_write_outside_of_its_folder(tmp_path: Path) -> None:
    """A tar from a pull request's history is not trusted: no `..`, no link, no device."""
    for name, kind in (("../out", tarfile.REGTYPE), ("infra/link", tarfile.SYMTYPE), ("/abs", tarfile.REGTYPE)):
        packed = BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc"
            tar.addfile(member)

        with pytest.raises(base.BaseError, match="no plain file"):
            base.unpack(packed.getvalue(), tmp_path / "in")
    assert list(tmp_path.iterdir()) == []


def test_sarif_is_valid_and_points_into_the_program(
    checkout: Path, review: Callable[..., Said], sarif_schema: dict[str, Any]
) -> None:
    done = review(checkout, "--sarif")

    found = json.loads(done.stdout)
    fastjsonschema.compile(sarif_schema)(found)
    run = found["runs"][0]
    assert {result["ruleId"] for result in run["results"]} >= {"host-encryption-off", "settings-refused"}
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        lines = (checkout / place["artifactLocation"]["uri"]).read_text().splitlines()
        assert 1 <= place["region"]["startLine"] <= len(lines)
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    excepted = [result for result in run["results"] if "suppressions" in result]
    assert excepted
    assert all(len(result["suppressions"][0]["justification"]) > 20 for result in excepted)


def test_sarif_tells_lost_data_as_an_error(sketch: Any, sarif_schema: dict[str, Any]) -> None:
    from infra.review.changes import compare

    gone = sketch()
    gone.add("storage:StorageAccount", "storage")
    finding = Found(
        rule="ssh-open", severity="high", name="n", urn="u", title="t", problem="p", why="w", fix="f", line=0
    )
    rules = {rule.id for rule in document.policy.RULES}
    finding = Found(**{**{f: getattr(finding, f) for f in finding.__struct_fields__}, "rule": sorted(rules)[0]})
    stack = StackReview(
        stack="dev",
        status="reviewed",
        against="base",
        changes=tuple(compare(gone.resources, [])),
        findings=(finding,),
    )

    found = sarif.sarif(Review(stacks=(stack,)))

    fastjsonschema.compile(sarif_schema)(found)
    assert [(result["ruleId"], result["level"]) for result in found["runs"][0]["results"]] == [
        (sorted(rules)[0], "error"),
        ("data-lost", "error"),
    ]


def test_the_workflow_asks_for_little_and_trusts_no_branch_name() -> None:
    text = (ROOT / ".github" / "workflows" / "infra-review.yml").read_text()
    workflow = yaml.safe_load(text)
    steps = workflow["jobs"]["review"]["steps"]

    assert workflow["permissions"] == {}
    assert workflow["jobs"]["review"]["permissions"] == {"contents": "read", "security-events": "write"}
    paths = ["infra/**", "stacks/**", "templates/node/**", "requirements/uv.txt", "Pulumi.yaml"]
    assert workflow[True]["pull_request"]["paths"] == paths
    assert not any("${{" in step.get("run", "") for step in steps)
    assert all("@" in step["uses"] for step in steps if "uses" in step)
    assert steps[0]["with"]["fetch-depth"] == 0


def test_the_review_passes_its_own_stacks_and_writes_sarif_beside_the_markdown(tmp_path: Path) -> None:
    """No finding of any stack is left without an exception: the workflow fails on such a one."""
    done = tyard(ROOT, "--fail-on", "low", "--sarif-file", str(tmp_path / "x.sarif"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Infrastructure review")
    assert json.loads((tmp_path / "x.sarif").read_text())["version"] == "2.1.0"
