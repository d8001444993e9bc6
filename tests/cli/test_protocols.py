"""Runs with other protocols than shuffles, from training to reports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from sources import Source

from ncbench.data.dataset import Dataset

Cli = Callable[..., Result]


@pytest.fixture
def natural(register: Callable[[str, str, object], None], make_dataset: Callable[..., Dataset]) -> None:
    register("ncbench.datasets", "natural", Source(make_dataset(name="natural", truth_known=False)))


def only_record(root: Path) -> Path:
    (result,) = root.glob("*/*/*/result.json")
    return result.parent


@pytest.mark.parametrize("protocol", ["semantic", "partial", "concentrated", "harvested"])
def test_harder_noise_is_run_verified_and_replayed(toy_run: Cli, cli: Cli, tmp_path: Path, protocol: str) -> None:
    result = toy_run("--method", "ncr", "--protocol", protocol, "--noise", 0.4, "--budget", 3, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    folder = only_record(tmp_path)
    assert json.loads((folder / "result.json").read_text())["mismatched"] == 38 / 96
    assert cli("verify", folder).exit_code == 0
    replayed = cli("replay", folder)
    assert replayed.exit_code == 0, replayed.output
    assert "identical" in replayed.output


@pytest.mark.parametrize(
    ("protocol", "changes"), [("partial", {"words"}), ("harvested", {"words", "shortened", "unknown"})]
)
def test_audits_show_captions_as_the_method_saw_them(
    toy_run: Cli, cli: Cli, tmp_path: Path, tiny: Dataset, protocol: str, changes: set[str]
) -> None:
    words = ("--method", "ncr", "--protocol", protocol, "--noise", 0.4, "--budget", 3, "--out", tmp_path)
    assert toy_run(*words).exit_code == 0
    folder, table = only_record(tmp_path), tmp_path / "audit.csv"
    assert cli("audit", folder, "--out", table, "--with-truth").exit_code == 0
    true = tiny.splits["train"].captions.texts
    rows = list(csv.DictReader(table.read_text().splitlines()))
    changed = {int(row["pair"]) for row in rows if row["caption"] != true[int(row["pair"])]}
    assert changed == {int(row["pair"]) for row in rows if row["change"] in changes}
    found = {row["change"] for row in rows if row["mismatched"] == "True"}
    assert changes <= found <= {*changes, "image"}
    assert {row["change"] for row in rows if row["mismatched"] == "False"} == {""}
    (splices,) = tmp_path.rglob("*.splices.npy")
    splices.unlink()
    assert "cannot read noise file" in cli("audit", folder, "--out", table, "--force").stderr


def test_words_of_vectors_cannot_be_harvested(cli: Cli, tmp_path: Path) -> None:
    words = ("--method", "triplet", "--dataset", "scenes-vectors", "--protocol", "harvested", "--noise", 0.4)
    result = cli("run", *words, "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: noise protocol 'harvested': captions of this dataset are vectors and have no words to replace.\n"
    )


@pytest.mark.usefixtures("natural")
def test_natural_noise_is_reported_without_ground_truth(toy_run: Cli, cli: Cli, tmp_path: Path) -> None:
    words = ("--method", "ncr,triplet", "--dataset", "natural", "--noise", "natural", "--budget", 3)
    result = toy_run(*words, "--out", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    assert "natural noise (truth unknown)" in result.output
    for found in (tmp_path / "runs").glob("*/*/*/result.json"):
        record = json.loads(found.read_text())
        assert (record["mismatched"], record["beliefs"]) == (None, {})
        assert cli("verify", found.parent).exit_code == 0
        assert "identical" in cli("replay", found.parent).output
    reported = cli("report", "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--html")
    assert reported.exit_code == 0, reported.output
    page = (tmp_path / "out" / "natural" / "README.md").read_text()
    assert "natural: natural noise (truth unknown)" in page
    assert "AUC" not in page
    assert not list((tmp_path / "out").rglob("rsum*"))
    assert not list((tmp_path / "out").rglob("*beliefs*"))
