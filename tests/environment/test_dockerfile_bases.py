"""The images that a Dockerfile names, found as its builders find them, and put in other names."""

import platform

import pytest

from tensoryard.environment.dockerfile_bases import bases, renamed
from tensoryard.errors import JobError

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


@pytest.mark.parametrize(
    ("text", "named", "last"),
    [
        ("FROM python:3.11\nRUN true\n", ["python:3.11"], "python:3.11"),
        ("from python AS base\nfrom scratch\nfrom BASE\n", ["python"], "python"),
        ("FROM scratch\nCOPY a /\n", [], ""),
        ("FROM --platform=linux/amd64 a:1 AS x\nFROM --platform=$BUILDPLATFORM b:1\n", ["a:1", "b:1"], "b:1"),
        ("ARG V=3.11\nFROM python:$V-slim\n", ["python:3.11-slim"], "python:3.11-slim"),
        ("ARG A=3 B=\"$A.11\"\nFROM python:${B}${C:-x}${A:+y}\n", ["python:3.11xy"], "python:3.11xy"),
        ("FROM a:$TARGETARCH\n", [f"a:{ARCHITECTURE}"], f"a:{ARCHITECTURE}"),
        # An argument of a stage is none of the next FROM's.
        ("ARG V=1\nFROM a:$V\nARG V=2\nFROM b:$V\n", ["a:1", "b:1"], "b:1"),
        ("FROM \\\n  # why\n\n  python:3.11 \\\n  AS one\n", ["python:3.11"], "python:3.11"),
        ("# escape=`\nFROM `\n  python:3.11\nRUN echo \\\nFROM other\n", ["python:3.11", "other"], "other"),
        ("FROM a AS x\nFROM b\nCOPY --from=x / /\nCOPY --x --from=c / /\nCOPY --from=0 / /\n", ["a", "b", "c"], "b"),
        ("FROM a\nRUN --mount=type=bind,from=b:1,target=/b --mount=from=c true\n", ["a", "b:1", "c"], "a"),
        # What a script says is no instruction.
        ("FROM a\nRUN <<EOF python3\nfrom os import path\nEOF\nRUN python -c \"\\\nFROM b\"\n", ["a"], "a"),
        ("FROM a\nCOPY <<-'END' /x\n\tFROM b\n\tEND\nFROM c\n", ["a", "c"], "c"),
        ("FROM a\nRUN echo $((1<<N))\nFROM b\n", ["a", "b"], "b"),
        ("FROM a\nRUN cat <<NEVER\nFROM b\n", ["a", "b"], "b"),
        ("# FROM a\n\nFROM b\r\nRUN x\r\n", ["b"], "b"),
    ],
)  # fmt: skip
def test_what_a_dockerfile_is_built_on(text: str, named: list[str], last: str) -> None:
    found = bases(text)
    assert [base.name for base in found.named] == named
    assert found.last == last


def test_only_the_names_are_replaced() -> None:
    text = """ARG V=3.11
FROM --platform=linux/amd64 \\
    python:${V} AS base  
FROM base
COPY --from=nginx:1 /etc/nginx /etc/nginx
RUN echo FROM nginx:1
FROM python:3.11
"""
    names = {"python:3.11": "docker.io/library/python@sha256:aa", "nginx:1": "docker.io/library/nginx@sha256:bb"}
    expected = text.replace("python:${V}", names["python:3.11"]).replace(
        "FROM python:3.11", f"FROM {names['python:3.11']}"
    )
    expected = expected.replace("--from=nginx:1", f"--from={names['nginx:1']}")
    assert renamed(text, bases(text), names) == expected


def test_a_variable_without_a_value_is_named_with_its_line() -> None:
    with pytest.raises(
        JobError, match=r"docker/Dockerfile:2: FROM: got `python:\$\{V\}`, and `V` has no value"
    ) as raised:
        bases("ARG V\nFROM python:${V}\n", "docker/Dockerfile")
    assert raised.value.hint == "`ARG V=...` above the first FROM gives it one"
