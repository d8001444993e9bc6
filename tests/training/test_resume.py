"""Runs that are broken off anywhere and begun again end in the same record, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interruptions import ALWAYS, NEVER, ByEpochs, Killed, killed_at, record
from runs import prepare_run
from toy_methods import Toy

from ncbench import UserError
from ncbench.data.dataset import Dataset
from ncbench.method.registry import GROUP, load_method
from ncbench.plugins.discovery import plugin_names
from ncbench.records.store import CHECKPOINT
from ncbench.training import run
from ncbench.training.run import Cadence, Run

EVALUATIONS = 4  # three of dev, and the test

SETTINGS: dict[str, dict[str, object]] = {
    **{name: {"batch_size": 8, "warmup": 0.4} for name in ("triplet", "oracle", "decl", "ncr", "bicro")},
    **{name: {"batch_size": 8} for name in ("infonce", "rce", "rcl", "gsc", "crcl", "rince", "gce", "coteaching")},
    "l2rm": {"batch_size": 8, "queue": 12, "warmup": 0.4, "reg": 0.07},
    "mscn": {"batch_size": 8, "warmup_batch": 8, "meta_batch": 4, "warmup": 0.4},
}


def carry_through(make: Callable[..., Run], kills: list[int]) -> int:
    """Run until done, killed at so many pieces of progress of each attempt; return how often it was killed."""
    for count, kill in enumerate([*kills, 10**9]):
        torch.manual_seed(1000 + count)  # what a new process might begin with
        np.random.seed(1000 + count)
        try:
            make(on_progress=killed_at(kill)).execute()
        except Killed:
            continue
        return count
    raise AssertionError("unreachable")


@pytest.mark.parametrize("name", [*plugin_names(GROUP), "by-epochs"])
def test_any_method_killed_anywhere_ends_in_the_same_record(name: str, with_dropout: Dataset, tmp_path: Path) -> None:
    kind = ByEpochs if name == "by-epochs" else load_method(name)

    def make(folder: str, cadence: Cadence, **changes: Any) -> Run:
        settings = SETTINGS.get(name, {})
        return prepare_run(
            with_dropout, tmp_path / folder, kind, "saf", budget=3.0, settings=settings, cadence=cadence, **changes
        )

    assert carry_through(lambda **changes: make("whole", NEVER, **changes), []) == 0
    broken = carry_through(lambda **changes: make("broken", ALWAYS, **changes), [1, 3, 7, 2, 5, 4])
    assert broken >= 3
    assert record(tmp_path / "broken") == record(tmp_path / "whole")


def test_both_members_of_an_ensemble_go_on(with_dropout: Dataset, tmp_path: Path) -> None:
    def make(folder: str, cadence: Cadence, **changes: Any) -> Run:
        return prepare_run(
            with_dropout, tmp_path / folder, load_method("l2rm"), "sgraf", budget=1.5, cadence=cadence, **changes
        )

    carry_through(lambda **changes: make("whole", NEVER, **changes), [])
    told: list[str] = []
    make("told", NEVER, on_progress=lambda progress: told.append(progress.doing)).execute()
    half = len(told) // 2
    assert carry_through(lambda **changes: make("broken", ALWAYS, **changes), [3, half - 4, 3, 6, 2]) == 5
    assert record(tmp_path / "broken") == record(tmp_path / "whole")


def test_killed_while_it_tests(with_dropout: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(folder: str) -> Run:
        return prepare_run(with_dropout, tmp_path / folder, load_method("triplet"), cadence=ALWAYS)

    make("whole").execute()

    def kill(*given: Any) -> None:
        raise Killed

    for function in ("training.result.judge", "records.scored.outcome_of", "training.run.to_safetensors"):
        with monkeypatch.context() as patch:
            patch.setattr(f"ncbench.{function}", kill)
            patch.setattr(load_method("triplet"), "pair_scores", lambda self: np.ones(48))
            with pytest.raises(Killed):
                make("broken").execute()
    make("broken").execute()
    found, expected = record(tmp_path / "broken"), record(tmp_path / "whole")
    for line in found["history"]:
        line.pop("detection", None)  # of the beliefs that it had when it was killed
    assert found == expected


def test_what_is_done_is_not_done_again(with_dropout: Dataset, tmp_path: Path) -> None:
    """A run that goes on takes up its clock and its budget where they were."""
    first = prepare_run(with_dropout, tmp_path, load_method("triplet"), cadence=ALWAYS, on_progress=killed_at(9))
    with pytest.raises(Killed):
        first.execute()
    first.clock.seconds["training"] = 0
    shares: list[float] = []
    second = prepare_run(
        with_dropout, tmp_path, load_method("triplet"), cadence=ALWAYS, on_progress=lambda p: shares.append(p.share)
    )
    second.execute()
    assert shares[0] > 0.5
    assert second.clock.seconds["checkpoints"] > 0


def test_checkpoints_keep_their_distance(
    with_dropout: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(run, "write_snapshot", lambda folder, number, state: written.append(number))
    result = prepare_run(with_dropout, tmp_path / "0", load_method("triplet"), cadence=ALWAYS).execute()
    updates = result.work.updates
    assert len(written) > updates  # after each, and after each epoch
    assert written == sorted(set(written))  # none replaces another
    for cadence, expected in ((NEVER, 0), (Cadence(epoch=0.0, midway=1e9), updates // 6 + EVALUATIONS)):
        written.clear()
        prepare_run(with_dropout, tmp_path / str(expected), load_method("triplet"), cadence=cadence).execute()
        assert len(written) == expected


def test_a_damaged_checkpoint_is_passed_over(with_dropout: Dataset, tmp_path: Path) -> None:
    prepare_run(with_dropout, tmp_path / "whole", load_method("triplet"), cadence=NEVER).execute()
    with pytest.raises(Killed):
        prepare_run(
            with_dropout, tmp_path / "broken", load_method("triplet"), cadence=ALWAYS, on_progress=killed_at(8)
        ).execute()
    latest = max((tmp_path / "broken" / CHECKPOINT).glob("*.safetensors"))
    latest.write_bytes(latest.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="its tensors differ from what was written; using the snapshot before it"):
        prepare_run(with_dropout, tmp_path / "broken", load_method("triplet"), cadence=ALWAYS).execute()
    assert record(tmp_path / "broken") == record(tmp_path / "whole")


def test_the_checkpoint_of_another_version_is_refused_and_kept(with_dropout: Dataset, tmp_path: Path) -> None:
    class Newer(Toy):
        def setup(self, task: Any) -> None:
            super().setup(task)
            self.queue = 7

    with pytest.raises(Killed):
        prepare_run(with_dropout, tmp_path, Toy, cadence=ALWAYS, on_progress=killed_at(20), budget=9.0).execute()
    before = sorted(path.name for path in (tmp_path / CHECKPOINT).iterdir())
    assert before
    message = r"checkpoint: does not fit this version of toy \('the state of toy differs in queue'\); resume with"
    with pytest.raises(UserError, match=message):
        prepare_run(with_dropout, tmp_path, Newer, cadence=ALWAYS, budget=9.0).execute()
    assert sorted(path.name for path in (tmp_path / CHECKPOINT).iterdir()) == before


def test_the_record_says_nothing_of_the_break(with_dropout: Dataset, tmp_path: Path) -> None:
    prepare_run(with_dropout, tmp_path, load_method("triplet"), cadence=ALWAYS).execute()
    assert "checkpoint" not in json.dumps(json.loads((tmp_path / "result.json").read_text()))
