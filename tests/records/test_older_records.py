"""Records that earlier versions wrote stay readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import FIXTURES

from ncbench.budget import Budget
from ncbench.records.arrays import load_ranks
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store, read_record
from ncbench.records.table import load_runs
from ncbench.records.verification import verify_run
from ncbench.report.tables.comparisons import comparisons
from ncbench.sweeps.replay import compare

RECORDS = FIXTURES / "records"
"""A run without units of budgets, pair passes, samples and digest of the vocabulary: all of these came later."""


@pytest.fixture
def folder() -> Path:
    (found,) = (folder for folder, _, _ in Store(RECORDS).results())
    return found


def test_the_id_is_the_same(folder: Path) -> None:
    spec = RunSpec.from_dict(read_record(folder / "spec.json"))
    assert spec.id == folder.name
    assert (spec.budget, spec.precision) == (Budget(5.0), "float32")


def test_it_has_its_place_in_a_report() -> None:
    frame = load_runs(RECORDS)
    (row,) = frame.to_dict(orient="records")
    assert (row["budget"], row["budget_unit"], row["allowance"]) == (5.0, "epochs", 5.0)
    assert row["used"] == pytest.approx(5.0, abs=0.01)
    assert row["pair_passes"] is None
    (table,) = comparisons(frame)
    assert table.title == "scenes: shuffle-images 0.4 (unit: images), sgr, budget 5"


def test_it_can_be_verified_and_compared(folder: Path) -> None:
    # The noise is not kept among the fixtures.
    assert [problem.split(",")[0][:11] for problem in verify_run(folder)] == ["cannot read"]
    assert list(load_ranks(folder / "ranks.npz")) == ["test"]
    assert compare(folder, folder, 0.0).outcome == "identical"
