"""Examples in public docstrings and on the page of the Python API are run."""

from __future__ import annotations

import doctest
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from pages import PAGES, blocks

import ncbench
from ncbench.data.dataset import Dataset
from ncbench.data.scenes.source import Scenes

PARTS = ("evaluation.retrieval", "method.losses", "method.mixture", "method.transport")


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
