"""Datasets by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ncbench.plugins import load_plugin, plugin_names

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset, DatasetSource

GROUP = "ncbench.datasets"


def dataset_names() -> list[str]:
    """Return the names of all registered datasets."""
    return plugin_names(GROUP)


def dataset_source(name: str) -> DatasetSource:
    """Return the source of the dataset called `name`. Raises UserError for an unknown or broken one."""
    return cast("DatasetSource", load_plugin(GROUP, "dataset", name))


def load_dataset(name: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`, read below `root` where it needs files. Raises UserError."""
    return dataset_source(name).load(root)


def load_split(name: str, root: Path | None, split: str) -> Dataset:
    """Return the dataset with at least `split`, and without the others where its source can do so. Raises UserError."""
    from ncbench.data.dataset import SplitSource

    source = dataset_source(name)
    return source.load_split(root, split) if isinstance(source, SplitSource) else source.load(root)
