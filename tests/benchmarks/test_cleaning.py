"""Measuring how well planted pairs are found, on a tiny dataset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clean_inputs import judged, planted, write_vectors
from clean_inputs import main as clean_inputs
from cleaning import PROTOCOLS, facts_of, main
from click.testing import CliRunner
from rows import WORDS, make_rows, write_parquet

from ncbench.cleaning.calibration import Ratio
from ncbench.cleaning.findings import Opinion
from ncbench.noise.registry import protocol_names


def test_precision_and_recall_are_those_of_the_estimated_ratio() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.1, 0.0])
    opinion = Opinion(-p, p, Ratio(0.4, 0.3, 0.5), 0.9)
    found = facts_of(opinion, np.array([False, True, False, True, True]), 2.0)
    assert (found["precision"], found["recall"], found["estimate"]) == (0.5, 0.5, 0.4)
    assert found["auc"] == pytest.approx(5 / 6)
    assert found["seconds"] == 4000
    assert "auc_by_change" not in found


def test_each_change_is_told_from_clean_pairs() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.1, 0.0])
    clean, changes = np.array([False, True, False, False, True]), np.array(["image", "", "words", "words", ""])
    found = facts_of(Opinion(-p, p, Ratio(0.4, 0.3, 0.5), 0.9), clean, None, changes)
    assert found["auc_by_change"] == {"image": 1.0, "words": 0.5}


def test_results_are_kept_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    for seed, (split, count) in enumerate({"train": 300, "dev": 20, "test": 30}.items()):
        columns = make_rows(count, seed, dim=6)
        for row, texts in enumerate(columns["captions"]):  # the regions say which words there are
            marked = [[float(any(word in text for text in texts)) for word in WORDS]] * 3
            columns["regions"][row] = (
                np.array(marked) + np.random.default_rng([seed, row]).normal(0, 0.1, (3, 6))
            ).tolist()
        write_parquet(tmp_path / "tiny" / f"{split}.parquet", columns)
    path = tmp_path / "found.json"
    words = ["--dataset", f"hf:{tmp_path / 'tiny'}?image-features=regions&captions=captions", "--ratio", "0.4"]
    words += ["--protocol", "shuffle-captions", "--scorer", "linear", "--json", str(path)]
    first = CliRunner().invoke(main, words, catch_exceptions=False)
    assert first.exit_code == 0
    assert "shuffle-captions 0.4 seed 0 done" in first.stderr
    rows = json.loads(path.read_text())
    by_name = {row["scorer"]: row for row in rows}
    assert {"linear", "cosine", "random"} <= set(by_name)
    assert by_name["linear"]["auc"] > 0.6
    assert by_name["random"]["precision"] == by_name["random"]["recall"] == by_name["linear"]["ratio"]
    again = CliRunner().invoke(main, words, catch_exceptions=False)
    assert "done" not in again.stderr
    assert again.stdout == first.stdout
    assert json.loads(path.read_text()) == rows


def test_the_protocols_are_all_but_those_without_planted_pairs() -> None:
    without = {"clean", "natural", "file", "file-captions", "file-images"}
    assert set(PROTOCOLS) == set(protocol_names()) - without


def test_planted_vectors_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "found.json"
    words = ["vectors", "--folder", str(tmp_path), "--pairs", "300", "--json", str(path), "--", "--scorers", "cosine"]
    result = CliRunner().invoke(clean_inputs, words, catch_exceptions=False)
    assert result.exit_code == 0
    (found,) = json.loads(path.read_text())
    assert found["dropped"]["mismatched"] == found["dropped"]["rows"] > 30
    assert sum(found[name]["rows"] for name in ("kept", "review", "dropped")) == 300
    assert found["cpu_seconds"] > 0
    assert found["peak_mb"] > 100


def test_rows_in_no_list_are_noticed(tmp_path: Path) -> None:
    for name, rows in (("a.csv", "0\n1\n"), ("a.review.csv", "1\n"), ("a.dropped.csv", "")):
        (tmp_path / name).write_text(f"source_row\n{rows}")
    with pytest.raises(ValueError, match="2 rows are not in exactly one list"):
        judged(tmp_path / "a.csv", np.zeros(3, bool))


def test_written_vectors_are_those_of_the_planted_pairs(tmp_path: Path) -> None:
    path, wrong = write_vectors(tmp_path, 100)
    told, owner = planted(100)
    np.testing.assert_array_equal(wrong, told)
    np.testing.assert_array_equal(owner != np.arange(100), wrong)
    arrays = np.load(path)
    images, texts = (arrays[name] / np.linalg.norm(arrays[name], axis=1, keepdims=True) for name in arrays)
    np.testing.assert_array_equal((texts @ images.T).argmax(1), owner)
