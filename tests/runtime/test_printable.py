"""Text of others cannot control a terminal or a spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest

from ncbench.runtime.printable import printable, spreadsheet_cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31mred", r"\x9b31mred"),  # the sequence of one character, outside ASCII
        ("over\rwritten\x08\x7f\x00", r"over\rwritten\x08\x7f\x00"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),  # bidirectional overrides and isolates
        ("a\u200b\ufeffb\u2028c\u061c", r"a\u200b\ufeffb\u2028c\u061c"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("file-\udcff", r"file-\udcff"),  # a file name that is not UTF-8
        ("a\nb\tc", "a\nb\tc"),
        ("Größe ↑ 中文 שלום \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f4bb", None),
        ("plain", None),
        ("", None),
    ],
)
def test_terminals_receive_what_is_seen(text: str, shown: str | None) -> None:
    assert printable(text) == (text if shown is None else shown)


def test_lines_can_be_kept_together() -> None:
    assert printable("a\nb\tc", lines=False) == r"a\nb\tc"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "  ="])
def test_formulas_become_text(start: str) -> None:
    cell = spreadsheet_cell(f'{start}HYPERLINK("http://x")')
    assert isinstance(cell, str)
    assert cell.startswith("'")
    assert "\r" not in cell


@pytest.mark.parametrize("value", [-1.5, None, True, 7, "", "a=b", "l2rm (reg=0.07)", "a - b"])
def test_other_cells_stay(value: object) -> None:
    assert spreadsheet_cell(value) == value


def test_control_characters_in_cells_are_escapes() -> None:
    assert spreadsheet_cell("\x1b[31mred\r\nnext") == "\\x1b[31mred\nnext"
    text = io.StringIO()
    csv.writer(text).writerow([spreadsheet_cell("a\rb"), 1])
    assert len(list(csv.reader(io.StringIO(text.getvalue(), newline="")))) == 1
