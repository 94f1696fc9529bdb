"""A finished table as LaTeX: a snippet with booktabs to \\input, and a small document that shows several of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby

from aiqvit.io.escape import latex as escape
from aiqvit.io.names import file_name
from aiqvit.report.grid import Grid

PACKAGES = ("booktabs", "amssymb", "adjustbox")
STYLES = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")
SNIPPET = r"""%% \usepackage{%s}
\begin{table*}[t]
\centering
\caption{%s.}
\label{tab:%s}
\begin{adjustbox}{max width=\textwidth,max totalheight=.7\textheight}
%s\end{adjustbox}
%s\end{table*}
"""
NOTES = r"""\par\medskip
\begin{minipage}{\textwidth}\scriptsize\raggedright
%s
\end{minipage}
"""
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
    frame = _once(grid).frame(_heading, escape, STYLES, r"\midrule ", _rules(grid))
    table = frame.style.hide(axis="index").to_latex(hrules=True, multicol_align="c", column_format=aligned)
    notes = "\n".join(rf"{_small(note)}{_heading(note.removesuffix('.'))}.\par" for note in grid.notes)
    return SNIPPET % (",".join(PACKAGES), _heading(grid.caption), file_name(grid.name), table, notes and NOTES % notes)


def document(names: Sequence[str]) -> str:
    """A document with every one of the snippets `<name>.tex` beside it on a page of its own."""
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return DOCUMENT % (packages, "\n\\clearpage\n".join(rf"\input{{{file_name(name)}}}" for name in names))


def _once(grid: Grid) -> Grid:
    """The table with a method beside the first of its sources only."""
    if grid.stub[-1] != "Source":
        return grid
    blank = ("",) * (len(grid.stub) - 1)
    rows = [replace(row, heads=(*blank, row.heads[-1])) if row.heads[:-1] == before.heads[:-1] else row
            for before, row in zip(grid.rows, grid.rows[1:], strict=False)]
    return replace(grid, rows=(grid.rows[0], *rows))


def _rules(grid: Grid) -> list[str]:
    r"""For each level of headings but the first, a \cmidrule under each of the headings above."""
    levels = []
    for level in range(1, max(map(len, grid.columns))):
        sizes = [len(list(run)) for _, run in groupby(heads[:level] for heads in grid.columns)]
        ends = accumulate(sizes, initial=len(grid.stub))
        levels.append("".join(rf"\cmidrule(lr){{{end + 1}-{end + size}}}"
                              for end, size in zip(ends, sizes, strict=False)))
    return levels


def _heading(text: str) -> str:
    """Escaped, but `^word` is raised."""
    return re.sub(r"\\textasciicircum\{\}(\w+)", r"\\textsuperscript{\1}", escape(text))


def _small(note: str) -> str:
    return r"\tiny " if len(note) > 1000 else ""  # the ids of a hundred runs
