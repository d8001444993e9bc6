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


def latex_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> str:
    """Return a table of text cells with a caption. The columns in `numbers` are right-aligned."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if column in numbers else 'l' for column in columns)}}}",
        r"\toprule",
        _row(columns),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return `text` escaped for LaTeX, in ASCII. Other characters become their code points, such as U+00E9."""
    return "".join(_ESCAPES.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isspace():
        return " "
    return character if character.isascii() and character.isprintable() else f"U+{ord(character):04X}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
