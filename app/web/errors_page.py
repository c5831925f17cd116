"""The page that the `type` of every problem leads to: docs/errors.md, with an anchor for each code."""

from __future__ import annotations

import re
from html import escape
from typing import Final

_ROW: Final = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", re.MULTILINE)
_CODE: Final = re.compile(r"`([a-z_]+)`")
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Assay: errors</title>
<style>
pre {{ white-space: pre-wrap; max-width: 60em; margin: 2em auto; padding: 0 1em }}
:target {{ background: gold }}
</style>
<pre>{text}</pre>
</html>
"""


def format_errors_page(markdown: str) -> str:
    """Return the page of a text that explains codes in the first cells of its tables."""
    return _PAGE.format(text=_ROW.sub(_add_anchors, escape(markdown, quote=False)))


def _add_anchors(row: re.Match[str]) -> str:
    return _CODE.sub(r'<b id="\1">\1</b>', row[0])
