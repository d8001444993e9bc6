"""The live table, on fake terminals."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from made_records import made_result
from rich.console import Console

from ncbench.budget import Budget
from ncbench.cli.display import live
from ncbench.cli.display.live import LiveTable, describe, labels_of, watch
from ncbench.cli.display.output import PIPE_WIDTH, console
from ncbench.method.registry import load_method, settings_of
from ncbench.records.progress import Progress
from ncbench.records.spec import RunSpec
from ncbench.sweeps.execution import Outcome


def spec(method: str = "triplet", seed: int = 0) -> RunSpec:
    return RunSpec(
        dataset="f30k",
        dataset_version="1",
        dataset_digest="d",
        protocol="shuffle-images",
        protocol_version="1",
        unit="images",
        noise=0.4,
        noise_digest="n",
        method=method,
        settings={},
        backbone="vse",
        sizes={},
        budget=Budget(1.0),
        evaluations=1,
        seed=seed,
    )


RESULT = made_result(spec(), (41.23, 52.3, 63.4, 7.89, 52.3, 63.4))


def screen(terminal: bool = True, width: int = 200) -> Console:
    return Console(force_terminal=terminal, color_system=None, width=width, file=StringIO(), legacy_windows=False)


def printed(table: LiveTable) -> list[list[str]]:
    """Return the cells of the current table."""
    shown = screen(width=table.console.width)
    shown.print(table.table())
    lines = shown.file.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list with the current time of a fake clock."""
    now = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def test_a_run_from_waiting_to_done(clock: list[float]) -> None:
    table = LiveTable([spec()], screen())
    names = ["f30k", "triplet", "vse", "shuffle-images", "0.4", "0"]
    assert printed(table) == [[*names, "waiting", *[""] * 10]]
    table.started(0)
    assert printed(table)[0][6] == "waiting"
    clock[0] += 60
    table.progressed(0, Progress(0.25, 0.123456, None, "training"))
    (row,) = printed(table)
    assert row[:6] == names
    assert "━" in row[6]
    assert row[7:] == ["3:00", "0.123", "", *[""] * 7]
    table.progressed(0, Progress(0.5, 0.05, 250.06, "training"))
    assert printed(table)[0][7:10] == ["1:00", "0.05", "250.1"]
    table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    recalls = ["41.2", "52.3", "63.4", "7.9", "52.3", "63.4"]
    assert printed(table) == [[*names, "done", "281.5", *recalls, "280.5"]]


def test_kept_and_failed_runs() -> None:
    table = LiveTable([spec(), spec("l2rm", 3)], screen())
    table.ended(0, Outcome(spec(), "kept", Path(), RESULT))
    table.ended(1, Outcome(spec("l2rm", 3), "failed", Path(), error=ValueError("x")))
    kept, failed = printed(table)
    assert (kept[6], kept[-1]) == ("already done", "280.5")
    assert failed == ["f30k", "l2rm", "vse", "shuffle-images", "0.4", "3", "failed", *[""] * 8]


@pytest.mark.parametrize("width", [60, 80])
def test_columns_that_matter_less_go_first(width: int) -> None:
    table = LiveTable([spec("triplet"), spec("a_method_with_a_long_name", 1)], screen(width=width))
    for index in range(2):
        table.started(index)
        table.progressed(index, Progress(0.5, 0.123456, 250.06, "training"))
    shown = screen(width=width)
    shown.print(table.table())
    text = shown.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "a_method_with_a_long_name" in text
    assert ("250.1" in text) == (width == 80)
    assert "…" not in text


@pytest.mark.parametrize(
    ("share", "elapsed", "expected"),
    [(0.0, 5.0, "?"), (0.009, 5.0, "?"), (0.5, 5.0, "0:05"), (0.01, 10.0, "16:30"), (1.0, 5.0, "0:00")],
)
def test_time_left(share: float, elapsed: float, expected: str, clock: list[float]) -> None:
    table = LiveTable([spec()], screen())
    table.started(0)
    clock[0] += elapsed
    table.progressed(0, Progress(share, None, None, "training"))
    assert printed(table)[0][7] == expected


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_rows_have_distinct_labels_on_any_terminal(width: int) -> None:
    table = LiveTable([spec(), spec("l2rm")], screen(width=width))
    table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    shown = screen(width=width)
    shown.print(table.table())
    text = shown.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for wanted in ("triplet", "l2rm", "0.4", "280.5"):
        assert wanted in text


