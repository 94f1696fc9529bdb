"""Text of others in each kind of output: one function an output, so that nothing in it is taken for an instruction.

HTML has the page's template, which escapes by itself, and `html.escape`; figures switch off matplotlib's math.
"""

from __future__ import annotations

import re
import unicodedata

SHOWN = "\n\t\r"  # control characters that a terminal may get: progress bars need them
SIGNS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "—": "---",
         "–": "--", "✓": r"$\checkmark$", "×": r"$\times$", "†": r"$\dagger$", "‡": r"$\ddagger$", "<": r"$<$",
         ">": r"$>$", "|": r"$|$", '"': "''"}
SIGNS |= {c: f"\\{c}" for c in "&%$#_{}"}


def terminal(text: str) -> str:
    """Without what moves the cursor, colours, or turns the direction of text: such characters are shown as escapes."""
    return "".join(_visible(c) if _hidden(c) and c not in SHOWN else c for c in text)


def line(text: str) -> str:
    """The same on one line: whatever ends a line, and tabs, become one blank."""
    return terminal(" ".join(text.split()))


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = line(value)
    return f"'{text}" if re.match(r"[=+@-].", text) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else text


def markdown(text: str) -> str:
    """Text in a table's cell, a paragraph or a list's item: it cannot end the cell, start another thing or become HTML.

    A sign that means nothing where it stands stays, as in `I&S` and `<0.1`.
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", line(text))
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    for sign, entity in (("|", "&#124;"), ("`", "&#96;"), ("](", "]&#40;"), ("![", "&#33;[")):
        text = text.replace(sign, entity)
    text = re.sub(r"^(\d{1,9})([.)])(?=\s)", r"\1\\\2", text)
    return re.sub(r"^([-+*](?=\s)|#{1,6}(?=\s)|[>[])", r"\\\1", text)


def latex(text: str) -> str:
    """Any text for LaTeX; a minus before a number becomes one, and a bracket is no option of what stands before."""
    text = "".join(SIGNS.get(c, c) for c in line(text))
    text = f"{{}}{text}" if text.startswith(("[", "*")) else text
    text = "".join(c if c.isascii() or (c.isalpha() and c < "\u0180") else "?" for c in text)  # what pdflatex can set
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)


def _hidden(character: str) -> bool:
    """Control characters, those that turn or join text, surrogates, and what Unicode does not define."""
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
