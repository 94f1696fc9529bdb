"""A finished table as LaTeX: a snippet with booktabs to \\input, and a small document that shows several of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiqvit.io.escape import latex as escape
from aiqvit.io.names import file_name
from aiqvit.report.grid import Cell, Grid
from aiqvit.report.markup import spanned

PACKAGES = ("booktabs", "amssymb", "adjustbox")
STYLES = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")
DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=15mm]{geometry}
%s
\begin{document}
%s
\end{document}
"""


def snippet(grid: Grid) -> str:
    """A `table*` that scales down to the text width when it must; its first line names the packages it needs."""
    aligned = "l" * len(grid.stub) + "r" * len(grid.columns)
    lines = [f"% \\usepackage{{{','.join(PACKAGES)}}}", r"\begin{table*}[t]", r"\centering",
             rf"\caption{{{_heading(grid.caption)}.}}", rf"\label{{tab:{file_name(grid.name)}}}",
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
    return DOCUMENT % (packages, "\n\\clearpage\n".join(rf"\input{{{file_name(name)}}}" for name in names))


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
    return re.sub(r"\\textasciicircum\{\}(\w+)", r"\\textsuperscript{\1}", escape(text))


def _small(note: str) -> str:
    return r"\tiny " if len(note) > 1000 else ""  # the ids of a hundred runs


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [r"\par\medskip", r"\begin{minipage}{\textwidth}\scriptsize\raggedright",
            *(rf"{_small(note)}{_heading(note.removesuffix('.'))}.\par" for note in notes), r"\end{minipage}"]
