"""Examples in public docstrings and on the page of the Python API are run."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pages import PAGES, blocks
from places import ROOT
from planted import planted_vectors

import ncbench
from ncbench.checks.shapes import Shapes
from ncbench.data.dataset import CaptionVectors, Dataset
from ncbench.data.scene_vectors.source import ScenesVectors
from ncbench.data.scenes.source import Scenes
from ncbench.records.verification import verify_run

PARTS = (
    "evaluation.fitting",
    "evaluation.retrieval",
    "method.losses",
    "evaluation.beliefs",
    "method.mixture",
    "method.rematching",
    "method.transport",
)


@pytest.mark.parametrize("name", PARTS)
def test_examples_in_docstrings(name: str) -> None:
    done = doctest.testmod(import_module(f"ncbench.{name}"))
    assert done.attempted > 0
    assert done.failed == 0


def test_examples_on_the_page(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scenes, "load", lambda self, *_: replace(tiny, name=self.name))
    monkeypatch.chdir(tmp_path)
    (page,) = (page for page in PAGES if page.name == "api.md")
    code = [block.text for block in blocks(page) if block.language == "python"]
    assert len(code) > 3
    names: dict[str, object] = {}
    for text in code:
        exec(compile(text, str(page), "exec"), names)
    assert (tmp_path / "runs").is_dir()


def test_the_page_names_all_that_is_public() -> None:
    (page,) = (page for page in PAGES if page.name == "api.md")
    told = {line.removeprefix("::: ncbench.") for line in page.read_text().splitlines() if line.startswith("::: ")}
    assert told == set(ncbench.__all__)


def test_examples_on_the_page_about_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = planted_vectors(100)
    np.savez("vectors.npz", image_vectors=found.images, text_vectors=found.texts)
    (page,) = (page for page in PAGES if page.name == "clean-my-data.md")
    (code,) = (block.text for block in blocks(page) if block.language == "python")
    exec(compile(code, str(page), "exec"), {})


OWN_LOOP = "your-own-loop.md"


def test_the_script_of_an_own_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"train": 256, "dev": 32, "test": 64}
    shapes = Shapes(name="scenes", images=sizes, kinds=12).load()
    monkeypatch.setattr(Scenes, "load", lambda self, *_: shapes)
    (page,) = (page for page in PAGES if page.name == OWN_LOOP)
    (script,) = (block.text for block in blocks(page) if block.title == "own_loop.py")
    assert len(script.splitlines()) < 60
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "own_loop"}
    exec(compile(script, "own_loop.py", "exec"), names)
    chance = 100 * (1 + 5 + 10) * (1 / 64 + 2 / 128)
    assert names["scores"].rsum > 2 * chance
    assert names["detection"].auc > 0.6
    assert names["detection"].pairs == len(names["pairs"]) == 512
    assert 0.3 * 512 < names["detection"].mismatched < 0.5 * 512
    (rest,) = (block.text for block in blocks(page) if block.title == "keep_the_result.py")
    monkeypatch.chdir(tmp_path)
    exec(compile(rest, "keep_the_result.py", "exec"), names)
    assert verify_run(names["folder"]) == []
    assert ncbench.load_runs("runs")["rsum"].tolist() == [names["scores"].rsum]


def test_the_other_examples_of_that_page(capsys: pytest.CaptureFixture[str]) -> None:
    (page,) = (page for page in PAGES if page.name == OWN_LOOP)
    scores, rematching = (block.text for block in blocks(page) if block.language == "python" and not block.title)
    exec(compile(scores, str(page), "exec"), {})
    assert capsys.readouterr().out.splitlines()[1] == "1.0"
    exec(compile(rematching, str(page), "exec"), {})
    assert capsys.readouterr().out == f"{[15, *range(15)]}\n"


def run_notebook(name: str, budget: str = "1") -> dict[str, object]:
    """Run the cells of a notebook here, with another budget, and return its names; `%%writefile` is the only magic."""
    path = ROOT / "examples" / name
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    names: dict[str, object] = {}
    for cell in cells:
        text = "".join(cell["source"]).replace('budget="1"', f'budget="{budget}"')
        if cell["cell_type"] == "code" and text.startswith("%%writefile "):
            first, _, content = text.partition("\n")
            Path(first.split()[1]).write_text(content + "\n")
        elif cell["cell_type"] == "code":
            exec(compile(text, str(path), "exec"), names)
    return names


def test_the_notebook_about_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_notebook("clean_my_data.ipynb")
    assert (names["dropped"] == names["planted"]).mean() > 0.9  # type: ignore[attr-defined]


def test_the_notebook_about_a_new_loss(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scenes, "load", lambda self, *_: replace(tiny, name=self.name))
    monkeypatch.chdir(tmp_path)
    names = run_notebook("a_new_loss.ipynb", budget="6")  # a small set has few batches
    found = names["table"]
    assert isinstance(found, pd.DataFrame)
    assert set(found["method"]) == {"triplet", "infonce", "bounded"}
    assert len(found) == 6
    assert len(names["varied"]) == 3  # type: ignore[arg-type]


def with_vectors(words: Dataset) -> Dataset:
    """Return a dataset whose captions are vectors: the counts of their words."""
    splits = {}
    for name, split in words.splits.items():
        counts = [
            np.bincount(split.captions.tokens(n), minlength=len(words.vocabulary)) for n in range(len(split.true))
        ]
        splits[name] = replace(split, captions=CaptionVectors(split.captions.texts, np.array(counts, np.float32)))
    return replace(words, splits=splits)


def test_the_notebook_about_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Shapes(name="scenes-vectors", images={"train": 256, "dev": 32, "test": 64}, kinds=12, regions=1).load()
    monkeypatch.setattr(ScenesVectors, "load", lambda self, *_: with_vectors(words))
    monkeypatch.chdir(tmp_path)
    names = run_notebook("noise_in_a_plain_loop.ipynb")
    found = names["table"]
    assert isinstance(found, pd.DataFrame)
    assert found.index.tolist() == ["no noise", "shuffle-captions", "shuffle-images", "semantic", "concentrated"]
    assert (found["dev rSum"] > 0).all()
    assert found["AUC of wrong pairs"].isna().tolist() == [True, False, False, False, False]
    assert verify_run(names["folder"]) == []  # type: ignore[arg-type]
