"""What commands print fits windows of all widths, and no id and no number of a wide window is lost in narrow ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import Result
from rich.cells import cell_len
from sources import Source
from toy_methods import Quick

from ncbench.cli.display import output
from ncbench.data.dataset import Dataset
from ncbench.plugins import discovery
from ncbench.records.store import Store
from ncbench.sweeps import fresh_process
from ncbench.sweeps.record import find_sweep

WIDTHS = (60, 80, 100, 120, 160, 200, 240)
DATASET = "pairs-with-a-long-name"
NUMBER = re.compile(r"(?<![\w.-])\d[\d.]*(?:e[+-]\d+)?%?(?![\w-])")
ID = re.compile(r"\b[0-9a-f]{12}\b")
COMMON = ("--dataset", DATASET, "--backbone", "vse", "--protocol", "shuffle-captions", "--budget", 0.3)
COMMON = (*COMMON, "--device", "cpu", "--launcher", "here")
GRID = (*COMMON, "--method", "quick,triplet", "--noise", "0.2,0.4", "--set", "triplet.batch_size=8")
PLANNED = (*GRID, "--seed", "0,1,2")  # those of the third seed have not run
COMMANDS = {
    "runs": ("runs",),
    "runs of a sweep": ("runs", "--sweep", "SWEEP"),
    "report": ("report",),
    "dry run": ("run", *PLANNED, "--dry-run"),
    "show": ("show", "ID"),
    "published": ("report", "--published", "f30k"),
    "published, filtered": ("report", "--published", "f30k", "--method", "ncr", "--noise", "0.2"),
    "datasets": ("data", "list"),
    "methods": ("methods", "list"),
    "protocols": ("noise", "list"),
}


class Entry:
    """An entry point of a plugin that exists in this module only."""

    value = "somewhere:Thing"

    def __init__(self, group: str, name: str, thing: object) -> None:
        self.group, self.name, self.load = group, name, lambda: thing


@pytest.fixture(scope="module")
def recorded(
    make_dataset: Callable[..., Dataset], cli: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a folder with finished runs of two seeds, a variant and a failed run, in `runs`."""
    folder = tmp_path_factory.mktemp("widths")
    source = Source(make_dataset(name=DATASET), "a dataset for tests of what is printed")
    plugins = [Entry("ncbench.datasets", DATASET, source), Entry("ncbench.methods", Quick.name, Quick)]

    def find(group: str, name: str | None = None) -> list[object]:
        wanted = {"group": group} if name is None else {"group": group, "name": name}
        mine = [plugin for plugin in plugins if plugin.group == group and name in (None, plugin.name)]
        return [*mine, *entry_points(**wanted)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "entry_points", find)
        patch.chdir(folder)
        patch.setenv("NCBENCH_CACHE", str(folder / "cache"))
        patch.setattr(fresh_process, "CAN_FORK", False)  # faster
        for change, code in (("quick.fails=true", 1), ("quick.lr=0.02", 0)):
            assert cli("run", *COMMON, "--method", "quick", "--noise", 0.2, "--set", change).exit_code == code
        assert cli("run", *GRID, "--seed", "0,1").exit_code == 0
        yield folder


def printed(cli: Callable[..., Result], patch: pytest.MonkeyPatch, words: Sequence[object], width: int) -> list[str]:
    """Return the lines that a command prints in a window of this width."""
    patch.setenv("COLUMNS", str(width))
    page = Path("leaderboards") / DATASET / "README.md"
    patch.setattr("ncbench.report.write_report", lambda *_, **__: [page])  # drawing takes seconds
    record = next(Store(Path("runs")).results())
    names = {"ID": record.folder.name, "SWEEP": find_sweep(Path("runs")).id}
    result = cli(*(names.get(str(word), word) for word in words))
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def found(pattern: re.Pattern[str], lines: Sequence[str]) -> set[str]:
    return set(pattern.findall("\n".join(lines)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_fits_all_widths(
    command: str, recorded: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = printed(cli, monkeypatch, COMMANDS[command], max(WIDTHS))
    assert len(wide) > 3
    numbers = found(NUMBER, wide)
    if command == "runs of a sweep":  # narrow windows leave out the recalls
        numbers = {line.split("│")[-2].strip() for line in wide if line.startswith("│")} - {""}
    for width in WIDTHS:
        lines = printed(cli, monkeypatch, COMMANDS[command], width)
        assert not [line for line in lines if cell_len(line.rstrip()) > width]
        assert not [line for line in lines if "…" in line]
        assert found(ID, lines) == found(ID, wide)
        assert numbers <= found(NUMBER, lines)


@pytest.mark.parametrize("command", ["runs", "show", "dry run", "report"])
def test_what_is_looked_for_is_there(
    command: str, recorded: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(cli, monkeypatch, COMMANDS[command], 240)
    ids = {record.folder.name for record in Store(Path("runs")).results()}
    if command == "runs":
        assert ids < found(ID, lines)
    if command == "show":
        assert len(found(ID, lines) & ids) == 1
    assert len(found(NUMBER, lines)) > 10


@pytest.mark.parametrize("width", WIDTHS)
def test_the_final_table_of_a_sweep(
    width: int, recorded: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(cli, monkeypatch, ("run", *GRID, "--seed", "0,1"), width)
    text = "\n".join(lines)
    assert max(map(cell_len, lines)) <= width
    assert "…" not in text
    for record in Store(Path("runs")).results():
        assert f"{record.result.metrics.test.rsum:.1f} │" in text
    assert "shuffle-captions" in text
    assert ("R@10" in text) == (width >= 120)
    assert lines[-1].strip() == "ncbench report --runs runs" or width > 70


def test_pipes_get_whole_sentences(recorded: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = cli("run", *PLANNED, "--dry-run").stdout
    assert "FLOPs include training and evaluation. Nothing was run (" in shown
    assert max(map(cell_len, shown.splitlines())) > output.PIPE_WIDTH - 60


def test_commands_to_copy_stay_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    output.say("Records are in runs. Create leaderboards with:", "ncbench report --runs a/folder --out b")
    output.say("a: a note that goes on and on, with 漢字漢字漢字 in it", indent=3)
    output.say("short", "too")
    assert capsys.readouterr().out.splitlines() == [
        "Records are in runs. Create",
        "leaderboards with:",
        "  ncbench report --runs a/folder --out b",
        "a: a note that goes on and on,",
        "   with 漢字漢字漢字 in it",
        "short too",
    ]
