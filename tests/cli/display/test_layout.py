"""Tables fit the terminal at every width, and no number, name or id is ever cut."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ncbench.cli.display import output
from ncbench.cli.display.layout import fit

RUNS = ("id", "dataset", "variant", "backbone", "protocol", "noise", "seed", "rsum")
ROWS = [
    ("af9f281070c3", "scenes", "l2rm", "vse-infinity", "shuffle-images", "0.2", "0", "498.4"),
    ("0b1c281070c3", "scenes", "triplet", "vse-infinity", "shuffle-images", "0.4", "0", "73.0"),
]


def printed(monkeypatch, width, columns, rows, numbers=(), title="A title"):
    written = io.StringIO()
    monkeypatch.setattr(output, "console", lambda: Console(file=written, width=width, color_system=None))
    output.print_table(title, columns, rows, numbers=numbers)
    return written.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 240])
def test_no_id_and_no_score_is_cut(monkeypatch, width):
    text = printed(monkeypatch, width, RUNS, ROWS, numbers=("noise", "seed", "rsum"))
    assert "…" not in text
    for row in ROWS:
        assert row[0] in text
        assert row[-1] in text
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("name", ["l2rm", "表の名", "two\nlines"])
def test_long_tables_look_as_rich_draws_them(monkeypatch, width, name):
    rows = [(row[0], row[1], name, *row[3:]) for row in ROWS] * 60
    drawn = printed(monkeypatch, width, RUNS, rows, numbers=("noise", "seed", "rsum"))
    monkeypatch.setattr(output, "MANY_ROWS", len(rows))
    assert drawn == printed(monkeypatch, width, RUNS, rows, numbers=("noise", "seed", "rsum"))
    monkeypatch.setattr(output, "_filled", lambda *_: pytest.fail("drawn without rich"))
    assert drawn == printed(monkeypatch, width, RUNS, rows, numbers=("noise", "seed", "rsum"))


def test_wide_terminals_show_all_columns():
    layout = fit(RUNS, ROWS, 200)
    assert list(layout.blocks[0]) == list(range(len(RUNS)))
    assert not layout.shared


def test_columns_that_say_the_same_are_left_out_from_the_left_until_the_rest_fits(monkeypatch):
    layout = fit(RUNS, ROWS, 80)
    assert layout.shared == [("dataset", "scenes"), ("backbone", "vse-infinity")]
    assert len(layout.blocks) == 1
    assert "dataset scenes, backbone vse-infinity" in printed(monkeypatch, 80, RUNS, ROWS)


def test_a_single_row_keeps_its_columns():
    assert not fit(RUNS, ROWS[:1], 60).shared


def test_empty_columns_are_left_out():
    assert list(fit(("a", "b", "c"), [("1", "", "3"), ("2", "", "4")], 80).blocks[0]) == [0, 2]
    assert list(fit(("a", "b"), [], 80).blocks[0]) == [0, 1]


def test_wide_tables_are_split_into_blocks_that_repeat_the_first_column(monkeypatch):
    columns = ("method", *(f"score {i}" for i in range(12)))
    rows = [(name, *(f"{len(name)}{i}.5\u00a0±\u00a02.{i}" for i in range(12))) for name in ("rce", "l2rm")]
    layout = fit(columns, rows, 80, fixed=columns[1:])
    assert len(layout.blocks) > 1
    assert all(next(iter(block)) == 0 for block in layout.blocks)
    assert sorted(place for block in layout.blocks for place in block if place) == list(range(1, 13))


def test_sentences_break_between_words(monkeypatch):
    rows = [("ncbench", "commit 2ab399e9f97ebce9207b2401c79cab " + "word " * 20)]
    text = printed(monkeypatch, 60, ("item", "details"), rows)
    assert "2ab399e9f97ebce9207b2401c79cab" in text
    assert text.count("word") == 20


def test_rows_become_lists_where_a_single_cell_is_too_wide(monkeypatch):
    path = "/".join(["folder"] * 12)
    text = printed(monkeypatch, 60, ("file", "size"), [(path, "3.1"), ("b", "4.2")])
    assert path in text
    assert "size 3.1" in text
    assert "┃" not in text


@given(
    st.integers(60, 240),
    st.lists(st.lists(st.text("ab ", max_size=30), min_size=4, max_size=4), min_size=1, max_size=4),
)
def test_blocks_fit_and_hold_every_column_once(width, rows):
    columns = ("first", "second one", "third", "fourth")
    layout = fit(columns, rows, width)
    left_out = {name for name, _ in layout.shared}
    shown = [place for block in layout.blocks for place in block if place]
    if layout.blocks:
        assert all(sum(block.values()) + 3 * len(block) + 1 <= width for block in layout.blocks)
        expected = [p for p in range(1, 4) if columns[p] not in left_out and any(row[p] for row in rows)]
        assert shown == expected


@pytest.mark.parametrize("width", range(60, 241, 20))
def test_blocks_repeat_all_columns_that_name_a_row(width):
    columns = ("method", "backbone", *(f"0.{i}" for i in range(1, 9)))
    rows = [
        ("l2rm", backbone, *(f"{place}{i}0.5\u2013446.{i}" for i in range(8)))
        for place, backbone in enumerate(("sgr", "saf"))
    ]
    layout = fit(columns, rows, width, fixed=columns[2:], keys=2)
    assert layout.blocks
    assert all(list(block)[:2] == [0, 1] and len(block) > 2 for block in layout.blocks)
    assert [p for block in layout.blocks for p in list(block)[2:]] == list(range(2, 10))
    assert all(sum(block.values()) + 3 * len(block) + 1 <= width for block in layout.blocks)
