"""Grids: planned completely before execution; finished runs are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import Source
from toy_methods import Failing, Quick
from watching import Events

from ncbench import UserError
from ncbench.backbones.registry import BACKBONES
from ncbench.budget import Budget, Paper
from ncbench.data.dataset import Dataset
from ncbench.method.settings import Override
from ncbench.noise.storage import load_noise
from ncbench.records.progress import Progress
from ncbench.records.store import ERROR_FILE, Store
from ncbench.sweeps import execution
from ncbench.sweeps import grid as grid_module
from ncbench.sweeps.execution import Outcome, run_sweep
from ncbench.sweeps.grid import Grid, plan_sweep
from ncbench.training.trainer import Diverged

CPU = torch.device("cpu")

GRID = Grid(
    datasets=["tiny"],
    protocols=["shuffle-captions"],
    ratios=[0.4],
    methods=["quick"],
    backbones=["vse"],
    budgets=[Budget(0.5)],
    seeds=[0],
    evaluations=1,
)


class Watcher(Events):
    def progressed(self, index: int, progress: Progress) -> None:
        if self.events[-1] != ("progressed", index):
            super().progressed(index, progress)


@pytest.fixture(autouse=True)
def plugins(register: Callable[[str, str, object], None], tiny: Dataset, make_dataset: Callable[..., Dataset]) -> None:
    register("ncbench.datasets", "tiny", Source(tiny))
    register("ncbench.datasets", "natural", Source(make_dataset(name="natural", truth_known=False)))
    register("ncbench.methods", "quick", Quick)
    register("ncbench.methods", "failing", Failing)


def execute(grid: Grid, root: Path, watcher: Watcher | None = None) -> list[Outcome]:
    return list(run_sweep(plan_sweep(grid), Store(root), CPU, watcher or Watcher()))


def test_plan_of_one_run(tiny: Dataset) -> None:
    (run,) = plan_sweep(GRID)
    assert run.dataset is tiny
    assert run.method is Quick
    spec = run.spec
    assert (spec.dataset, spec.dataset_version, spec.dataset_digest) == ("tiny", "1", tiny.digest)
    assert (spec.protocol, spec.protocol_version, spec.unit, spec.noise) == ("shuffle-captions", "1", "captions", 0.4)
    assert (spec.noise_digest, spec.method, spec.backbone) == (run.noise.digest, "quick", "vse")
    assert spec.settings == {"batch_size": 8, "lr": 0.0123456, "fails": False}
    assert (spec.sizes, spec.budget, spec.evaluations, spec.seed) == (tiny.scale, Budget(0.5), 1, 0)


def test_plan_covers_the_grid_with_seeds_outermost() -> None:
    grid = replace(
        GRID,
        protocols=["shuffle-captions", "shuffle-images"],
        ratios=[0.2, 0.4],
        methods=["quick", "failing"],
        backbones=["vse", "sgr"],
        budgets=[Budget(1.0), Budget(2.0)],
        seeds=[3, 1],
    )
    specs = [run.spec for run in plan_sweep(grid)]
    cells = {(s.protocol, s.noise, s.method, s.backbone, s.budget, s.seed) for s in specs}
    assert len(specs) == len(cells) == len({spec.id for spec in specs}) == 2**6
    assert [spec.seed for spec in specs] == [3] * 32 + [1] * 32


def test_clean_ratio_is_one_run_for_all_protocols() -> None:
    grid = replace(GRID, protocols=["shuffle-captions", "shuffle-images"], ratios=[0.0, 0.4])
    specs = [run.spec for run in plan_sweep(grid)]
    assert [(spec.protocol, spec.unit, spec.noise) for spec in specs] == [
        ("clean", "clean", 0.0),
        ("shuffle-captions", "captions", 0.4),
        ("shuffle-images", "images", 0.4),
    ]


def test_clean_runs_have_clean_pairs(tiny: Dataset) -> None:
    (run,) = plan_sweep(replace(GRID, ratios=[0.0]))
    np.testing.assert_array_equal(run.noise.claimed, tiny.splits["train"].true)


def test_noise_depends_on_the_seed_and_not_on_the_method() -> None:
    grid = replace(GRID, methods=["quick", "failing"], seeds=[0, 1])
    digests = {(run.spec.seed, run.spec.method): run.noise.digest for run in plan_sweep(grid)}
    assert digests[0, "quick"] == digests[0, "failing"]
    assert digests[1, "quick"] == digests[1, "failing"]
    assert digests[0, "quick"] != digests[1, "quick"]


def test_budget_is_the_datasets_own_unless_given() -> None:
    assert [run.spec.budget for run in plan_sweep(replace(GRID, budgets=[]))] == [Budget(4.0)]


def test_overrides_are_for_their_method() -> None:
    grid = replace(GRID, methods=["quick", "failing"], overrides=[Override("quick", "lr", "0.5")])
    assert [run.spec.settings["lr"] for run in plan_sweep(grid)] == [0.5, 1e-2]


def test_each_variant_is_an_additional_run() -> None:
    variants = [
        Override("quick", "lr", "0.5"),
        Override("quick", "batch_size", "4"),
        Override("backbone", "embed", "4"),
    ]
    overrides = [Override("quick", "lr", "0.3")]
    runs = plan_sweep(replace(GRID, methods=["quick", "failing"], overrides=overrides, variants=variants))
    found = [(run.spec.settings["lr"], run.spec.settings["batch_size"], run.spec.sizes["embed"]) for run in runs]
    # A variant of one method does not change the other: the same run again.
    assert [run.spec.method for run in runs] == ["quick", "quick", "quick", "quick", "failing", "failing"]
    assert found[:4] == [(0.3, 8, 16), (0.5, 8, 16), (0.3, 4, 16), (0.3, 8, 4)]
    assert [entry[2] for entry in found[4:]] == [16, 4]


def test_sizes_of_the_backbone_can_be_overridden(tiny: Dataset) -> None:
    grid = replace(GRID, overrides=[Override("backbone", "embed", "4")])
    (run,) = plan_sweep(grid)
    assert run.spec.sizes == {**tiny.scale, "embed": 4}
    assert run.spec.settings == plan_sweep(GRID)[0].spec.settings
    assert tiny.scale["embed"] == 16


def test_a_short_name_is_the_same_run() -> None:
    full, short, both = (
        plan_sweep(replace(GRID, backbones=names)) for names in (["scan-t2i-lse"], ["scan"], ["scan", "scan-t2i-lse"])
    )
    assert [run.spec for run in short] == [run.spec for run in both] == [run.spec for run in full]
    assert full[0].spec.backbone == "scan-t2i-lse"


def test_backbones_take_their_presets_where_they_have_one(
    monkeypatch: pytest.MonkeyPatch, tiny: Dataset, make_dataset: Callable[..., Dataset]
) -> None:
    monkeypatch.setattr(grid_module, "load_dataset", lambda name, root: make_dataset(name=name))
    grid = replace(GRID, datasets=["coco", "tiny"], backbones=sorted(BACKBONES))
    for run in plan_sweep(grid):
        sharp = (run.spec.dataset, run.spec.backbone) == ("coco", "scan-i2t-lse")
        assert run.spec.sizes == ({**tiny.scale, "lse": 20.0} if sharp else tiny.scale)
    (own,) = plan_sweep(
        replace(GRID, datasets=["coco"], backbones=["scan-i2t-lse"], overrides=[Override("backbone", "lse", "7")])
    )
    assert own.spec.sizes == {**tiny.scale, "lse": 7.0}


@pytest.mark.parametrize("backbone", ["scan", "vse-infinity"])
def test_new_networks_run_in_a_sweep(backbone: str, tmp_path: Path) -> None:
    overrides = [Override("backbone", "lse", "9")]
    (outcome,) = execute(replace(GRID, backbones=[backbone], overrides=overrides), tmp_path)
    assert (outcome.status, outcome.spec.sizes["lse"]) == ("done", 9.0)


def test_equal_settings_are_one_run() -> None:
    plain = plan_sweep(GRID)[0].spec
    same = plan_sweep(replace(GRID, overrides=[Override("quick", "lr", "0.0123456")]))[0].spec
    other = plan_sweep(replace(GRID, overrides=[Override("quick", "lr", "0.03")]))[0].spec
    assert plain.id == same.id != other.id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ["tinny"]}, "unknown dataset 'tinny'. Did you mean 'tiny'"),
        ({"protocols": ["shuffle-caption"]}, "unknown noise protocol 'shuffle-caption'. Did you mean"),
        ({"methods": ["quack"]}, "unknown method 'quack'. Did you mean 'quick'?"),
        ({"backbones": ["vsx"]}, "unknown backbone 'vsx'. Did you mean 'vse'?"),
        ({"ratios": [1.0]}, "1.0 is not a noise ratio"),
        ({"ratios": [math.nan]}, "nan is not a noise ratio"),
        (
            {"overrides": [Override("triplet", "lr", "1")]},
            "unknown --set target in this sweep 'triplet'. Known: backbone, quick.",
        ),
        (
            {"variants": [Override("triplet", "lr", "1", "--variant")]},
            "unknown --variant target in this sweep 'triplet'. Known: backbone, quick.",
        ),
        ({"variants": [Override("quick", "lr", "x", "--variant")]}, "--variant quick.lr=x: must be of type float"),
        ({"overrides": [Override("quick", "rl", "1")]}, "unknown setting of quick 'rl'."),
        (
            {"overrides": [Override("backbone", "embd", "4")]},
            "unknown setting of backbone 'embd'. Did you mean 'embed'",
        ),
        ({"overrides": [Override("quick", "lr", "x")]}, "--set quick.lr=x: must be of type float"),
        (
            {"datasets": ["natural"], "ratios": ["natural"], "methods": ["oracle"]},
            "method 'oracle' needs to know which pairs are clean, but natural has no ground truth.",
        ),
        ({"datasets": ["natural"]}, "natural is noisy by nature; expected --noise natural, found 0.4"),
        ({"datasets": ["natural"], "ratios": [0.0]}, "natural is noisy by nature; expected --noise natural"),
        (
            {"ratios": ["natural"]},
            "--noise natural is for datasets that are noisy by nature;",
        ),
    ],
)
def test_bad_grids_fail_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_sweep(replace(GRID, **changes))
    assert str(caught.value).startswith(message)


def test_natural_noise_is_one_run_whatever_the_protocols() -> None:
    grid = replace(GRID, datasets=["natural"], ratios=["natural"], protocols=["shuffle-images", "shuffle-captions"])
    (run,) = plan_sweep(grid)
    spec = run.spec
    assert (spec.protocol, spec.protocol_version, spec.unit, spec.noise) == ("natural", "1", "natural", 0.0)
    assert np.array_equal(run.noise.claimed, run.dataset.splits["train"].true)
    assert run.cell is not None
    assert plan_sweep(run.cell)[0].spec == spec


def test_sweep_runs_everything_and_tells_the_observer(tmp_path: Path) -> None:
    grid, watcher = replace(GRID, seeds=[0, 1]), Watcher()
    outcomes = execute(grid, tmp_path, watcher)
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert watcher.events == [
        event for n in (0, 1) for event in (("started", n), ("progressed", n), ("ended", n, "done"))
    ]
    store = Store(tmp_path)
    for outcome in outcomes:
        assert outcome.folder == store.folder(outcome.spec)
        assert outcome.result == store.find(outcome.spec)
        assert outcome.result.spec.seed == outcome.spec.seed
        assert outcome.error is None
    assert len(list(store.results())) == 2


def test_noise_is_stored_next_to_the_runs(tmp_path: Path) -> None:
    (outcome,) = execute(GRID, tmp_path)
    digest = outcome.spec.noise_digest
    noise = load_noise(tmp_path / "tiny" / "noise" / f"{digest[:12]}.npy")
    assert noise.digest == digest


def test_finished_runs_are_kept_and_not_executed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (done,) = execute(GRID, tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in done.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(execution, "Run", lambda *_, **__: pytest.fail("a finished run was executed again"))
        (kept,) = execute(GRID, tmp_path)
    assert (kept.status, kept.result, kept.folder) == ("kept", done.result, done.folder)
    assert {path.name: path.stat().st_mtime_ns for path in done.folder.iterdir()} == stamps
    outcomes = execute(replace(GRID, seeds=[0, 1]), tmp_path)
    assert [outcome.status for outcome in outcomes] == ["kept", "done"]


def test_unfinished_runs_are_executed(tmp_path: Path) -> None:
    (first,) = execute(GRID, tmp_path)
    (first.folder / "result.json").unlink()
    (second,) = execute(GRID, tmp_path)
    assert (second.status, second.result) == ("done", first.result)


def test_a_diverging_run_does_not_stop_the_others(tmp_path: Path) -> None:
    watcher = Watcher()
    failed, done = execute(replace(GRID, methods=["failing", "quick"]), tmp_path, watcher)
    assert (failed.status, failed.spec.method, failed.result) == ("diverged", "failing", None)
    assert isinstance(failed.error, Diverged)
    assert (done.status, done.spec.method) == ("done", "quick")
    assert ("ended", 0, "diverged") in watcher.events
    assert [record.folder for record in Store(tmp_path).results()] == [done.folder]
    (again,) = execute(replace(GRID, methods=["failing"]), tmp_path)
    assert again.status == "diverged"  # tried again, not kept


def test_a_run_after_others_equals_the_run_alone(tmp_path: Path) -> None:
    execute(replace(GRID, seeds=[1, 0]), tmp_path / "both")
    execute(GRID, tmp_path / "alone")
    (spec,) = [run.spec for run in plan_sweep(GRID)]
    for name in ("result.json", "model.safetensors", "ranks.npz"):
        both, alone = (Store(tmp_path / folder).folder(spec) / name for folder in ("both", "alone"))
        assert both.read_bytes() == alone.read_bytes(), name


def test_a_budget_too_small_fails_that_run_only(tmp_path: Path) -> None:
    failed, done = execute(replace(GRID, budgets=[Budget(0.001), Budget(0.5)]), tmp_path)
    assert (failed.status, failed.spec.budget, failed.result) == ("failed", Budget(0.001), None)
    assert isinstance(failed.error, UserError)
    assert str(failed.error) == "a budget of 0.001 is too small for one update of quick; raise --budget."
    assert (done.status, done.spec.budget) == ("done", Budget(0.5))


def test_a_failed_run_keeps_its_traceback(tmp_path: Path) -> None:
    failed, done = execute(replace(GRID, methods=["failing", "quick"]), tmp_path)
    first, *frames, last = (failed.folder / ERROR_FILE).read_text().splitlines()
    assert first == "Traceback (most recent call last):"
    assert any(line.endswith("in train") for line in frames)  # where it happened
    assert last == "ncbench.training.trainer.Diverged: the loss is nan at update 1"
    assert {path.name for path in failed.folder.iterdir()} == {"spec.json", "error.txt", "status.json"}
    assert not (done.folder / ERROR_FILE).exists()


def test_a_later_success_removes_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crashing:
        def __init__(self, *_: object, **__: object) -> None:
            raise MemoryError("not today")

    with monkeypatch.context() as patch:
        patch.setattr(execution, "Run", Crashing)
        (failed,) = execute(GRID, tmp_path)
    assert (failed.status, repr(failed.error)) == ("over-memory", "MemoryError('not today')")
    assert (failed.folder / ERROR_FILE).read_text().endswith("\nMemoryError: not today\n")
    (done,) = execute(GRID, tmp_path)
    assert (done.status, done.folder) == ("done", failed.folder)
    assert not (done.folder / ERROR_FILE).exists()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_outcome(kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def __init__(self, *_: object, **__: object) -> None:
            raise kind

    monkeypatch.setattr(execution, "Run", Interrupted)
    with pytest.raises(kind):
        execute(GRID, tmp_path)
    assert not list(tmp_path.rglob(ERROR_FILE))


def test_index_files_are_recorded_by_name_and_content(tiny: Dataset, tmp_path: Path) -> None:
    order = np.arange(24)
    order[:6] = np.roll(order[:6], 1)
    specs = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "published.npy", order)
        (run,) = plan_sweep(replace(GRID, ratios=[0.25], protocols=[f"file:{tmp_path / folder / 'published.npy'}"]))
        specs.append(run.spec)
    assert specs[0].protocol == f"file:published.npy@{specs[0].noise_digest[:8]}"
    assert specs[0] == specs[1]  # regardless of the folder
    order[:6] = np.roll(order[:6], 1)
    np.save(tmp_path / "here" / "published.npy", order)
    (run,) = plan_sweep(replace(GRID, ratios=[0.25], protocols=[f"file:{tmp_path / 'here' / 'published.npy'}"]))
    assert run.spec.protocol == f"file:published.npy@{run.noise.digest[:8]}" != specs[0].protocol


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"budgets": [Budget(1), Paper()]},
            "--budget paper: no published schedule is known for quick on tiny. Use a number, for example 40own-epochs.",
        ),
        ({"evaluations": 0}, "evaluations must be at least 1, found 0"),
        (
            {"methods": ["triplet"], "overrides": [Override("triplet", "batch_size", "1")]},
            "settings of triplet: batch_size must be at least 2, found 1.",
        ),
    ],
)
def test_grids_that_cannot_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_sweep(replace(GRID, **changes))
    assert str(caught.value) == message


def test_a_damaged_record_is_the_users_error(tmp_path: Path) -> None:
    (done,) = execute(GRID, tmp_path)
    (done.folder / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json: cannot be read as a run record"):
        execute(GRID, tmp_path)


@pytest.mark.parametrize("method", ["triplet", "l2rm"])
def test_shipped_methods_run_in_a_sweep(method: str, tmp_path: Path) -> None:
    overrides = [Override(method, "batch_size", "8")]
    if method == "l2rm":
        overrides.append(Override(method, "queue", "8"))
    (outcome,) = execute(replace(GRID, methods=[method], overrides=overrides, backbones=["saf"]), tmp_path)
    assert outcome.status == "done"


def test_tables_come_whole_one_after_another() -> None:
    runs = plan_sweep(
        replace(
            GRID,
            methods=["quick", "triplet"],
            ratios=[0.2, 0.4],
            budgets=[Budget(1), Budget(2)],
            seeds=[0, 1],
            variants=[],
        )
    )
    tables = [(run.spec.seed, run.spec.noise, run.spec.budget.amount) for run in runs]
    assert tables[::2] == tables[1::2] == [(s, n, b) for s in (0, 1) for n in (0.2, 0.4) for b in (1, 2)]
    assert [run.spec.method for run in runs[:4]] == ["quick", "triplet"] * 2


def test_a_cell_is_the_grid_of_its_run() -> None:
    wide = replace(
        GRID,
        methods=["quick", "triplet"],
        ratios=[0, 0.4],
        protocols=["shuffle-images", "shuffle-captions"],
        seeds=[0, 1],
        overrides=[Override("quick", "lr", "0.5"), Override("backbone", "embed", "8")],
        variants=[Override("triplet", "lr", "0.25")],
    )
    runs = plan_sweep(wide)
    assert len({run.spec.id for run in runs}) == len(runs) > 8
    for run in runs:
        assert run.cell is not None
        (again,) = plan_sweep(run.cell)
        assert again.spec == run.spec
