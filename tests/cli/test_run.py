"""`ncbench run` on a tiny dataset: grids, output and failures."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ncbench import UserError
from ncbench.method.registry import load_method
from ncbench.noise.base import NoiseProtocol, NoiseRequest
from ncbench.records.store import Store
from ncbench.sweeps.execution import Outcome
from ncbench.sweeps.launchers.base import Sweep
from ncbench.training.run import DEFAULT_CADENCE, Cadence


def test_comma_lists_make_a_grid(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    lists = ("--protocol", "shuffle-images,shuffle-captions", "--noise", "0.2,0.4", "--seed", "3,1")
    result = toy_run("--method", "quick", *lists, "--json")
    assert result.exit_code == 0, result.output
    specs = [outcome["result"]["spec"] for outcome in json.loads(result.stdout)]
    assert [(spec["seed"], spec["noise"], spec["protocol"]) for spec in specs] == [
        (seed, noise, protocol)
        for seed in (3, 1)
        for noise in (0.2, 0.4)
        for protocol in ("shuffle-images", "shuffle-captions")
    ]
    assert len(list(Store(tmp_path / "runs").results())) == 8


@pytest.mark.parametrize(
    ("option", "values"),
    [("--backbone", ["vse", "saf"]), ("--budget", [0.3, 0.4]), ("--seed", [0, 1]), ("--method", ["quick", "other"])],
)
def test_one_list(
    option: str,
    values: list[object],
    toy_run: Callable[..., Result],
    register: Callable[[str, str, object], None],
) -> None:
    quick = load_method("quick")
    register("ncbench.methods", "other", type("Other", (quick,), {"name": "other"}))
    result = toy_run("--method", "quick", "--noise", "0.2", option, ",".join(map(str, values)), "--json")
    assert result.exit_code == 0, result.output
    found = [outcome["result"]["spec"][option.removeprefix("--")] for outcome in json.loads(result.stdout)]
    assert found == values


def test_an_ablation_is_one_sweep(toy_run: Callable[..., Result]) -> None:
    variants = ("--variant", "quick.lr=0.5", "--variant", "quick.batch_size=4")
    result = toy_run("--method", "quick", "--noise", "0.2", "--set", "quick.lr=0.3", *variants, "--json")
    assert result.exit_code == 0, result.output
    found = [outcome["result"]["spec"]["settings"] for outcome in json.loads(result.stdout)]
    assert [(settings["lr"], settings["batch_size"]) for settings in found] == [(0.3, 8), (0.5, 8), (0.3, 4)]


def test_clean_runs_are_shared_by_protocols(toy_run: Callable[..., Result]) -> None:
    protocols = ("--protocol", "shuffle-images,shuffle-captions")
    result = toy_run("--method", "quick", "--noise", "0,0.4", *protocols, "--json")
    specs = [outcome["result"]["spec"] for outcome in json.loads(result.stdout)]
    assert [(spec["protocol"], spec["noise"]) for spec in specs] == [
        ("clean", 0.0),
        ("shuffle-images", 0.4),
        ("shuffle-captions", 0.4),
    ]


def test_a_value_given_twice_is_one_run(toy_run: Callable[..., Result]) -> None:
    result = toy_run("--method", "quick,quick", "--noise", "0.2,0.20", "--seed", "0,0", "--json")
    assert len(json.loads(result.stdout)) == 1


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (("--set", "quick.lr=0.5"), "settings", {"batch_size": 8, "lr": 0.5, "fails": False}),
        (
            ("--set", "quick.lr=0.5", "--set", "quick.lr=0.25"),
            "settings",
            {"batch_size": 8, "lr": 0.25, "fails": False},
        ),
        ((), "settings", {"batch_size": 8, "lr": 0.0123456, "fails": False}),
        (("--set", "backbone.embed=4"), "sizes", {"embed": 4, "similarity": 8, "word": 8, "dropout": 0.0}),
        (("--precision", "tf32"), "precision", "tf32"),
        (("--backbone", "sgr", "--precision", "bf16"), "precision", "bf16"),
        ((), "precision", "float32"),
        (("--evaluations", "3", "--budget", "2"), "evaluations", 3),
        (("--budget", "1.6"), "evaluations", 2),
        ((), "evaluations", 1),
        (("--seed", "12"), "seed", 12),
    ],
)
def test_options_reach_the_record(
    words: tuple[str, ...], key: str, value: object, toy_run: Callable[..., Result], tmp_path: Path
) -> None:
    assert toy_run("--method", "quick", "--noise", "0.2", *words).exit_code == 0
    (record,) = Store(tmp_path / "runs").results()
    assert record.spec.to_dict()[key] == value
    if key == "evaluations":
        assert len(record.history) == value


def test_defaults(toys: None, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ncbench.sweeps.grid.plan_sweep", lambda grid: seen.append(grid) or [])
    assert cli("run", "--method", "quick").exit_code == 0
    (grid,) = seen
    assert (grid.datasets, grid.protocols, grid.ratios) == (("scenes",), ("shuffle-images",), (0.2, 0.4, 0.6))
    assert (grid.methods, grid.backbones, grid.budgets, grid.seeds) == (("quick",), (), (), (0,))
    assert (grid.evaluations, list(grid.overrides), grid.data_root) == (None, [], None)


def test_what_is_printed(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    result = toy_run("--method", "quick", "--noise", "0.2", "--seed", "0,1")
    assert result.exit_code == 0
    assert result.stderr == ""
    first, second, *table = result.stdout.splitlines()
    rsums = {f"{record.result.metrics.test.rsum:.1f}" for record in Store(tmp_path / "runs").results()}
    for number, line in enumerate((first, second)):
        start = f"[{number + 1}/2] quick with vse on tiny, shuffle-images 0.2, seed {number}: done, test rSum "
        assert line.startswith(start)
        assert line.removeprefix(start).partition(",")[0] in rsums
    assert [line.split("│")[7].strip() for line in table if line.startswith("│")] == ["done", "done"]
    assert f"Records are in {tmp_path / 'runs'}. " in table[-1]
    assert table[-1].endswith(f"ncbench report --runs {tmp_path / 'runs'}")
    assert "\x1b" not in result.stdout


def test_json_is_all_of_standard_output(toy_run: Callable[..., Result], strict_json: Callable[[str], list]) -> None:
    result = toy_run("--method", "quick", "--noise", "0.2", "--json")
    ((outcome),) = strict_json(result.stdout)
    assert set(outcome) == {"status", "folder", "error", "result"}
    assert json.loads((Path(outcome["folder"]) / "result.json").read_text()) == outcome["result"]
    assert "[1/1] quick with vse on tiny" in result.stderr  # progress is still shown


def test_result_does_not_depend_on_where_records_are_kept(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert toy_run("--method", "quick", "--noise", "0.2", "--out", tmp_path / name).exit_code == 0
    (a,), (b,) = (list((tmp_path / name).glob("*/*/*/result.json")) for name in ("a", "b"))
    assert a.relative_to(tmp_path / "a") == b.relative_to(tmp_path / "b")
    assert a.read_bytes() == b.read_bytes()


def test_a_failing_run_leaves_the_others_alone(toy_run: Callable[..., Result], tmp_path: Path) -> None:
    result = toy_run("--method", "failing,quick", "--noise", "0.2", "--seed", "0,1")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    what = "failing with vse on tiny, shuffle-images 0.2, seed"
    folders = [path.parent for path in (tmp_path / "runs" / "tiny" / "failing").glob("*/error.txt")]
    seeds = {json.loads((folder / "spec.json").read_text())["seed"]: folder for folder in folders}
    assert result.stderr.splitlines() == [
        f"diverged: {what} {seed}: Diverged('the loss is nan at update 1'); see {seeds[seed] / 'error.txt'}"
        for seed in (0, 1)
    ]
    for folder in folders:
        first, *_, last = (folder / "error.txt").read_text().splitlines()
        assert first == "Traceback (most recent call last):"
        assert last == "ncbench.training.trainer.Diverged: the loss is nan at update 1"
    assert [": diverged, " in line for line in result.stdout.splitlines()[:4]] == [True, False, True, False]
    assert [record.spec.method for record in Store(tmp_path / "runs").results()] == ["quick", "quick"]
    assert "Records are in" not in result.stdout


def test_a_failing_run_in_json(toy_run: Callable[..., Result], strict_json: Callable[[str], list]) -> None:
    result = toy_run("--method", "failing,quick", "--noise", "0.2", "--json")
    assert result.exit_code == 1
    failed, done = strict_json(result.stdout)
    assert (failed["status"], failed["result"]) == ("diverged", None)
    assert failed["error"] == "Diverged('the loss is nan at update 1')"
    assert (done["status"], done["error"]) == ("done", None)
    assert f"; see {failed['folder']}/error.txt\n" in result.stderr


def test_a_budget_too_small_for_an_update_fails_that_run_only(
    toy_run: Callable[..., Result], strict_json: Callable[[str], list]
) -> None:
    result = toy_run("--method", "quick", "--noise", 0.2, "--budget", "0.001,0.3", "--json")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    failed, done = strict_json(result.stdout)
    message = "a budget of 0.001 is too small for one update of quick; raise --budget"
    assert (failed["status"], failed["error"]) == ("failed", message)
    assert (done["status"], done["result"]["spec"]["budget"]) == ("done", 0.3)
    (told,) = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert f": {message.rstrip('.')}; see " in told


def test_kept_runs_have_no_line_of_their_own(toy_run: Callable[..., Result]) -> None:
    assert toy_run("--method", "quick", "--noise", 0.2).exit_code == 0
    result = toy_run("--method", "quick", "--noise", "0.2,0.4")
    lines = [line for line in result.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == 1
    assert lines[0].startswith("[2/2] quick with vse on tiny, shuffle-images 0.4, seed 0: done, test rSum ")
    assert result.stdout.count("already done") == 1


@pytest.mark.parametrize(("words", "expected"), [((), None), (("--jobs", 3), 3)])
def test_jobs(
    words: tuple[object, ...],
    expected: int | None,
    toys: None,
    cli: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def launch(self: object, sweep: Sweep, observer: object) -> list[Outcome]:
        seen.append(sweep.jobs)
        return [
            Outcome(run.spec, "failed", sweep.store.folder(run.spec), error=RuntimeError("no"))
            for run in reversed(sweep.runs)
        ]

    seen: list[object] = []
    monkeypatch.setattr("ncbench.sweeps.launchers.processes.Processes.launch", launch)
    result = cli("run", "--method", "quick", "--dataset", "tiny", "--noise", "0.2,0.4", "--out", tmp_path, *words)
    assert result.exit_code == 1
    assert seen == [expected]
    # Runs are reported in the order of the grid, not in the order in which they end.
    assert [line.split(", seed")[0][-3:] for line in result.stderr.splitlines()] == ["0.2", "0.4"]


def test_noise_is_drawn_before_anything_is_written(
    toy_run: Callable[..., Result], tmp_path: Path, register: Callable[..., None]
) -> None:
    def refuse(request: NoiseRequest) -> None:
        raise UserError("no noise today")

    broken = NoiseProtocol("broken", "1", "images", "", refuse)  # type: ignore[arg-type]
    register("ncbench.noise", "broken", broken)
    result = toy_run("--method", "quick", "--noise", "0.2", "--protocol", "shuffle-images,broken")
    assert (result.exit_code, result.stderr, result.stdout) == (
        2,
        "Error: noise protocol 'broken': no noise today.\n",
        "",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"), [((), DEFAULT_CADENCE), (("--checkpoint-every", 0.5), Cadence(0.5, 0.5))]
)
def test_checkpoint_interval(
    words: tuple[object, ...],
    expected: Cadence,
    toys: None,
    cli: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seen: list[object] = []
    launch = lambda self, sweep, observer: seen.append(sweep.cadence) or []  # noqa: E731
    monkeypatch.setattr("ncbench.sweeps.launchers.processes.Processes.launch", launch)
    assert cli("run", "--method", "quick", "--dataset", "tiny", "--noise", 0, "--out", tmp_path, *words).exit_code == 0
    assert seen == [expected]


@pytest.mark.usefixtures("in_this_process")
def test_a_stopped_sweep_says_how_to_resume(
    toy_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--method", "quick", "--noise", 0.2, "--seed", "0,1,2", "--json")
    quick = load_method("quick")
    train, begun = quick.train_epoch, []

    def stop_in_the_second_run(self: Any, epoch: int) -> Iterator[dict[str, float]]:
        begun.append(epoch)
        for number, scalars in enumerate(train(self, epoch)):
            if len(begun) == 2 and number == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            yield scalars

    with monkeypatch.context() as patch:
        patch.setattr(quick, "train_epoch", stop_in_the_second_run)
        result = toy_run(*words)
    assert result.exit_code == 128 + signal.SIGTERM
    assert [outcome["status"] for outcome in json.loads(result.stdout)] == ["done", "interrupted"]
    assert ", seed 1: interrupted, " in result.stderr
    assert "Stopped by SIGTERM: 1 of 3 runs done. " in result.stderr
    assert result.stderr.endswith("Rerun the same command to resume.\n")
    again = toy_run(*words)
    assert again.exit_code == 0
    assert [outcome["status"] for outcome in json.loads(again.stdout)] == ["kept", "done", "done"]
