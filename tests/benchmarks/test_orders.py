"""The comparison of the orders of methods in two sets of runs."""

from __future__ import annotations

from pathlib import Path

import orders
import pandas as pd
import pytest
from click import UsageError
from click.testing import CliRunner


def runs(**changed: object) -> pd.DataFrame:
    scores = {"a": 300.0, "b": 200.0, "c": 100.0, "oracle": 400.0}
    rows = [
        {"method": name, "variant": name, "noise": noise, "seed": seed, "rsum": score - 100 * noise + seed}
        for name, score in scores.items()
        for noise in (0.0, 0.4)
        for seed in (0, 1)
    ]
    frame = pd.DataFrame(rows).assign(dataset="x", backbone="vse", budget=5.0, budget_unit="epochs", protocol="clean")
    frame.loc[frame["noise"] > 0, "protocol"] = "shuffle-images"
    return frame.assign(sees_truth=frame["method"] == "oracle", **changed)


def test_only_usual_runs_at_equal_work_count() -> None:
    other = [
        runs(variant="a (lr=1.0)"),
        runs(budget_unit="own-epochs"),
        runs(backbone="sgr"),
        runs()[lambda frame: frame["noise"] > 0].assign(protocol="semantic"),
    ]
    found = orders.usual(pd.concat([runs(), *other]), "vse", "shuffle-images")
    assert set(found["method"]) == {"a", "b", "c"}
    assert len(found) == 3 * 2 * 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"backbone": "sgr"}, "runs of one backbone on either side, found sgr, vse"),
        ({"budget": 9.0}, "one budget on either side, found 5.0, 9.0"),
        ({"dataset": "y"}, "one dataset on either side, found x, y"),
    ],
)
def test_runs_that_cannot_be_compared(other: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        orders.usual(pd.concat([runs(), runs(**other)]), None, "shuffle-images")
    with pytest.raises(UsageError, match="found none"):
        orders.usual(runs(), "saf", "shuffle-images")


def test_the_comparison_is_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turned = runs()
    turned["rsum"] = 1000 - turned["rsum"]
    found = {tmp_path / "one": runs(), tmp_path / "other": turned}
    for folder in found:
        folder.mkdir()
    monkeypatch.setattr(orders, "load_runs", lambda folder: found[folder])
    result = CliRunner().invoke(orders.main, [*map(str, found)], catch_exceptions=False)
    assert result.exit_code == 0
    first, _, header, _, best, *_ = result.output.splitlines()
    assert first == "**0**: Kendall's tau -1.00 (-1.00 to -1.00) over 3 methods"
    assert header == "| method | rSum | rank | in the reference | rank |"
    assert best == "| `a` | 300.5 | 1 | 699.5 | 3 |"
    assert "**0.4**: Kendall's tau -1.00" in result.output