def test_terminal_is_refreshed_a_few_times_a_second(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    table = LiveTable([spec()], screen())
    seen: list[float] = []
    monkeypatch.setattr(table.live, "refresh", lambda: seen.append(clock[0]))
    table.started(0)
    for _ in range(100):
        clock[0] += 0.01
        table.progressed(0, Progress(0.5, None, None, "training"))
    assert 2 <= len(seen) <= 1 / live.REFRESH_SECONDS
    table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    assert seen[-1] == clock[0]


def test_watch_on_a_terminal_leaves_the_last_table(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = screen()
    monkeypatch.setattr(live, "console", lambda to_stderr: shown)
    with watch([spec()], quiet=False) as table:
        table.started(0)
        table.progressed(0, Progress(0.5, 0.1, None, "training"))
        table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    text = shown.file.getvalue()
    assert "\x1b[?25l" in text  # the cursor was hidden
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and shown again
    assert "280.5" in text[text.rindex("┏") :]
    assert "[1/1]" not in text


def test_watch_restores_the_terminal_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = screen()
    monkeypatch.setattr(live, "console", lambda to_stderr: shown)
    with pytest.raises(ZeroDivisionError), watch([spec()], quiet=False):
        raise ZeroDivisionError
    text = shown.file.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


@pytest.mark.parametrize("status", ["done", "failed"])
def test_watch_without_a_terminal_prints_a_line_per_run(
    status: str, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    shown = screen(terminal=False)
    monkeypatch.setattr(live, "console", lambda to_stderr: shown)
    result, error = (RESULT, None) if status == "done" else (None, ValueError("[bold]x[/bold]"))
    with watch([spec(), spec(seed=1)], quiet=False) as table:
        table.started(0)
        clock[0] += 7
        table.ended(0, Outcome(spec(), status, Path(), result, error))  # type: ignore[arg-type]
        before = shown.file.getvalue()
    what = "test rSum 280.5" if status == "done" else "ValueError('[bold]x[/bold]')"
    assert before == f"[1/2] triplet with vse on f30k, shuffle-images 0.4, seed 0: {status}, {what}, 7 s\n"
    assert "waiting" in shown.file.getvalue()  # the table comes at the end
    assert "\x1b" not in shown.file.getvalue()


def test_watch_without_a_terminal_is_silent_about_kept_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = screen(terminal=False)
    monkeypatch.setattr(live, "console", lambda to_stderr: shown)
    with watch([spec()], quiet=False) as table:
        table.started(0)
        table.ended(0, Outcome(spec(), "kept", Path(), RESULT))
        assert shown.file.getvalue() == ""
    assert "already done" in shown.file.getvalue()


def test_clean_runs_in_words() -> None:
    assert describe(spec()) == "triplet with vse on f30k, shuffle-images 0.4, seed 0"
    assert (
        describe(replace(spec(seed=3), protocol="clean", noise=0.0)) == "triplet with vse on f30k, clean pairs, seed 3"
    )


@pytest.mark.parametrize("quiet", [True, False])
def test_watch_writes_where_it_should(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with watch([spec()], quiet=quiet) as table:
        table.started(0)
        table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    out, err = capsys.readouterr()
    told, silent = (err, out) if quiet else (out, err)
    assert silent == ""
    assert told.startswith("[1/1] ")


def test_console_of_a_pipe_is_wide() -> None:
    assert console().width == console(to_stderr=True).width == PIPE_WIDTH
    assert console(to_stderr=True).stderr


def test_labels_are_the_differences_between_runs_of_a_method() -> None:
    plain = replace(spec(), settings={"lr": 0.1, "reg": 1})
    other, longer = replace(plain, settings={"lr": 0.2, "reg": 1}), replace(plain, budget=Budget(9.0))
    elsewhere = replace(plain, method="l2rm", settings={"lr": 7}, seed=3, noise=0.2)
    assert labels_of([plain, elsewhere, replace(plain, seed=1)]) == ["", "", ""]
    assert labels_of([plain, other]) == ["lr=0.1", "lr=0.2"]
    assert labels_of([plain, longer]) == ["budget 1", "budget 9"]
    assert labels_of([plain, replace(plain, budget=Budget(1.0, "seconds"))]) == ["budget 1", "budget 1 s"]
    assert [row[1] for row in printed(LiveTable([plain, other], screen()))] == ["triplet (lr=0.1)", "triplet (lr=0.2)"]
    assert describe(other, "lr=0.2").startswith("triplet (lr=0.2) with vse on ")


@pytest.mark.parametrize("width", [60, 80, 120, 200, 240])
def test_resumed_runs_say_so(width: int, clock: list[float]) -> None:
    table = LiveTable([spec(), spec("ncr")], screen(width=width))
    assert "resumed" not in str(printed(table))
    table.started(0)
    table.progressed(0, Progress(0.5, None, None, "epoch 2", resumed_at=0.4))
    clock[0] += 10
    (row, _) = printed(table)
    assert "40%" in row
    if width >= 80:
        assert "0:50" in row  # a tenth took ten seconds
    table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    assert "40%" in printed(table)[0]


def test_lines_without_a_terminal_say_where_a_run_resumed(clock: list[float]) -> None:
    table = LiveTable([spec()], screen(terminal=False))
    table.started(0)
    table.progressed(0, Progress(0.5, None, None, "epoch 2", resumed_at=0.4))
    table.ended(0, Outcome(spec(), "done", Path(), RESULT))
    assert table.console.file.getvalue().endswith(": done, resumed at 40%, test rSum 280.5, 0 s\n")  # type: ignore[attr-defined]


def test_runs_of_a_preset_have_no_label() -> None:
    preset = replace(spec("l2rm"), settings=settings_of(load_method("l2rm"), "f30k"))
    changed = replace(preset, settings={**preset.settings, "mass": 1.0})
    assert labels_of([preset, changed]) == ["", "mass=1.0"]
    assert labels_of([replace(preset, source="d"), replace(changed, source="d")]) == ["mass=0.1", "mass=1.0"]


def test_narrow_tables_stack_the_names_of_runs(clock: list[float]) -> None:
    specs = [spec(), replace(spec("l2rm"), protocol="shuffle-captions", noise=0.2, seed=12)]
    table = LiveTable(specs, screen(width=60))
    table.started(1)
    table.progressed(1, Progress(0.5, None, None, "epoch 2", resumed_at=0.4))
    table.ended(1, Outcome(specs[1], "done", Path(), RESULT))
    rows = printed(table)
    assert " ".join(row[0] for row in rows[2:]) == "l2rm shuffle-captions, noise 0.2, seed 12, resumed at 40%"
    assert rows[2][0] == "l2rm"
    assert (rows[2][1], rows[2][-1]) == ("done", "280.5")
