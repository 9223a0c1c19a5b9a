"""Words of strangers at each exit: terminals, Markdown, CSV and LaTeX. Standard library only."""

from __future__ import annotations

import re
from typing import Any

_EFFECTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Characters that move a cursor, colour, hide or turn round what is read; joiners stay."""
_MARKUP = re.compile(
    r"[\\`*|]|~(?=~)|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)|!(?=\[)|\](?=[(\[:])"
    r"|^\s*>|^\s*#(?=[#\s])|^\s*[+-](?=\s)|^\s*\d+(?=[.)]\s)"
)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_FORMULA = re.compile(r"[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2191": r"$\uparrow$",
    "\u2193": r"$\downarrow$",
}


def shown(text: str) -> str:
    """Text of several lines without effects: each such character as its JSON escape.

    So JSON stays the same JSON, and nothing is lost.
    """
    return _EFFECTS.sub(_escaped, text)


def printable(text: str) -> str:
    """As `shown`, in one line."""
    return shown(" ".join(text.split()) if re.search(r"[\n\t\r]", text) else text)


def markdown(text: str) -> str:
    """One line that Markdown prints as it is: no tags, links, pictures, code, tables or headings.

    What is common in our own words and means nothing there, an interval's brackets, is left.
    """
    plain = _MARKUP.sub(_backslashed, printable(text))
    return _TAG.sub("&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", plain))


def code(text: str) -> str:
    """A span of code in one line, whatever backticks it has."""
    plain = printable(text)
    ticks = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    return f"{ticks} {plain} {ticks}" if len(ticks) > 1 else f"`{plain}`"


def csv_cell(value: Any) -> Any:
    """A CSV cell; a word that a spreadsheet would take for a formula starts with a quote."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = shown(value)
    return "'" + text if _FORMULA.match(text) and not _is_number(text) else text


def latex(text: str) -> str:
    """A string as LaTeX prints it."""
    return "".join(_LATEX.get(c, c) for c in printable(text))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _escaped(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _backslashed(found: re.Match[str]) -> str:
    mark = found.group()
    if mark[-1].isdigit():
        return mark + "\\"
    return mark[:-1] + "\\" + mark[-1]
