"""Tables as LaTeX, for a document that uses the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

# Brackets and stars would be read as options of the row before; a quote after a question mark as a ligature.
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
}


def latex_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> str:
    """Return a table of text with a caption; the columns called `numbers` are aligned to the right."""
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
    """Return `text` as LaTeX prints it, in ASCII; characters that a document may lack are told by their number."""
    return "".join(_ESCAPES.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isspace():
        return " "
    return character if character.isascii() and character.isprintable() else f"U+{ord(character):04X}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
