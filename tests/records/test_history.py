"""Histories: a line per dev evaluation."""

from __future__ import annotations

from pathlib import Path

from ncbench.evaluation.retrieval import Recalls
from ncbench.records.history import History, HistoryLine
from ncbench.records.record import Record
from ncbench.records.result import Scores

SIDE = Recalls(10.0, 20.0, 30.0, 4.0, 5.5)


def line(number: int, loss: float | None = None) -> HistoryLine:
    dev = Scores(SIDE, SIDE, 120.0)
    return HistoryLine(
        backbone="vse", share=number / 4, work=100 * number, updates=number, loss=loss, dev=dev, seconds=1.5 * number
    )


def test_it_grows_by_lines(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    lines = []
    for number in range(3):
        lines.append(line(number, 0.25 if number else None))
        history.add(lines[-1])
        assert Record(tmp_path).history == lines
    text = (tmp_path / "history.jsonl").read_text()
    assert text.count("\n") == 3
    assert text.startswith('{"backbone": "vse", "dev": {"i2t": {"meanr": 5.5, "medr": 4.0, "r1": 10.0, ')


def test_a_second_execution_starts_its_own(tmp_path: Path) -> None:
    History(tmp_path / "history.jsonl").add(line(1))
    History(tmp_path / "history.jsonl").add(line(2))
    assert Record(tmp_path).history == [line(2)]
