"""Text from files of others, made harmless: for terminals, and for spreadsheets."""

from __future__ import annotations

import unicodedata

# Zero-width joiners shape letters and emoji; all other invisible characters can hide or reorder what is shown.
_HARMLESS = frozenset("\u200c\u200d")
_LINES = frozenset("\n\t")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of what spreadsheets compute (OWASP, "CSV injection"): also the wide forms of these characters."""


def printable(text: str, lines: bool = True) -> str:
    """Return `text` with control, format and surrogate characters as escapes such as `\\x1b`.

    Terminals obey control characters: they clear the screen, move the cursor or write the clipboard. Format characters
    reorder what is read. Line feeds and tabs remain if `lines`.
    """
    if text.isprintable():
        return text
    return "".join(character if _is_harmless(character, lines) else _escape(character) for character in text)


def spreadsheet_cell(value: object) -> object:
    """Return a cell that spreadsheets do not compute: an apostrophe is put before text that begins like a formula.

    Carriage returns become line feeds: older versions of the csv module do not
    quote them, so that they end the row. Other control characters become escapes.
    """
    if not isinstance(value, str):
        return value
    text = printable(value.replace("\r\n", "\n").replace("\r", "\n"))
    return f"'{text}" if value.lstrip(" ").startswith(FORMULA_STARTS) else text


def _is_harmless(character: str, lines: bool) -> bool:
    if unicodedata.category(character) not in _INVISIBLE:
        return True
    return character in _HARMLESS or (lines and character in _LINES)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
