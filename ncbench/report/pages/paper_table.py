"""Comparisons as the field prints them: one LaTeX table over noise ratios, for both columns of a page."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from ncbench.errors import UserError
from ncbench.noise.ratio import CLEAN
from ncbench.report.pages.latex import escape
from ncbench.report.tables.comparisons import COLUMNS, RECALLS, Comparison, conditions_in_words

DEFAULT_COLUMNS = (*RECALLS, "rsum")
CHOICES = tuple(name for name in COLUMNS if name != "variant")
SIDES = {"i2t": r"image $\to$ text", "t2i": r"text $\to$ image"}
LONG_NAME = 24  # characters; longer names of methods are broken into lines

REFERENCE, HELPED = r"$^\dagger$", r"$^\ddagger$"


def paper_tables(
    tables: Sequence[Comparison], source: str, columns: Sequence[str] = (), methods: Sequence[str] = ()
) -> str:
    """Return a LaTeX table per dataset, protocol, backbone and budget; the document needs the package booktabs.

    `columns` are some of CHOICES (default: recalls and rSum), `methods` the variants to show, in this order (default:
    all, best first). `source` says in a comment where the tables come from.
    Raises UserError for unknown columns and methods.
    """
    columns = _known("--columns", columns, CHOICES) or DEFAULT_COLUMNS
    present = sorted({str(name) for table in tables for name in table.rows["variant"]})
    methods = _known("--rows", methods, present)
    texts = [_table(group, columns, methods) for group in _groups(tables)]
    origin = " ".join(source.encode("ascii", "replace").decode().split())
    return "\n".join([f"% {origin}\n% \\usepackage{{booktabs}}\n", *texts])


def _known(option: str, names: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise UserError(f"{option}: unknown {name!r}; expected some of {', '.join(known)}")
    return names


def _groups(tables: Sequence[Comparison]) -> list[list[Comparison]]:
    """Return the comparisons that differ in the noise ratio alone; clean pairs are part of every protocol."""
    groups: dict[tuple[Any, ...], list[Comparison]] = {}
    for table in tables:
        groups.setdefault((_conditions(table), table.key["protocol"]), []).append(table)
    noisy = {conditions for conditions, protocol in groups if protocol != CLEAN}
    found = []
    for (conditions, protocol), members in groups.items():
        if protocol != CLEAN:
            found.append([*groups.get((conditions, CLEAN), []), *members])
        elif conditions not in noisy:
            found.append(members)
    return found


def _conditions(table: Comparison) -> tuple[Any, ...]:
    return tuple(table.key[axis] for axis in ("dataset", "backbone", "budget_unit", "allowance", "conditions"))


def _table(group: Sequence[Comparison], columns: Sequence[str], methods: Sequence[str]) -> str:
    names = [str(name) for table in group for name in table.rows["variant"]]
    method_column = "p{3.6cm}" if max(map(len, names)) > LONG_NAME else "l"
    lines = [
        r"\begin{table*}",
        r"\centering",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_caption(group)}}}",
        rf"\label{{tab:{_label(group[-1])}}}",
        rf"\begin{{tabular}}{{l{method_column}{'r' * len(columns)}}}",
        r"\toprule",
        *_heading(columns),
    ]
    for table in group:
        lines.append(r"\midrule")
        noise = "clean" if table.key["protocol"] == CLEAN else table.noise.rpartition(" ")[2]
        for row in _rows(table, methods):
            lines.append(_line([escape(noise), _name(row), *(_cell(table, row, column) for column in columns)]))
            noise = ""
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _rows(table: Comparison, methods: Sequence[str]) -> list[dict[Hashable, Any]]:
    rows = table.rows.to_dict(orient="records")
    if not methods:
        return rows
    return sorted((row for row in rows if row["variant"] in methods), key=lambda row: methods.index(row["variant"]))


def _heading(columns: Sequence[str]) -> list[str]:
    """Return one line of headings, below the directions of the recalls."""
    spans, rules, place = ["", ""], [], 3
    while place - 3 < len(columns):
        side = columns[place - 3].partition("_")[0] if columns[place - 3] in RECALLS else ""
        width = 1
        while side and place - 3 + width < len(columns) and columns[place - 3 + width].startswith(f"{side}_"):
            width += 1
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{SIDES[side]}}}" if side else "")
        if side:
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    heads = [COLUMNS[column].removeprefix("i2t ").removeprefix("t2i ") for column in columns]
    line = _line(["noise", "method", *map(escape, heads)])
    return [_line(spans), "".join(rules), line] if rules else [line]


def _name(row: Mapping[Hashable, Any]) -> str:
    name = escape(str(row["variant"]))
    if row["sees_truth"]:
        return rf"\textit{{{name}}}{REFERENCE}"
    return f"{name}{HELPED}" if row["clean_pairs_given"] else name


def _cell(table: Comparison, row: dict[Hashable, Any], column: str) -> str:
    text, _, spread = table.cell(row, column).partition(" ± ")
    text = escape(text)
    marked = table.mark(row, column)
    if marked:
        text = rf"\textbf{{{text}}}" if marked == "best" else rf"\underline{{{text}}}"
    return rf"{text}{{\scriptsize\,$\pm$\,{escape(spread)}}}" if spread else text


def _caption(group: Sequence[Comparison]) -> str:
    key, rows = group[-1].key, pd.concat([table.rows for table in group])
    noise = "" if key["protocol"] == CLEAN else f" under {key['protocol']} (unit: {key['unit']})"
    seeds = sorted({int(count) for count in rows["seeds"]})
    means = "one seed" if seeds == [1] else f"mean of {seeds[0]}{f' to {seeds[-1]}' if len(seeds) > 1 else ''} seeds"
    parts = [
        escape(f"Retrieval on {key['dataset']}{noise}; {conditions_in_words(key)}; {means}."),
        r"Best in bold, second \underline{underlined}.",
    ]
    if rows["sees_truth"].any():
        parts.append(f"{REFERENCE}Sees the ground truth.")
    if (rows["clean_pairs_given"] > 0).any():
        parts.append(f"{HELPED}Given clean pairs.")
    return " ".join(parts)


def _label(table: Comparison) -> str:
    words = f"{table.key['dataset']}-{table.key['protocol']}-{table.key['backbone']}"
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in words)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
