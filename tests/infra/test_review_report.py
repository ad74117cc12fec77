"""The Markdown as GitHub reads it: tables hold together, diagrams parse, nothing that was declared becomes markup."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from infra.review import access, changes, cost, document, picture, reach, report
from infra.review.declare import Declared
from infra.review.document import Found, Review, StackReview

ROOT = Path(__file__).parents[2]
NASTY = 'a|b`c"d<script>&#59;]end*_\\ \n[x](y) ```'


@pytest.fixture(scope="module")
def whole() -> str:
    """The review of every stack of this checkout."""
    return report.markdown(document.review(ROOT, ["dev", "nc6", "prod"], None))


def reviewed(base: Sequence[Declared] | None, head: Sequence[Declared]) -> str:
    """The Markdown for two lists of resources, as the command makes it."""
    openings, grants = reach.openings(head), access.grants(head)
    stack = StackReview(
        stack="dev",
        status="reviewed",
        against="base" if base is not None else document.NO_BASE,
        changes=tuple(changes.compare(base or (), head)),
        openings=tuple(openings),
        grants=tuple(grants),
        cost=cost.estimate(head),
        cost_before=cost.estimate(base).monthly if base is not None else None,
        findings=(),
        network=picture.network(head, openings),
        access=picture.access(grants),
    )
    return report.markdown(Review(base="main", stacks=(stack,)))


def diagrams(text: str) -> list[str]:
    return re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)


def check_tables(text: str) -> int:
    """Each row has as many cells as its header, by GitHub's rule that only an escaped bar is none."""
    tables, columns = 0, 0
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in outside.splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        assert columns in (0, cells), line
        tables += columns == 0
        columns = cells
    return tables


def test_every_stack_reads_in_the_order_of_a_review(whole: str) -> None:
    heads = re.findall(r"^## (.*)$", whole, re.MULTILINE)
    sections = re.findall(r"^### (.*)$", whole.partition("## Stack prod")[2], re.MULTILINE)

    assert heads == ["Stack dev", "Stack nc6", "Stack prod"]
    assert sections == ["Changes", "What the internet reaches", "Who may do what", "Cost", "Policy findings"]


def test_tables_hold_together(whole: str) -> None:
    assert check_tables(whole) > 20
    html = MarkdownIt("commonmark").enable("table").render(whole)
    assert html.count("<table>") == check_tables(whole)


def test_diagrams_parse(whole: str, mermaid_types: Callable[[Sequence[str]], list[str]]) -> None:
    found = diagrams(whole)

    assert len(found) == 6
    assert set(mermaid_types(found)) == {"flowchart-v2"}


def test_the_retired_size_is_refused_with_its_successor_and_what_that_costs(whole: str) -> None:
    section = whole.partition("## Stack nc6")[2].partition("## Stack prod")[0]

    assert "> [!WARNING]" in section
    assert "Standard_NC6" in section
    assert "### With the successor Standard_NC4as_T4_v3" in section
    assert "At rest about $" in section
    assert "stacks/Pulumi.nc6.yaml:" in section


def test_lost_data_is_shouted_before_everything_else(sketch: Any) -> None:
    base, head = sketch(), sketch()
    for made, place in ((base, "westeurope"), (head, "norwayeast")):
        made.add("network:NatGateway", "nat", {"idleTimeoutInMinutes": 4 if made is base else 10})
        made.add("storage:StorageAccount", "storage", {"location": place}, protect=True)

    text = reviewed(base.resources, head.resources)

    assert "**Data goes with `storage`.**" in text
    assert text.index("[!CAUTION]") < text.index("### Changes")
    assert "REPLACED: `storage`" in text
    assert "It is protected or locked" in text
    assert "**forces the replacement**" in text
    assert check_tables(text)


def test_a_change_that_azure_refuses_is_said_to_be_one(sketch: Any) -> None:
    base, head = sketch(), sketch()
    for made, zones in ((base, ["1", "2"]), (head, ["1"])):
        made.add("compute:VirtualMachineScaleSet", "gpu", {"sku": {"name": "Standard_NC4as_T4_v3"}, "zones": zones})

    text = reviewed(base.resources, head.resources)

    assert "**Azure refuses this update**" in text
    assert "Azure would refuse 1 of these updates" in text


def test_nothing_declared_is_still_a_review() -> None:
    text = reviewed([], [])

    assert "Nothing changes" in text
    assert check_tables(text)


def test_names_cannot_become_markup(sketch: Any, mermaid_types: Callable[[Sequence[str]], list[str]]) -> None:
    """Names, descriptions and values come from settings and from a pull request's author."""
    base, head = sketch(), sketch()
    for made in (base, head):
        net = made.add("network:VirtualNetwork", NASTY, {"addressSpace": {"addressPrefixes": [NASTY]}})
        made.add(
            "network:Subnet",
            "s",
            {"virtualNetworkName": net.outputs["name"], "subnetName": NASTY, "addressPrefix": NASTY},
        )
        account = made.add("storage:StorageAccount", NASTY, {"tags": {NASTY: NASTY if made is base else "new"}})
        made.add(
            "authorization:RoleAssignment",
            "g",
            {"scope": account.id, "principalId": NASTY, "roleDefinitionId": NASTY, "description": NASTY},
        )

    text = reviewed(base.resources, head.resources)

    assert check_tables(text)
    assert set(mermaid_types(diagrams(text))) == {"flowchart-v2"}
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<script>" not in html
    assert 'href="y"' not in html


@given(st.text())
def test_text_in_cells_stays_text(words: str) -> None:
    html = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(f"| a | b |\n|---|---|\n| {report.cell(words)} | {report.code(words)} |\n")
    )

    assert html.count("<td>") == 2
    assert "<script" not in html
    assert html.count("<code>") >= 1


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_labels_hold_no_sign_of_mermaids(words: list[str]) -> None:
    for word in words:
        kept = re.sub(r"#\d+;", "", picture.label(word))
        assert not set(kept) & set('"#;<>&`|{}[]()\\\n\r')


def test_findings_are_shown_worst_first_with_reason_and_fix(sketch: Any) -> None:
    about: dict[str, Any] = {"urn": "u", "title": "T", "problem": "seen", "why": "because", "fix": "do it"}
    found = [
        Found(rule="b", severity="high", name="x", file="infra/x.py", line=3, new=True, **about),
        Found(rule="a", severity="low", name="y", excepted_because="it is fine here", **about),
    ]
    stack = StackReview(stack="dev", status="reviewed", against="base", findings=tuple(found), cost=cost.estimate([]))
    review = Review(base="main", stacks=(stack,))

    text = report.markdown(review)

    assert "| **high** (new) | `x` (infra/x.py:3) | seen (`b`) | because | do it |" in text
    assert "it is fine here" in text
    assert "1 open policy finding, 1 of them new, the worst (high): t (`x`)" in text
    assert review.worst() == "high"
    assert msgspec.json.decode(msgspec.json.encode(review), type=Review) == review
