"""`ncbench audit`: its output, invalid input, and unchanged records."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from painted import Painted
from sources import Source

from ncbench import Method, Optimiser, Rematches, Task, losses, setting
from ncbench.data.dataset import Dataset
from ncbench.records.record import Record

Call = Callable[..., Result]


class Judge(Method):
    """Believes of pair p that it is clean with probability p / pairs, told one pair, and rematches the first two."""

    name = "judge"

    @dataclass(frozen=True)
    class Config:
        told: int = setting(1, "clean pairs", "here")

    def setup(self, task: Task) -> None:
        self.task, self.net = task, task.new_backbone()
        self.optimiser = Optimiser([self.net], task.budget, lr=1e-2)

    def clean_pairs_needed(self, pairs: int) -> int:
        return self.config.told

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.task.data.batches(8, self.task.rng(str(epoch))):
            loss = losses.hinge_mean(self.net(*batch.inputs), 0.2)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}

    def pair_scores(self) -> np.ndarray:
        return np.arange(len(self.task.data)) / len(self.task.data)

    def rematches(self) -> Rematches:
        return Rematches(np.array([0, 1]), np.array([3, 4]), np.array([0.5, 0.25]))


@pytest.fixture
def painted(make_dataset: Callable[..., Dataset], register: Callable[..., None]) -> Source:
    """Register the method `judge` and a dataset `painted` with pictures; return its source."""
    source = Source(make_dataset(name="painted", pictures=Painted()))
    register("ncbench.datasets", "painted", source)
    register("ncbench.methods", "judge", Judge)
    return source


@pytest.fixture
def run(painted: Source, toy_run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a recorded run of `judge` on `painted`, seen from another folder to work in."""
    result = toy_run("--dataset", "painted", "--method", "judge", "--noise", 0.4)
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs/painted/judge").iterdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def refused(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {message}\n")


def test_a_table_in_the_working_directory(run: Path, cli: Call, snapshot: Callable[[Path], Any]) -> None:
    before = snapshot(run.parents[2])
    result = cli("audit", run)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"24 of 48 pairs are more likely mismatched than not\nwrote audit-{run.name}.csv (48 rows)\n"
    )
    assert [path.name for path in Path().iterdir()] == [f"audit-{run.name}.csv"]
    rows = read(Path(f"audit-{run.name}.csv"))
    assert sorted(int(row["pair"]) for row in rows) == list(range(48))
    certain = [float(row["p_mismatched"]) for row in rows]
    assert certain == sorted(certain, reverse=True)
    found = Record(run).beliefs.rematches
    heaviest = int(np.argmax(found.weights))
    assert int(rows[0]["pair"]) == found.captions[heaviest]
    assert (int(rows[0]["rematched_image"]), rows[0]["weight"]) == (found.images[heaviest], "0.500000")
    assert rows[0]["p_mismatched"] == "1.000000"
    assert sum(row["told_clean"] == "True" for row in rows) == 1
    assert snapshot(run.parents[2]) == before


def test_out_top_and_truth(run: Path, cli: Call) -> None:
    result = cli("audit", run, "--out", "deep/a.csv", "--top", 1, "--with-truth")
    assert result.stdout.splitlines()[1:] == ["wrote deep/a.csv (1 row)"]
    (row,) = read(Path("deep/a.csv"))
    assert row["mismatched"] in ("True", "False")
    assert cli("audit", run, "--out", "b.csv", "--top", 7).exit_code == 0
    assert len(read(Path("b.csv"))) == 7
    assert "mismatched" not in read(Path("b.csv"))[0]


def test_nothing_is_written_over_unasked(run: Path, cli: Call) -> None:
    files = [Path(name) for name in ("a.csv", "f.svg", "f.png")]
    for file in files:
        file.write_text("mine")
        words = ("audit", run, "--out", "a.csv", "--figure", "f", "--pictures", "p")
        refused(cli(*words), f"{file} already exists; choose another path, or overwrite it with --force.")
        assert [path.read_text() for path in Path().iterdir()] == ["mine"]
        file.unlink()
    for file in files:
        file.write_text("mine")
    assert cli(*words, "--force").exit_code == 0
    assert all(file.read_bytes() != b"mine" for file in files)


def test_pictures_of_the_first_rows(run: Path, cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("ncbench.cli.audit"), "DEFAULT_PICTURES", 2)
    result = cli("audit", run, "--pictures", "p", "--out", "a.csv")
    assert result.stdout.splitlines()[1] == "wrote a.csv (48 rows)"
    rows = read(Path("a.csv"))
    rematched = [int(row["rematched_image"]) for row in rows[:2]]
    assert [row["rematched_picture"] for row in rows[:3]] == [*(f"p/image-{n:06}.png" for n in rematched), ""]
    assert [bool(row["claimed_picture"]) for row in rows] == [True] * 2 + [False] * 46
    named = {row[f"{kind}_picture"] for row in rows for kind in ("claimed", "rematched")} - {""}
    assert {f"p/{path.name}" for path in Path("p").iterdir()} == named
    assert result.stdout.splitlines()[2:] == [f"wrote {len(named)} images to p"]
    cli("audit", run, "--pictures", "q", "--out", "b.csv", "--top", 5)
    assert [bool(row["claimed_picture"]) for row in read(Path("b.csv"))] == [True] * 5


