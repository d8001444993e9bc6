"""Datasets by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ncbench.data.imported.request import is_request, read_request
from ncbench.errors import UserError, unknown_name
from ncbench.plugins import load_plugin, plugin_names

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset, DatasetSource

GROUP = "ncbench.datasets"


def dataset_names() -> list[str]:
    """Return the names of all registered datasets."""
    return plugin_names(GROUP)


def check_dataset(text: str) -> None:
    """Raise UserError unless `text` names a dataset, one of the local store, or asks for one from elsewhere."""
    if is_request(text):
        _check_free(read_request(text).title)
    elif text not in dataset_names():
        from ncbench.data.imported.source import find_stored, stored

        if find_stored(text) is None:
            raise unknown_name("dataset", text, {*dataset_names(), *(one.name for one in stored())})


def dataset_source(name: str) -> DatasetSource:
    """Return the source of the dataset called `name`, `hf:...` or configuration files of data sets from elsewhere too.

    Raises UserError for an unknown or broken one.
    """
    check_dataset(name)
    if name in dataset_names():
        return cast("DatasetSource", load_plugin(GROUP, "dataset", name))
    from ncbench.data.imported.source import find_stored, source_of

    found = source_of(name) if is_request(name) else find_stored(name)
    assert found is not None
    return found


def _check_free(name: str) -> None:
    """Raise UserError where a data set from elsewhere has the name of a registered one."""
    if name in dataset_names():
        raise UserError(f"data set {name!r} has the name of one of ncbench's own; give another `name`")


def load_dataset(name: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`, read below `root` where it needs files. Raises UserError."""
    return dataset_source(name).load(root)


def load_recorded(name: str, digest: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`; of several in the local store, that of content `digest`. Raises UserError."""
    from ncbench.data.imported.source import stored

    same = any((one.name, one.digest) == (name, digest) for one in stored())
    return load_dataset(f"{name}@{digest}" if same and name not in dataset_names() else name, root)


def load_split(name: str, root: Path | None, split: str) -> Dataset:
    """Return the dataset with at least `split`, and without the others where its source can do so. Raises UserError."""
    from ncbench.data.dataset import SplitSource

    source = dataset_source(name)
    return source.load_split(root, split) if isinstance(source, SplitSource) else source.load(root)
