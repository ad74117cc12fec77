"""`python -m infra.settings --markdown` prints the table of settings for docs/infrastructure.md."""

import sys

from infra.settings.table import markdown

if sys.argv[1:] != ["--markdown"]:
    sys.exit("usage: python -m infra.settings --markdown")
print(markdown(), end="")
