"""A source of a dataset that is there already."""

from __future__ import annotations

from pathlib import Path

from ncbench.data.dataset import Dataset


class Source:
    """Gives `dataset`, under its name, and keeps below which roots it was asked for."""

    needs_root = False

    def __init__(self, dataset: Dataset, summary: str = "made for tests") -> None:
        self.dataset, self.name, self.summary = dataset, dataset.name, summary
        self.roots: list[Path | None] = []

    def load(self, root: Path | None) -> Dataset:
        """Return the dataset."""
        self.roots.append(root)
        return self.dataset
