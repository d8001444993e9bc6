"""Published numbers: how the file is read, and what is derived of noise units and networks."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from ncbench import UserError
from ncbench.report.tables import published
from ncbench.report.tables.published import (
    FIELDS,
    NETS,
    UNITS,
    Fact,
    Published,
    parse,
    read_published,
    with_units_and_nets,
)

FILE = ROOT / "leaderboards" / "published.csv"
ROW = Published("ncr", "sgr", "f30k", "test", 0.2, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 21.0, "Some (2020)", "Table 1", "")
CELLS = "ncr,sgr,f30k,test,shuffle,0.2,1,2,3,4,5,6,21,Some (2020),Table 1,"


@pytest.fixture(scope="module")
def rows() -> list[Published]:
    return read_published()


@pytest.fixture(scope="module")
def raw() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pick(rows: list[Published], paper: str, **fields: Any) -> list[Published]:
    return [r for r in rows if r.paper.startswith(paper) and all(getattr(r, k) == v for k, v in fields.items())]


def test_every_row_is_read_as_printed(rows: list[Published], raw: list[dict[str, str]]) -> None:
    assert len(rows) == len(raw) == 815
    for row, cells in zip(rows, raw, strict=True):
        assert [row.method, row.backbone, row.dataset, row.evaluation] == [
            cells[key] for key in ("method", "backbone", "dataset", "eval")
        ]
        assert row.noise == (float(cells["noise"]) if cells["noise_kind"] == "shuffle" else None)
        assert [*row.recalls, row.rsum] == [float(cells[key]) for key in (*FIELDS[6:12], "rsum")]
        assert (row.paper, row.table, row.notes) == (cells["paper"], cells["table"], cells["notes"])


def test_counts(rows: list[Published]) -> None:
    assert Counter((row.dataset, row.evaluation) for row in rows) == {
        ("f30k", "test"): 314,
        ("coco", "coco-1k-5fold"): 347,
        ("coco", "coco-5k"): 76,
        ("cc152k", "test"): 78,
    }


def test_flags(rows: list[Published], raw: list[dict[str, str]]) -> None:
    assert sum("SUM-MISMATCH" in row.flags for row in rows) == 24
    assert sum("SUSPECT" in row.flags for row in rows) == sum("SUSPECT" in cells["notes"] for cells in raw) == 17
    for row in rows:  # the flag is what a sum says
        assert ("SUM-MISMATCH" in row.flags) == (round(abs(sum(row.recalls) - row.rsum), 6) > 0.15)
    both = replace(ROW, notes="SUM-MISMATCH: x; SUSPECT: y")
    assert (both.flags, ROW.flags) == ("SUSPECT, SUM-MISMATCH", "")


def test_noise_says_which_units_there_are(rows: list[Published]) -> None:
    for row in rows:
        if row.noise is None:
            assert row.unit == "natural"
        elif row.noise == 0:
            assert row.unit == "clean"
        else:
            assert row.unit in ("images", "captions", "unknown")


@pytest.mark.parametrize(
    ("paper", "fields", "units"),
    [
        ("NCR (", {}, {"captions"}),
        ("DECL (", {}, {"images"}),
        ("DECL repository", {}, {"captions"}),
        ("RCL (", {}, {"images"}),
        ("UGNCL", {"method": "ugncl"}, {"images"}),
        ("UGNCL", {"method": "scan", "noise": 0.2}, {"captions"}),  # NCR's row
        ("UGNCL", {"method": "decl", "noise": 0.2}, {"images"}),  # DECL's
        ("UGNCL", {"method": "decl", "noise": 0.5}, {"captions"}),  # of DECL's repository
        ("UGNCL", {"noise": 0.7, "method": "ncr"}, {"unknown"}),
        ("UCPM", {"method": "ucpm"}, {"unknown"}),
        ("UCPM", {"method": "ncr", "noise": 0.2}, {"images"}),
        ("UCPM", {"method": "ncr", "noise": 0.4}, {"unknown"}),
        ("UCPM", {"method": "scan", "noise": 0.2}, {"captions"}),  # in one column with the last but one
        ("UCPM", {"method": "l2rm", "dataset": "f30k"}, {"images"}),
        ("UCPM", {"method": "l2rm", "dataset": "coco"}, {"unknown"}),
        ("IN2R", {"method": "l2rm", "dataset": "f30k"}, {"images"}),
        ("MGCS", {"method": "crcl"}, {"unknown"}),
        (
            "MGCS",
            {"method": "ncr", "noise": 0.2, "dataset": "f30k"},
            {"captions"},
        ),  # NCR's row, though described as run again
        ("CRCL", {}, {"unknown"}),
        ("L2RM", {}, {"images"}),
        ("NPC", {}, {"unknown"}),
        ("OSA", {}, {"unknown"}),
    ],
)
def test_units(paper: str, fields: dict[str, Any], units: set[str], rows: list[Published]) -> None:
    found = [row for row in pick(rows, paper, **fields) if row.noise]
    assert found
    assert {row.unit for row in found} == units


@pytest.mark.parametrize(
    ("paper", "fields", "nets"),
    [
        ("NCR (", {"method": "ncr"}, {2}),
        ("NCR (", {"method": "sgr"}, {1}),
        ("NCR (", {"method": "scan"}, {None}),
        ("RCL (", {"method": "ncr-single"}, {1}),
        ("RCL (", {"method": "ncr"}, {2}),
        ("RCL (", {"method": "rcl", "backbone": "saf"}, {1}),
        ("RCL (", {"method": "rcl", "backbone": "sgraf"}, {2}),
        ("RCL (", {"method": "rcl", "backbone": "gsmn"}, {None}),
        ("DECL (", {"method": "decl", "backbone": "sgr"}, {1}),
        ("UCPM", {"method": "l2rm", "backbone": "saf"}, {1}),
        ("UCPM", {"method": "l2rm", "backbone": "sgraf"}, {2}),
        ("UCPM", {"method": "bicro"}, {None}),
        ("UCPM", {"method": "mscn"}, {None}),
        ("UCPM", {"method": "ncr", "noise": 0.4}, {None}),
        ("UGNCL", {"method": "decl", "dataset": "f30k", "noise": 0.2}, {2}),  # DECL's row of SGRAF
        ("IN2R", {"method": "l2rm", "dataset": "f30k"}, {2}),  # that of UCPM, where SGRAF is stated
        ("L2RM", {}, {1}),
    ],
)
def test_nets(paper: str, fields: dict[str, Any], nets: set[int | None], rows: list[Published]) -> None:
    found = pick(rows, paper, **fields)
    assert found
    assert {row.nets for row in found} == nets


def test_a_single_model_is_one_network(rows: list[Published]) -> None:
    assert {row.nets for row in pick(rows, "CRCL") if "single model" in row.notes} == {1}
    assert {row.nets for row in pick(rows, "CRCL") if "single model" not in row.notes} == {None}


@pytest.mark.parametrize(("name", "facts"), [("unit", UNITS), ("nets", NETS)])
def test_derivation_is_that_of_a_naive_search(name: str, facts: list[Fact[Any]], rows: list[Published]) -> None:
    def stated(row: Published) -> object:
        return next((fact.value for fact in facts if fact.holds(row)), None)

    shuffled = [row for row in rows if name == "nets" or row.noise]
    for row in shuffled:
        expected = stated(row)
        if expected is None:
            key = (row.dataset, row.evaluation, row.method, row.noise, row.recalls)
            alike = [o for o in shuffled if (o.dataset, o.evaluation, o.method, o.noise, o.recalls) == key]
            values = {stated(other) for other in alike} - {None}
            expected = values.pop() if len(values) == 1 else None
        assert getattr(row, name) == (expected or ("unknown" if name == "unit" else None))


def test_sources_never_contradict_each_other(rows: list[Published]) -> None:
    results: dict[object, set[str]] = {}
    for row in rows:
        results.setdefault((row.dataset, row.evaluation, row.method, row.noise, row.recalls), set()).add(row.unit)
    assert not [key for key, units in results.items() if len(units) > 1]


def test_every_fact_is_of_use() -> None:
    rows = parse(FILE.read_bytes(), "file")
    for facts in (UNITS, NETS):
        for fact in facts:
            assert any(fact.holds(row) for row in rows), fact
            assert fact.why


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({}, "captions"),
        ({"method": "decl"}, "unknown"),
        ({"dataset": "coco", "evaluation": "coco-5k"}, "unknown"),
        ({"noise": 0.4}, "unknown"),
        ({"recalls": (1.0, 2.0, 3.0, 4.0, 5.0, 6.1)}, "unknown"),
        ({"noise": 0.0}, "clean"),
        ({"noise": None}, "natural"),
    ],
)
def test_only_the_same_result_shares_its_unit(changes: dict[str, Any], unit: str) -> None:
    first = replace(ROW, paper="NCR (NeurIPS 2021)")
    again = replace(ROW, notes="reprinted baseline", **changes)
    assert [row.unit for row in with_units_and_nets([again, first])] == [unit, "captions"]


def test_contradicting_units_leave_it_unknown() -> None:
    captions, images = replace(ROW, paper="NCR (NeurIPS 2021)"), replace(ROW, paper="RCL (TPAMI 2023)")
    again = replace(ROW, notes="reprinted baseline")
    assert [row.unit for row in with_units_and_nets([captions, images, again])] == ["captions", "images", "unknown"]


def test_a_reprint_is_not_of_the_noise_of_the_paper() -> None:
    reprint = replace(ROW, paper="DECL (ACM MM 2022)", notes="reprinted baseline")
    assert [row.unit for row in with_units_and_nets([reprint])] == ["unknown"]


def test_labels_that_are_doubted(rows: list[Published]) -> None:
    backbone_doubtful = [row for row in rows if row.backbone_doubtful]
    assert {(row.dataset, row.method, row.backbone) for row in backbone_doubtful} == {
        ("cc152k", name, "sgraf") for name in ("ncr", "mscn", "bicro")
    }


HEAD = ",".join(FIELDS)


def test_a_file_of_one_row() -> None:
    assert parse(f"{HEAD}\n{CELLS}\n".encode(), "x.csv") == [ROW]
    assert parse(f"\ufeff{HEAD}\r\n{CELLS}\r\n".encode(), "x.csv") == [ROW]


def changed(place: str, value: str) -> str:
    cells = dict(zip(FIELDS, CELLS.split(","), strict=True))
    return ",".join({**cells, place: value}.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", f"x.csv has no columns {', '.join(FIELDS)}; restore it"),
        (f"{HEAD.replace('rsum,', '')}\n", "x.csv has no columns rsum; restore it"),
        (f"{HEAD}\n{CELLS}\nncr,sgr\n", "x.csv, line 3: expected 16 cells; restore it"),
        (f"{HEAD}\n{CELLS},more\n", "x.csv, line 2: expected 16 cells; restore it"),
        (f"{HEAD}\n{changed('i2t_r5', 'x')}\n", "x.csv, line 2: i2t_r5 must be a number from 0 to 100, found 'x'"),
        (f"{HEAD}\n{changed('i2t_r5', '')}\n", "x.csv, line 2: i2t_r5 must be a number from 0 to 100, found ''"),
        (
            f"{HEAD}\n{changed('t2i_r1', '101')}\n",
            "x.csv, line 2: t2i_r1 must be a number from 0 to 100, found '101'",
        ),
        (f"{HEAD}\n{changed('rsum', 'nan')}\n", "x.csv, line 2: rsum must be a number from 0 to 600, found 'nan'"),
        (f"{HEAD}\n{changed('noise', '-0.2')}\n", "x.csv, line 2: noise must be a number from 0 to 1, found '-0.2'"),
        (f"{HEAD}\n{changed('method', ' ')}\n", "x.csv, line 2: method is empty; restore it"),
        (
            f"{HEAD}\n{changed('eval', 'dev')}\n",
            "x.csv, line 2: unknown evaluation f30k dev; "
            "expected one of f30k test, coco coco-1k-5fold, coco coco-5k, cc152k test",
        ),
        (
            f"{HEAD}\n{changed('noise', '')}\n",
            "x.csv, line 2: expected noise_kind shuffle with a noise, or natural without one; found 'shuffle'",
        ),
        (
            f"{HEAD}\n{changed('noise_kind', 'natural')}\n",
            "x.csv, line 2: expected noise_kind shuffle with a noise, or natural without one; found 'natural'",
        ),
    ],
)
def test_damage(content: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(content.encode(), "x.csv")
    assert str(caught.value) == message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", f'{HEAD}\n"'.encode()])
def test_no_table(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^x\.csv is not a valid CSV file in UTF-8 \(.+\); restore it$"):
        parse(content, "x.csv")


def fail(error: Exception) -> Callable[[str], Path]:
    def find(_: str) -> Path:
        raise error

    return find


@pytest.mark.parametrize("find", [fail(ModuleNotFoundError("gone")), lambda _: Path("/nowhere")])
def test_a_file_that_is_not_installed(find: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "files", find)
    with pytest.raises(UserError, match=r"published\.csv is not installed \(.+\); reinstall ncbench$"):
        read_published()
