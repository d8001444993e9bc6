"""Records that earlier versions wrote stay readable."""

from __future__ import annotations

import pytest
from places import FIXTURES

from ncbench.budget import Budget
from ncbench.errors import UserError
from ncbench.records.record import Record
from ncbench.records.store import Store
from ncbench.records.table import load_runs
from ncbench.records.verification import verify_run
from ncbench.report.tables.comparisons import comparisons
from ncbench.sweeps.replay import compare, plan_again

RECORDS = FIXTURES / "records"
"""A run without units of budgets, pair passes, samples and digest of the vocabulary: all of these came later."""


@pytest.fixture
def older() -> Record:
    (found,) = Store(RECORDS).results()
    return found


def test_the_id_is_the_same(older: Record) -> None:
    spec = older.spec
    assert spec.id == older.folder.name
    assert spec == older.result.spec
    assert (spec.budget, spec.precision) == (Budget(5.0), "float32")


def test_it_has_its_place_in_a_report() -> None:
    frame = load_runs(RECORDS)
    (row,) = frame.to_dict(orient="records")
    assert (row["budget"], row["budget_unit"], row["allowance"]) == (5.0, "epochs", 5.0)
    assert row["used"] == pytest.approx(5.0, abs=0.01)
    assert row["pair_passes"] is None
    (table,) = comparisons(frame)
    assert table.title == "scenes: shuffle-images 0.4 (unit: images), sgr, budget 5"


def test_defaults_for_what_it_lacks(older: Record) -> None:
    result, measurements = older.result, older.measurements
    assert (result.vocabulary_digest, result.clean_pairs_given, result.work.samples) == (None, 0, None)
    assert result.baseline_epoch == result.work.budget / 5
    assert measurements is not None
    assert (measurements.seconds.checkpoints, measurements.overhead_share) == (0.0, None)
    assert len(older.history) == 5


def test_it_can_be_verified_and_compared(older: Record) -> None:
    # The noise is not kept among the fixtures.
    assert [problem.split(",")[0][:11] for problem in verify_run(older.folder)] == ["cannot read"]
    assert list(older.ranks) == ["test"]
    assert compare(older.folder, older.folder, 0.0).outcome == "identical"


def test_its_dataset_is_of_a_version_that_is_gone(older: Record) -> None:
    with pytest.raises(UserError, match=r"used scenes version 1 .*; version 1 is gone, use the ncbench that recorded"):
        older.dataset(None)


def test_it_is_of_an_earlier_harness(older: Record) -> None:
    with pytest.raises(UserError, match="made by an earlier version of the harness"):
        plan_again(older.folder, None)