def test_pictures_that_exist_are_kept_unless_forced(run: Path, cli: Call) -> None:
    words = ("audit", run, "--pictures", "p", "--out", "a.csv")
    Path("p").mkdir()
    Path("p/image-000003.png").write_bytes(b"mine")
    message = "p/image-000003.png already exists; choose another path, or overwrite it with --force."
    refused(cli(*words), message)
    assert not Path("a.csv").exists()
    assert cli(*words, "--force").exit_code == 0
    assert Path("p/image-000003.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_is_of_pairs_that_were_not_told(run: Path, cli: Call) -> None:
    result = cli("audit", run, "--figure", "some/f.x")
    assert result.stdout.splitlines()[2:] == ["wrote some/f.x.svg", "wrote some/f.x.png"]
    judged = json.loads((run / "result.json").read_text())["beliefs"]["detection"]
    words = re.findall(r"<text [^>]*>([^<]*)</text>", Path("some/f.x.svg").read_text())
    assert {
        f"AUC {judged['auc']:.3f}",
        f"calibration error {judged['calibration_error']:.3f}",
        "judge on painted, shuffle-images 0.4, vse, seed 0",
    } <= set(words)
    assert judged["pairs"] == 47
    first = Path("some/f.x.svg").read_bytes()
    cli("audit", run, "--figure", "some/f.x", "--force")
    assert Path("some/f.x.svg").read_bytes() == first


def test_as_json(run: Path, cli: Call, strict_json: Callable[[str], Any]) -> None:
    result = cli("audit", run, "--out", "a.csv", "--top", 1, "--pictures", "p", "--figure", "f", "--json")
    (row,) = read(Path("a.csv"))
    images = sorted([row["claimed_picture"], row["rematched_picture"]])
    written = ["a.csv", "f.svg", "f.png", *images]
    assert strict_json(result.stdout) == {"written": written, "rows": 1, "pairs": 48, "flagged": 24}


def test_the_data_are_read_below_a_root(run: Path, painted: Source, cli: Call, tmp_path: Path) -> None:
    assert cli("audit", run, "--data-root", tmp_path).exit_code == 0
    assert painted.roots[-1] == tmp_path


def test_clean_pairs_are_called_so(painted: Source, toy_run: Call, cli: Call, tmp_path: Path) -> None:
    assert toy_run("--dataset", "painted", "--method", "judge", "--noise", 0).exit_code == 0
    (folder,) = (tmp_path / "runs/painted/judge").iterdir()
    assert cli("audit", folder, "--out", tmp_path / "a.csv", "--figure", tmp_path / "f").exit_code == 0
    text = (tmp_path / "f.svg").read_text()
    assert "judge on painted, clean pairs, vse, seed 0" in text
    assert "no AUC, pairs of one kind" in text


@pytest.mark.parametrize("option", [("--with-truth",), ("--figure", "f")])
def test_without_ground_truth(
    option: tuple[str, ...], run: Path, painted: Source, make_dataset: Callable[..., Dataset], cli: Call
) -> None:
    painted.dataset = make_dataset(name="painted", truth_known=False)
    result = cli("audit", run, *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "painted has no ground truth" in result.stderr
    assert list(Path().iterdir()) == []


def test_datasets_without_pictures(run: Path, painted: Source, make_dataset: Callable[..., Dataset], cli: Call) -> None:
    painted.dataset = make_dataset(name="painted")
    message = "painted has features, but no pictures; leave out --pictures."
    refused(cli("audit", run, "--pictures", "p"), message)
    assert list(Path().iterdir()) == []


def test_methods_that_do_not_judge(toy_run: Call, cli: Call, tmp_path: Path) -> None:
    assert toy_run("--method", "quick", "--noise", 0.4).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/quick").iterdir()
    result = cli("audit", folder)
    assert result.exit_code == 2
    assert f"{folder}: quick stated no probability that pairs are mismatched" in result.stderr


def test_older_records(run: Path, cli: Call) -> None:
    (run / "beliefs.npz").unlink()
    result = cli("audit", run)
    assert result.exit_code == 2
    assert f"{run}: beliefs.npz is missing" in result.stderr


def test_other_data(run: Path, painted: Source, make_dataset: Callable[..., Dataset], cli: Call) -> None:
    painted.dataset = make_dataset(name="painted", version="2")
    result = cli("audit", run)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {run}: the run used painted version 1 (dddddddddddd), found version 2 (")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch",), "Directory 'nosuch' does not exist."),
        ((".",), ". is not a finished run; give a folder that has a result.json."),
        ((".", "--top", "0"), "Invalid value for '--top': 0 is not in the range x>=1."),
        ((".", "--out", "."), "Invalid value for '--out': File '.' is a directory."),
        ((), "Missing argument 'RUN'."),
    ],
)
def test_mistakes(
    words: tuple[str, ...], said: str, cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("audit", *words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(said)
    assert len(result.stderr.splitlines()) == 1
