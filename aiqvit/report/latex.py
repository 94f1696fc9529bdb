"""A finished table as LaTeX: a snippet with booktabs to \\input, and a small document that shows several of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiqvit.report.grid import Cell, Grid
from aiqvit.report.markup import spanned

PACKAGES = ("booktabs", "amssymb", "adjustbox")
SIGNS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "—": "---",
         "–": "--", "✓": r"$\checkmark$", "×": r"$\times$", "†": r"$\dagger$", "‡": r"$\ddagger$"}
SIGNS |= {c: f"\\{c}" for c in "&%$#_{}"}
STYLES = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")
DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=15mm]{geometry}
%s
\begin{document}
%s
\end{document}
"""


def escape(text: str) -> str:
    """Any text for LaTeX; a minus before a number becomes one."""
    text = "".join(SIGNS.get(c, c) for c in text)
    text = "".join(c if c.isascii() or (c.isalpha() and c < "\u0180") else "?" for c in text)  # what pdflatex can set
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)


def snippet(grid: Grid) -> str:
    """A `table*` that scales down to the text width when it must; its first line names the packages it needs."""
    aligned = "l" * len(grid.stub) + "r" * len(grid.columns)
    lines = [f"% \\usepackage{{{','.join(PACKAGES)}}}", r"\begin{table*}[t]", r"\centering",
             rf"\caption{{{_heading(grid.caption)}.}}", rf"\label{{tab:{grid.name}}}",
             r"\begin{adjustbox}{max width=\textwidth,max totalheight=.7\textheight}",
             rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", *_header(grid), r"\midrule"]
    previous = grid.rows[0]
    for row in grid.rows:
        if row.group != previous.group:
            lines.append(r"\midrule")
        heads = list(map(_heading, row.heads))
        if grid.stub[-1] == "Source" and row is not previous and row.heads[:-1] == previous.heads[:-1]:
            heads[:-1] = [""] * (len(heads) - 1)  # the method stands beside the first of its sources
        previous = row
        lines.append(" & ".join([*heads, *map(_cell, row.cells)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", *_notes(grid.notes), r"\end{table*}"]
    return "\n".join(lines) + "\n"


def document(names: Sequence[str]) -> str:
    """A document with every one of the snippets `<name>.tex` beside it on a page of its own."""
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return DOCUMENT % (packages, "\n\\clearpage\n".join(rf"\input{{{name}}}" for name in names))


def _header(grid: Grid) -> list[str]:
    levels, first = max(map(len, grid.columns)), len(grid.stub) + 1
    lines = []
    for level in range(levels):
        last = level == levels - 1
        cells = [*map(_heading, grid.stub)] if last else [""] * len(grid.stub)
        rules, at = [], first
        for head, size in spanned(grid, level):
            cells.append(_heading(head) if last else rf"\multicolumn{{{size}}}{{c}}{{{_heading(head)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + size - 1}}}")
            at += size
        lines.append(" & ".join(cells) + r" \\" + ("" if last else " " + "".join(rules)))
    return lines


def _cell(cell: Cell) -> str:
    return STYLES[cell.place].format(escape(cell.text))


def _heading(text: str) -> str:
    """Escaped, but `^word` is raised."""
    return "".join(rf"\textsuperscript{{{part}}}" if i % 2 else escape(part)
                   for i, part in enumerate(re.split(r"\^(\w+)", text)))


def _small(note: str) -> str:
    return r"\tiny " if len(note) > 1000 else ""  # the ids of a hundred runs


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [r"\par\medskip", r"\begin{minipage}{\textwidth}\scriptsize\raggedright",
            *(rf"{_small(note)}{_heading(note.removesuffix('.'))}.\par" for note in notes), r"\end{minipage}"]
