"""
Prints the review of what the program would do. Exit codes: 0 done, 1 it could not be made or a program ended in an
error, 2 wrong use, 3 an open finding is as severe as --fail-on says.

    python -m infra.review --base origin/main
"""

from __future__ import annotations

import argparse
import difflib
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def main(argv: Sequence[str] | None = None) -> int:
    parser = _Parser(prog="python -m infra.review", description=(__doc__ or "").strip())
    parser.add_argument("--stack", action="append", default=[], help="a stack in stacks/; repeatable (default: all)")
    parser.add_argument("--base", metavar="GITREF", help="the revision to compare with, such as origin/main")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--markdown", action="store_true", help="Markdown for a pull request (default)")
    how.add_argument("--json", action="store_true", help="the same facts as JSON")
    how.add_argument("--sarif", action="store_true", help="findings as SARIF 2.1.0")
    parser.add_argument("--sarif-file", type=Path, metavar="FILE", help="write SARIF to a file as well")
    parser.add_argument("--fail-on", choices=("high", "medium", "low"), help="exit 3 for open findings this severe")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the checkout with infra/")
    given = parser.parse_args(argv)
    root: Path = given.root.resolve()
    if not (root / "infra" / "__main__.py").exists() or not (root / "Pulumi.yaml").exists():
        return _failed(f"`{root}` holds no Pulumi.yaml with infra/__main__.py", "give a checkout with --root", 2)
    # All that is made lives until the end: collecting it in between costs a tenth of the time.
    gc.disable()
    from infra.review import base, declare, document

    there = declare.stacks(root)
    unknown = [name for name in given.stack if name not in there]
    if unknown:
        near = difflib.get_close_matches(unknown[0], there, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(there) or 'none'}"
        files = ", ".join(f"`{name}`" for name in there) or "none"
        return _failed(f"there is no stack `{unknown[0]}` in {root / 'stacks'}, which has {files}", hint, 2)
    try:
        review = document.review(root, list(dict.fromkeys(given.stack)) or there, given.base)
    except base.BaseError as error:
        return _failed(error.message, error.hint, 1)
    if given.json:
        _print_json(review)
    elif given.sarif:
        from infra.review.sarif import sarif

        _print_json(sarif(review))
    else:
        from infra.review.report import markdown

        sys.stdout.write(markdown(review))
    if given.sarif_file:
        import msgspec

        from infra.review.sarif import sarif

        given.sarif_file.write_bytes(msgspec.json.format(msgspec.json.encode(sarif(review)), indent=2) + b"\n")
    if any(stack.status == "broken" for stack in review.stacks):
        return 1
    severities = document.SEVERITIES
    worst = review.worst()
    if given.fail_on and worst and severities.index(worst) <= severities.index(given.fail_on):
        sys.stdout.flush()
        print(f"A finding of severity {worst} is open, and --fail-on {given.fail_on} was given", file=sys.stderr)
        return 3
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _failed(message, f"`{self.prog} --help` shows what there is", 2)
        raise SystemExit(2)


def _failed(message: str, hint: str, code: int) -> int:
    print(f"error: {message}\n\nhint: {hint}", file=sys.stderr)
    return code


def _print_json(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


if __name__ == "__main__":
    # Skips tidying up an interpreter full of classes, which takes longer than printing.
    import os

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
