"""Datasets by name."""

from __future__ import annotations

import ast
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ncbench.errors import UserError, told
from ncbench.plugin_files import Kind, has_function, name_in_call, name_of_class
from ncbench.plugins import check_calls_itself, check_name, find_plugin, names_of

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset, DatasetSource

LOG = logging.getLogger(__name__)
GROUP = "ncbench.datasets"
PARTS = ("name", "summary", "needs_root", "load")


def _names_of_datasets(node: ast.stmt) -> Iterator[str]:
    """Yield the name of a class that can `load`, and of a source that is made, as `PrecompSource("name", ...)`."""
    if has_function(node, "load"):
        yield from name_of_class(node)
    yield from name_in_call(node, "Source")


KIND = Kind("dataset", GROUP, Path("datasets"), _names_of_datasets)


def dataset_names() -> list[str]:
    """Return the sorted names of all datasets, of installed packages and of files; loads none. Raises UserError."""
    return names_of(KIND)


def check_dataset(name: str) -> None:
    """Raise UserError unless `name` is that of a dataset, or a path to a file; loads nothing."""
    check_name(KIND, name)


def dataset_source(name: str) -> DatasetSource:
    """Return the source of the dataset called `name`, or of the one in the file whose path that is.

    Raises UserError for an unknown or broken one, for a file that does not hold one, and for two of one name.
    """
    found, _ = find_plugin(KIND, name, "dataset", _sources_in)
    lacking = [part for part in PARTS if not hasattr(found, part)]
    if isinstance(found, type) or lacking:
        what = "is a class, not an object of one" if isinstance(found, type) else f"lacks {' and '.join(lacking)}"
        raise UserError(f"dataset {name!r} is no ncbench.data.dataset.DatasetSource: it {what}.")
    check_calls_itself(KIND, name, found)
    return found


def _sources_in(module: ModuleType) -> list[DatasetSource]:
    """Return the sources that a file makes, and one of each class in it that is a source and says its name."""
    found = [thing for name, thing in vars(module).items() if not name.startswith("__")]
    made = [thing for thing in found if not isinstance(thing, type) and all(hasattr(thing, part) for part in PARTS)]
    classes = [
        thing
        for thing in found
        if isinstance(thing, type)
        and thing.__module__ == module.__name__
        and callable(getattr(thing, "load", None))
        and isinstance(getattr(thing, "name", None), str)
        and not any(isinstance(source, thing) for source in made)
    ]
    return [*made, *(kind() for kind in classes)]


def load_dataset(name: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`, read below `root` where it needs files. Raises UserError."""
    source, since = dataset_source(name), time.perf_counter()
    LOG.info("loading dataset %s%s", source.name, f" from {root}" if source.needs_root else "")
    try:
        dataset = source.load(root)
    except (UserError, OSError):
        raise
    except Exception as error:  # of a plugin
        raise UserError(f"dataset {source.name!r} cannot be loaded: {told(error)}") from error
    sizes = ", ".join(f"{split} {len(part.images):,}" for split, part in dataset.splits.items())
    LOG.info("dataset %s: images %s (%.1f s)", source.name, sizes, time.perf_counter() - since)
    return dataset


def load_split(name: str, root: Path | None, split: str) -> Dataset:
    """Return the dataset with at least `split`, and without the others where its source can do so. Raises UserError."""
    from ncbench.data.dataset import SplitSource

    source = dataset_source(name)
    return source.load_split(root, split) if isinstance(source, SplitSource) else source.load(root)
