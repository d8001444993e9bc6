"""LaTeX tables; the document needs the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

# Brackets and stars after a row's \\ would be read as its options; ?` is a ligature.
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": "{`}",
    "±": r"$\pm$",
    "\N{EN DASH}": "--",
    "\N{NO-BREAK SPACE}": "~",
}

LONG_TEXT = 16  # characters; longer text breaks into lines
MIN_TEXT_CM, CM_PER_CHARACTER = 1.9, 0.15  # of a column of such text, in scriptsize


def latex_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """Return a table of text cells with a caption, as wide as both columns of a page; `notes` stand below it.

    The columns in `numbers` are right-aligned; text may break into lines. Columns of nothing but dashes are left out.
    """
    kept = [place for place in range(len(columns)) if not rows or any(row[place] != "-" for row in rows)]
    columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    kinds = ["r" if name in numbers else _kind([row[place] for row in rows]) for place, name in enumerate(columns)]
    lines = [
        r"\begin{table*}",
        r"\centering",
        r"\scriptsize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape(title)}}}",
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        _row(columns),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
        *_below(notes),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _below(notes: Sequence[str]) -> list[str]:
    """Return notes as one paragraph, which takes less of the page than a line each."""
    if not notes:
        return []
    text = " ".join(
        rf"\mbox{{{label}:}} {rest}." for label, _, rest in (escape(note).partition(": ") for note in notes)
    )
    return [r"\par\smallskip", r"\begin{minipage}{\textwidth}\tiny\sloppy", text, r"\end{minipage}"]


def _kind(cells: Sequence[str]) -> str:
    """Return the type of a column of text: as wide as its cells, or broken into lines that hold its longest word."""
    if max(map(len, cells), default=0) <= LONG_TEXT:
        return "l"
    longest = max(len(word) for cell in cells for word in cell.split())
    return f"p{{{max(MIN_TEXT_CM, CM_PER_CHARACTER * longest):.1f}cm}}"


def escape(text: str) -> str:
    """Return `text` escaped for LaTeX, in ASCII. Other characters become their code points, such as U+00E9."""
    return "".join(_ESCAPES.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isspace():
        return " "
    return character if character.isascii() and character.isprintable() else f"U+{ord(character):04X}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
