"""Training curves: reading histories, and the figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ncbench import UserError
from ncbench.evaluation.beliefs import Detection
from ncbench.evaluation.retrieval import Recalls
from ncbench.records.history import History, HistoryLine
from ncbench.records.result import Scores
from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures import training_curves
from ncbench.report.figures.looks import line_looks
from ncbench.report.figures.training_curves import draw_training_curves, has_training_curves, load_training_curves
from ncbench.report.tables.leaderboard import leaderboards

Record = Callable[..., Path]
SIDE = Recalls(10.0, 20.0, 30.0, 4.0, 5.5)
EPOCH = 250  # FLOPs: records made by hand have a budget of 1000 for four


def tell(folder: Path, *points: tuple[float, float], member: str = "sgr") -> None:
    """Add lines to the history of a run: work in FLOPs, dev rSum."""
    path = folder / "history.jsonl"
    history = History(path)
    history.lines = path.read_text().splitlines() if path.exists() else []
    for work, rsum in points:
        dev, share = Scores(SIDE, SIDE, rsum), min(1.0, work / 1000)
        line = HistoryLine(
            backbone=member, share=share, work=round(work), updates=round(work), loss=None, dev=dev, seconds=1.0
        )
        history.add(line)


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a function that draws the curves in tmp_path and returns matplotlib's Figure."""
    seen: list[Any] = []
    monkeypatch.setattr(training_curves, "save", lambda figure, *_: seen.append(figure))

    def drawn() -> Any:
        draw_training_curves(load_runs(tmp_path), load_training_curves([tmp_path]), tmp_path / "figure")
        return seen[-1]

    return drawn


def lines(panel: Any) -> dict[str, list[tuple[float, float]]]:
    return {
        line.get_label(): [(round(float(x), 6), round(float(y), 6)) for x, y in line.get_xydata()]
        for line in panel.get_lines()
    }


def test_a_row_per_evaluation(record: Record, tmp_path: Path) -> None:
    first, second = record(), record(seed=1, backbone="sgraf")
    record(seed=2)  # without a history
    tell(first, (100, 50), (200, 60.5))
    tell(second, (10, 1), (20, 2))
    tell(second, (11, 3), member="saf")
    frame = load_training_curves([tmp_path])
    columns = ["member", "evaluation", "work", "dev_rsum"]
    found = {name: rows[columns].to_numpy().tolist() for name, rows in frame.groupby("id")}
    assert found == {
        first.name: [["sgr", 0, 100.0, 50.0], ["sgr", 1, 200.0, 60.5]],
        second.name: [["sgr", 0, 10.0, 1.0], ["sgr", 1, 20.0, 2.0], ["saf", 0, 11.0, 3.0]],
    }


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b"{}",
        b'{"backbone": "sgr", "work": 1, "dev": 7}',
        b'{"backbone": "sgr", "work": NaN, "dev": {"rsum": 1}}',
        b'{"backbone": "sgr", "work": -1, "dev": {"rsum": 1}}',
        b'{"backbone": "sgr", "work": 1, "dev": {"rsum": 1e999}}',
        b'{"backbone": "sgr", "work": null, "dev": {"rsum": 1}}',
    ],
)
def test_a_damaged_history_is_the_users_error(content: bytes, record: Record, tmp_path: Path) -> None:
    path = record() / "history.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_training_curves([tmp_path])
    assert str(caught.value).startswith(str(path))
    assert "history" in str(caught.value)


def test_beliefs_have_curves_of_their_own(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = record()
    tell(first, (100, 50), (200, 60.5))
    frame, curves = load_runs(tmp_path), load_training_curves([tmp_path])
    assert not any(has_training_curves(frame, curves, name) for name in ("auc", "calibration_error", "rematched"))
    path = first / "history.jsonl"
    lines_of = [json.loads(line) for line in path.read_text().splitlines()]
    lines_of[1]["detection"] = asdict(Detection(0.9, None, None, 0.1, 4, 10))
    lines_of[1]["plan"] = {"true": 0.5, "closer": 0.2, "even": 0.1}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines_of))
    curves = load_training_curves([tmp_path])
    assert curves["auc"].tolist()[1] == 0.9
    assert curves["calibration_error"].tolist()[1] == 0.1
    assert curves["rematched"].tolist()[1] == pytest.approx(0.7)
    assert curves["auc"].isna().tolist() == [True, False]
    seen: list[Any] = []
    monkeypatch.setattr(training_curves, "save", lambda figure, *_: seen.append(figure))
    assert has_training_curves(frame, curves, "auc")
    draw_training_curves(frame, curves, tmp_path / "figure", "auc")
    (panel,) = seen[0].axes
    assert list(lines(panel).values()) == [[(pytest.approx(200 / EPOCH, abs=1e-5), 0.9)]]
    assert seen[0].get_supylabel() == "AUC of P(clean)"


