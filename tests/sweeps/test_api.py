"""`ncbench.run`: the same records as the command line, and invalid input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sources import Source
from toy_methods import Toy

import ncbench
from ncbench import RunProgress, UserError
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
    complaint = r"breaking/\w+: failed \(RuntimeError\('something broke'\) \(test_api.py, line \d+\)\)"
    with pytest.warns(RuntimeWarning, match=complaint):
        table = run(tmp_path, ["toy", "breaking"])
    assert list(table["method"]) == ["toy"]
    with (
        pytest.warns(RuntimeWarning, match="failed"),
        pytest.raises(UserError, match="all runs failed"),
    ):
        run(tmp_path / "other", "breaking")


def test_a_function_is_told_the_progress(tmp_path: Path) -> None:
    told: list[RunProgress] = []
    table = run(tmp_path, seed=[0, 1], evaluations=2, progress=told.append)
    for number, seed in ((1, 0), (2, 1)):
        mine = [each for each in told if each.number == number]
        assert {(each.runs, each.title) for each in mine} == {
            (2, f"toy with vse on tiny, shuffle-images 0.4, seed {seed}")
        }
        assert (mine[0].doing, mine[0].share) == ("starting", 0.0)
        assert [each.share for each in mine] == sorted(each.share for each in mine)
        assert (mine[-1].doing, mine[-1].share, mine[-1].over) == ("done", 1.0, True)
        assert mine[-1].dev_rsum is not None
        assert not any(each.over for each in mine[:-1])
    assert len(table) == 2
    told.clear()
    run(tmp_path, seed=[0, 1], evaluations=2, progress=told.append)
    assert [each.doing for each in told if each.over] == ["kept", "kept"]


def test_failure_is_told_too(tmp_path: Path) -> None:
    told: list[RunProgress] = []
    with pytest.warns(RuntimeWarning, match="failed"):
        run(tmp_path, ["toy", "breaking"], progress=told.append)
    assert [each.doing for each in told if each.over] == ["done", "failed"]


def test_bars_are_drawn_if_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, seed=0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "toy with vse on tiny" in err
    assert "100%" in err
    assert "done" in err
    run(tmp_path, seed=1)  # not a terminal
    run(tmp_path, seed=2, progress=False)
    assert capsys.readouterr() == ("", "")


def test_bars_are_drawn_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich takes a terminal for one
    run(tmp_path)
    assert "toy with vse" in capsys.readouterr().err


def test_jobs_and_launchers_reach_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncbench.sweeps.launchers.here import Here
    from ncbench.sweeps.launchers.processes import Processes

    launched: list[tuple[str, int | None]] = []

    def launch(self: Any, sweep: Any, observer: Any) -> Iterator[Any]:
        launched.append((self.name, sweep.jobs))
        return Here().launch(replace(sweep, jobs=1), observer)

    monkeypatch.setattr(Processes, "launch", launch)
    run(tmp_path, jobs=2)
    run(tmp_path, launcher="processes")
    run(tmp_path, launcher="here", jobs=1)
    assert launched == [("processes", 2), ("processes", None)]


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
        ({"jobs": 0}, "jobs: expected a number of runs of at least 1, found 0"),
        ({"jobs": "2"}, "jobs: expected a number of runs of at least 1, found '2'"),
        ({"launcher": "slurm"}, 'launcher: "slurm" needs the command line; use: ncbench run --launcher slurm'),
        ({"launcher": "here", "jobs": 2}, 'launcher: "here" executes one run at a time, found jobs=2'),
        ({"launcher": "there"}, "unknown launcher 'there'"),
        ({"progress": "yes"}, "progress: expected True, False, None or a function of a RunProgress, found 'yes'"),
        ({"captions": "text"}, "--captions needs --dataset hf:NAME_OR_PATH"),
        ({"dev_rule": "ncr"}, "--dev-rule is for datasets of released files"),
    ],
)
def test_bad_input_runs_nothing(words: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        run(tmp_path, **words)
    assert not list(tmp_path.rglob("result.json"))


def test_evaluate_is_that_of_evaluation() -> None:
    assert ncbench.evaluate is ncbench.evaluation.retrieval.evaluate
