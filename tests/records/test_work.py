"""Numbers of work that contradict each other, and a second count that is above the first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import prepare_run
from toy_methods import Toy

from ncbench.data.dataset import Dataset
from ncbench.records.measurements import Audited, Measurements
from ncbench.records.record import HISTORY_FILE, MEASUREMENTS_FILE, RESULT_FILE, Record
from ncbench.records.work import unusually_slow, work_problems

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tiny: Dataset, tmp_path: Path) -> Path:
    prepare_run(tiny, tmp_path, Toy, budget=4.0, evaluations=2).execute()
    return tmp_path


def change(path: Path, edit: Change) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_run_is_consistent_and_was_watched(folder: Path) -> None:
    record = Record(folder)
    assert list(work_problems(record)) == []
    audited = record.measurements.audited  # type: ignore[union-attr]
    assert audited is not None
    assert 1 <= audited.updates <= record.result.work.updates
    assert 0 < audited.charged <= record.result.work.used
    assert 0.3 < audited.counted / audited.charged <= audited.most


RESULTS: dict[str, Change] = {
    "updates encoded 1 captions with gradients": lambda work: work.update(samples=1),
    "updates computed 0 similarities": lambda work: work.update(pair_passes=0),
    "captions were encoded with 7 FLOPs": lambda work: work.update(used=7),
}


@pytest.mark.parametrize("words", RESULTS)
def test_counts_that_contradict_each_other(words: str, folder: Path) -> None:
    change(folder / RESULT_FILE, lambda content: RESULTS[words](content["work"]))
    assert any(words in problem for problem in work_problems(Record(folder)))


MEASURED: dict[str, Change] = {
    "are more than any such device computes": lambda found: found["seconds"].update(training=1e-12),
    "of it outside of networks": lambda found: found.update(outside={"mixture": 1e9}),
    "history.jsonl ends after": lambda found: found["seconds"].update(training=1e-3),
    "were watched, of": lambda found: found["audited"].update(updates=10**6),
    "updates was watched": lambda found: found["audited"].update(updates=0, charged=0, counted=0),
    "torch may count 9 times": lambda found: found["audited"].update(most=9),
    "torch counted 1e+30 FLOPs, but": lambda found: found["audited"].update(counted=10**30),
}


@pytest.mark.parametrize("words", MEASURED)
def test_measurements_that_contradict_the_work(words: str, folder: Path) -> None:
    change(folder / MEASUREMENTS_FILE, MEASURED[words])
    assert [problem for problem in work_problems(Record(folder)) if words in problem], list(
        work_problems(Record(folder))
    )


@pytest.mark.parametrize("what", ["share", "work", "updates", "seconds"])
def test_a_history_that_falls(what: str, folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / HISTORY_FILE).read_text().splitlines()]
    lines[0][what] = lines[-1][what] + (1 if what != "share" else 0)
    lines[-1][what] = 0
    (folder / HISTORY_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    problems = list(work_problems(Record(folder)))
    assert f"the {what} of vse falls in history.jsonl" in problems
    if what in ("share", "work"):
        assert any("of the budget" in problem for problem in problems)


def test_records_without_a_second_count_are_read(folder: Path) -> None:
    change(folder / MEASUREMENTS_FILE, lambda content: content.pop("audited"))
    assert list(work_problems(Record(folder))) == []


def test_counts_add_up() -> None:
    one, two = Audited(updates=1, charged=10, counted=11, most=1.25), Audited(updates=2, charged=5, counted=4, most=1.5)
    assert one + two == Audited(updates=3, charged=15, counted=15, most=1.5)
    found = Measurements.from_dict({"seconds": {"training": 1, "evaluation": 1}, "audited": {"updates": 1}})
    assert found.audited == Audited(updates=1)


def test_runs_that_take_unusually_long(tiny: Dataset, tmp_path: Path) -> None:
    folders = []
    for name, seconds in (("a", 1.0), ("b", 1.2), ("c", 9.0)):
        kind = type(name.upper(), (Toy,), {"name": name})
        folder = tmp_path / name
        prepare_run(tiny, folder, kind, budget=2.0).execute()
        change(folder / MEASUREMENTS_FILE, lambda found, s=seconds: found["seconds"].update(training=s))
        folders.append(folder)
    found = unusually_slow(map(Record, folders))
    assert list(found) == [folders[2]]
    assert found[folders[2]].startswith("takes 8 times as long per FLOP as runs of other methods")
    change(folders[2] / MEASUREMENTS_FILE, lambda content: content.update(outside={"mixture fits": 8.0}))
    assert unusually_slow(map(Record, folders)) == {}