def test_lines_are_means_at_mean_work_in_epochs(record: Record, draw: Callable[[], Any]) -> None:
    tell(record(), (EPOCH, 100), (4 * EPOCH, 200))
    tell(record(seed=1), (1.5 * EPOCH, 120), (4 * EPOCH, 200))
    tell(record(method="l2rm"), (2 * EPOCH, 70))
    (panel,) = draw().axes
    assert lines(panel) == {"triplet": [(1.25, 110.0), (4.0, 200.0)], "l2rm": [(2.0, 70.0)]}
    band = panel.collections[1]  # two lines have bands; names are in order: l2rm, triplet
    corners = {(round(x, 3), round(y, 3)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(1.25, 95.858), (1.25, 124.142), (4.0, 200.0)}


def test_a_panel_per_ratio_and_protocol(record: Record, draw: Callable[[], Any]) -> None:
    for number, noise in enumerate((0.6, 0.2, 0.4)):
        tell(record(noise=noise), (EPOCH, 10.0 * number))
    tell(record(noise=0.2, protocol="shuffle-captions", unit="captions"), (EPOCH, 7.0))
    tell(record(noise=0.0, protocol="clean", unit="clean"), (EPOCH, 9.0))
    record(noise=0.8)  # nothing to draw: no panel
    shown = [panel for panel in draw().axes if panel.get_visible()]
    assert [(panel.get_title(loc="left"), lines(panel)["triplet"][0][1]) for panel in shown] == [
        ("clean pairs", 9.0),
        ("shuffle-captions 0.2", 7.0),
        ("shuffle-images 0.2", 10.0),
        ("shuffle-images 0.4", 20.0),
        ("shuffle-images 0.6", 0.0),
    ]
    figure = shown[0].figure
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        "training work (baseline epochs)",
        "rSum on dev (of 600)",
    )
    assert len({panel.get_ylim() for panel in shown}) == 1
    assert all(panel.get_ylim()[0] == panel.get_xlim()[0] == 0 for panel in shown)


def test_looks_and_names_are_those_of_the_whole_page(record: Record, draw: Callable[[], Any]) -> None:
    record(method="a")  # without a history, but with a colour
    tell(record(method="c"), (EPOCH, 10))
    tell(record(method="b", noise=0.6), (EPOCH, 10))
    figure = draw()
    looks = {line.get_label(): line.get_color() for panel in figure.axes for line in panel.get_lines()}
    expected = line_looks("abc")
    assert looks == {"b": expected["b"].colour, "c": expected["c"].colour}
    assert figure.legends == []
    assert [[t.get_text() for t in panel.texts if t.get_text()] for panel in figure.axes[:2]] == [["c"], ["b"]]


def test_members_of_an_ensemble_have_lines_of_their_own(record: Record, draw: Callable[[], Any]) -> None:
    folder = record(backbone="sgraf")
    tell(folder, (EPOCH, 10), (2 * EPOCH, 20))
    tell(folder, (EPOCH, 15), member="saf")
    tell(record(), (EPOCH, 5))
    (panel,) = draw().axes
    assert lines(panel) == {
        "triplet, sgr": [(1.0, 5.0)],
        "triplet, sgraf: sgr": [(1.0, 10.0), (2.0, 20.0)],
        "triplet, sgraf: saf": [(1.0, 15.0)],
    }
    one, other = (line for line in panel.get_lines() if "sgraf" in line.get_label())
    assert one.get_color() == other.get_color()
    assert one.get_marker() == other.get_marker()
    assert one.get_markerfacecolor() != other.get_markerfacecolor()


def test_reports_have_it_where_there_are_histories(record: Record, tmp_path: Path) -> None:
    tell(record(), (EPOCH, 10), (2 * EPOCH, 20))
    record(dataset="other")
    frame, curves = load_runs(tmp_path), load_training_curves([tmp_path])
    assert has_training_curves(frame, curves)
    assert not has_training_curves(frame[frame["dataset"] == "other"], curves)
    first, second = (write_report(leaderboards(frame), tmp_path / name, lambda: curves) for name in ("a", "b"))
    assert [path.name for path in first if "curves" in path.name] == ["training-curves.svg", "training-curves.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert (
        "![Dev rSum against training work](<figures/training-curves.svg>)\n"
        in (tmp_path / "a/toy/README.md").read_text()
    )
    assert "curves" not in (tmp_path / "a/other/README.md").read_text()
    assert not any("curves" in path.name for path in write_report(leaderboards(frame), tmp_path / "c"))


@pytest.mark.parametrize("name", ["<script>", "$x_1$"])
def test_hostile_names(name: str, record: Record, tmp_path: Path) -> None:
    tell(record(method="odd"), (EPOCH, 10))
    frame = load_runs(tmp_path).assign(variant=name, protocol=name)
    svg, _ = draw_training_curves(frame, load_training_curves([tmp_path]), tmp_path / "odd")
    text = svg.read_text()
    assert "<script>" not in text
    assert text.count(f">{name}<".replace("<script>", "&lt;script&gt;")) == 1  # the label; the title says 0.4 too
    assert f"{name} 0.4".replace("<script>", "&lt;script&gt;") in text
