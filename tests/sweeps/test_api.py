"""`ncbench.run`: the same records as the command line, and invalid input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sources import Source
from toy_methods import Toy

import ncbench
from ncbench import UserError
from ncbench.data.dataset import Dataset


class Breaking(Toy):
    name = "breaking"

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        raise RuntimeError("something broke")


@pytest.fixture(autouse=True)
def toys(register: Callable[..., None], tiny: Dataset) -> None:
    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.methods", "toy", Toy)
    register("ncbench.methods", "breaking", Breaking)


def run(out: Path, method: Any = "toy", noise: Any = 0.4, **words: Any) -> Any:
    return ncbench.run(method, noise, **{"dataset": "tiny", "backbone": "vse", "budget": 1, "out": out, **words})


def test_every_combination_once(tmp_path: Path) -> None:
    table = run(tmp_path, noise=[0, 0.4], seed=(0, 1), set={"toy.batch_size": 12}, evaluations=1)
    assert sorted(zip(table["noise"], table["seed"], strict=True)) == [(0, 0), (0, 1), (0.4, 0), (0.4, 1)]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(written) == 4
    again = run(tmp_path, noise=[0, 0.4], seed=(0, 1, 0), set={"toy.batch_size": 12}, evaluations=1)
    assert again.equals(table)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == written


def test_variants_budgets_and_other_runs_of_the_folder(tmp_path: Path) -> None:
    run(tmp_path, seed=7)
    table = run(tmp_path, variant=[("toy.batch_size", 16)], budget=[1, "1s"], protocol=["shuffle-captions"])
    assert set(table["budget_unit"]) == {"epochs", "seconds"}
    assert set(table["variant"]) == {"toy", "toy (batch_size=16)"}
    assert len(table) == 4
    assert set(table["protocol"]) == {"shuffle-captions"}


def test_the_record_is_that_of_the_command(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from ncbench.cli import main

    run(tmp_path / "api")
    words = "run --method toy --dataset tiny --backbone vse --budget 1 --noise 0.4 --jobs 1 --out"
    assert CliRunner().invoke(main, [*words.split(), str(tmp_path / "cli")]).exit_code == 0
    (one,), (other,) = (list((tmp_path / name).rglob("result.json")) for name in ("api", "cli"))
    assert one.read_bytes() == other.read_bytes()
    assert one.parent.name == other.parent.name


def test_failed_runs_give_warnings(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"breaking/\w+: failed \(RuntimeError\('something broke'\)\)"):
        table = run(tmp_path, ["toy", "breaking"])
    assert list(table["method"]) == ["toy"]
    with (
        pytest.warns(RuntimeWarning, match="failed"),
        pytest.raises(UserError, match="all runs failed"),
    ):
        run(tmp_path / "other", "breaking")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"noise": 1.0}, "1.0 is not a noise ratio"),
        ({"noise": [0.2, -1]}, "-1 is not a noise ratio"),
        ({"noise": "natural"}, "--noise natural is for datasets that are noisy by nature; the pairs of tiny are clean"),
        ({"noise": []}, r"noise is \[\]; expected at least one value"),
        ({"noise": None}, "noise is None; expected at least one value"),
        ({"method": ()}, r"method is \(\); expected at least one value"),
        ({"seed": "a"}, "seed 'a' is not a non-negative integer"),
        ({"seed": [0, 1.5]}, "seed 1.5 is not a non-negative integer"),
        ({"seed": -1}, "seed -1 is not a non-negative integer"),
        ({"budget": "soon"}, "'soon' is not a valid budget"),
        ({"method": "nothing"}, "nothing"),
        ({"set": {"toy": 1}}, "is not of the form method.key=value"),
        ({"set": {"toy.colour": 1}}, "colour"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_bad_input_runs_nothing(words: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        run(tmp_path, **words)
    assert not list(tmp_path.rglob("result.json"))


def test_evaluate_is_that_of_evaluation() -> None:
    assert ncbench.evaluate is ncbench.evaluation.retrieval.evaluate
