"""The comparison of the order of methods here and as published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from agreement import (
    FACTS,
    LEADERBOARDS,
    SOURCES,
    at_most,
    compare,
    interval,
    main,
    means,
    ours,
    published,
    redrawn,
    verdict,
)
from click import ClickException
from click.testing import CliRunner
from pandas.testing import assert_frame_equal

from ncbench.budget import Budget


def naive_tau(left: list[float], right: list[float]) -> float:
    """Return concordant less discordant pairs over all pairs; there are no ties."""
    pairs = [(i, j) for i in range(len(left)) for j in range(i)]
    signs = [(left[i] - left[j]) * (right[i] - right[j]) for i, j in pairs]
    return sum((sign > 0) - (sign < 0) for sign in signs) / len(pairs)


def write(path: Path) -> Path:
    rows = [
        ("triplet", "triplet", "sgr", 5.0, "shuffle-images", 0.4, 10.0),
        ("triplet", "triplet", "sgr", 5.0, "shuffle-images", 0.4, 20.0),
        ("ncr", "ncr", "sgr", 5.0, "shuffle-images", 0.4, 90.0),
        ("decl", "decl", "sgr", 5.0, "shuffle-images", 0.4, 80.0),
        ("l2rm", "l2rm", "sgr", 5.0, "shuffle-images", 0.4, 50.0),
        ("l2rm", "l2rm", "sgr", 5.0, "clean", 0.0, 300.0),
        # Left out: other backbone, budget, protocol, and a variant of a method; below, another unit of budget.
        ("ncr", "ncr", "vse", 5.0, "shuffle-images", 0.4, 0.0),
        ("ncr", "ncr", "sgr", 9.0, "shuffle-images", 0.4, 0.0),
        ("ncr", "ncr", "sgr", 5.0, "shuffle-captions", 0.4, 0.0),
        ("ncr", "ncr (lr=1)", "sgr", 5.0, "shuffle-images", 0.4, 0.0),
    ]
    columns = ["method", "variant", "backbone", "budget", "protocol", "noise", "rsum"]
    frame = pd.DataFrame(rows, columns=columns).assign(budget_unit="epochs", seed=0)
    frame.loc[1, "seed"] = 1
    seconds = frame.tail(1).assign(variant="ncr", budget_unit="seconds")
    own = frame.iloc[[2]].assign(variant="ncr (5 own epochs)", budget_unit="own-epochs", rsum=70.0)
    changed = own.assign(variant="ncr (lr=1, 5 own epochs)", rsum=0.0)
    pd.concat([frame, seconds, own, changed]).to_csv(path, index=False)
    return path


def test_own_epochs_are_a_budget_of_their_own(tmp_path: Path) -> None:
    found = ours(write(tmp_path / "runs.csv"), "sgr", Budget.parse("5own-epochs"), "shuffle-images")
    assert found[["method", "rsum"]].to_numpy().tolist() == [["ncr", 70.0]]


def test_runs_are_averaged_over_seeds_and_others_left_out(tmp_path: Path) -> None:
    here = means(ours(write(tmp_path / "runs.csv"), "sgr", Budget(5), "shuffle-images"))
    expected = {"decl": 80.0, "l2rm": 50.0, "ncr": 90.0, "triplet": 15.0}
    assert here[0.4].to_dict() == expected
    assert here[0.0].dropna().to_dict() == {"l2rm": 300.0}


def test_tau_is_that_of_a_naive_count(tmp_path: Path) -> None:
    here = means(ours(write(tmp_path / "runs.csv"), "sgr", Budget(5), "shuffle-images"))
    there = published(LEADERBOARDS / "published.csv")
    both, tau, p = compare(here[0.4], there[0.4])
    assert list(both.index) == ["l2rm", "ncr", "decl", "triplet"]
    assert tau == pytest.approx(naive_tau(list(both["ours"]), list(both["published"])))
    assert tau == pytest.approx(1 / 3)
    assert 0 < p <= 1


def test_one_published_number_per_method_and_ratio() -> None:
    there = published(LEADERBOARDS / "published.csv")
    assert set(there.index) == set(SOURCES)
    assert list(there.columns) == [0.2, 0.4, 0.6, 0.8]
    # L2RM's own table could not be read; UCPM reprints it.
    assert there.loc["l2rm"].tolist() == [503.8, 490.5, 467.6, 404.0]
    assert there[0.8].dropna().to_dict() == {
        "triplet": 181.3, "ncr": 36.4, "decl": 394.4, "bicro": 60.2, "mscn": 18.8, "rcl": 378.3, "l2rm": 404.0,
    }  # fmt: skip
    assert_frame_equal(there.dropna(), there.drop(index=["gsc", "crcl"]))


def test_what_is_printed(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--runs", str(write(tmp_path / "runs.csv")), "--backbone", "sgr"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("| published fact | here |")
    assert lines[2].startswith("| at 0.4 and 0.6, plain training is far below every robust method")
    assert lines[2].endswith("| seen | 3 of 3 | 100% to 100% |")
    assert lines[3].endswith("| not tested | - | - |")
    assert lines[len(FACTS) + 2 :] == [
        "",
        "**0.4**: Kendall's tau 0.33 (0.33 to 0.33) over 4 methods (p = 0.75)",
        "",
        "| method | published | rank | ours | rank |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| l2rm | 490.5 | 1 | 50.0 | 3 |",
        "| ncr | 486.8 | 2 | 90.0 | 1 |",
        "| decl | 479.6 | 3 | 80.0 | 2 |",
        "| triplet | 372.1 | 4 | 15.0 | 4 |",
        "",
    ]


def test_no_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(ClickException, match=r"runs\.csv has no runs of saf at budget 5 under shuffle-images\.$"):
        ours(write(tmp_path / "runs.csv"), "saf", Budget(5), "shuffle-images")


def test_every_fact_is_one_of_the_published_table() -> None:
    there = published(LEADERBOARDS / "published.csv")
    assert [fact.share(there) for fact in FACTS] == [1.0] * len(FACTS)
    assert [len(fact.statements(there)) for fact in FACTS] == [16, 1, 24, 8, 3, 3, 1, 3]


def test_facts_can_be_missed() -> None:
    """In a table where all methods are the same, only those facts hold that say so."""
    ratios = [0.2, 0.4, 0.6, 0.8]
    flat = pd.DataFrame(100.0, index=list(SOURCES), columns=ratios)
    assert [fact.share(flat) for fact in FACTS] == [0, 0, 1, 1, 0, 1, 1, 1]
    falling = flat * [1.0, 0.8, 0.6, 0.1]
    falling.loc["ncr"] = 40.0
    assert [fact.share(falling) for fact in FACTS] == pytest.approx([0, 1, 7 / 8, 1 / 8, 2 / 3, 0, 0, 1])


def test_missing_scores_make_no_statement() -> None:
    scores = pd.DataFrame({0.4: {"triplet": 1.0, "ncr": 2.0, "decl": float("nan")}})
    cells = [("triplet", 0.4), ("ncr", 0.4), ("decl", 0.4), ("rcl", 0.4), ("ncr", 0.6)]
    assert at_most(scores, 0.5, 5 * [("triplet", 0.4)], cells) == [False, True]


def test_seeds_are_drawn_again(tmp_path: Path) -> None:
    samples = redrawn(ours(write(tmp_path / "runs.csv"), "sgr", Budget(5), "shuffle-images"), draws=400)
    drawn = [float(sample.loc["triplet", 0.4]) for sample in samples]
    assert set(drawn) == {10.0, 15.0, 20.0}
    assert drawn.count(15.0) == pytest.approx(200, abs=50)
    assert {float(sample.loc["ncr", 0.4]) for sample in samples} == {90.0}
    assert interval(drawn) == (10.0, 20.0)


def test_verdicts() -> None:
    assert [verdict(share) for share in (1.0, 0.99, 0.5, 0.49, float("nan"))] == [
        "seen", "in part", "in part", "not seen", "not tested",
    ]  # fmt: skip
