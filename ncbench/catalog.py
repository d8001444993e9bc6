"""Datasets by name."""

from __future__ import annotations

from collections.abc import Sequence
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


DEV_RULE = "?dev-rule="
"""What stands between the name of a dataset of released files and the rule by which dev is cut."""


def check_dataset(text: str) -> None:
    """Raise UserError unless `text` names a dataset, one of the local store, or asks for one from elsewhere."""
    if DEV_RULE in text and not is_request(text):
        dataset_source(text)
    elif is_request(text):
        _check_free(read_request(text).title)
    elif text not in dataset_names():
        from ncbench.data.imported.stored import find_stored, stored

        if find_stored(text) is None:
            raise unknown_name("dataset", text, {*dataset_names(), *(one.name for one in stored())})


def dataset_source(name: str) -> DatasetSource:
    """Return the source of the dataset called `name`, `hf:...` or configuration files of data sets from elsewhere too.

    Raises UserError for an unknown or broken one.
    """
    if DEV_RULE in name and not is_request(name):
        return _with_rule(*name.split(DEV_RULE, 1))
    check_dataset(name)
    if name in dataset_names():
        return cast("DatasetSource", load_plugin(GROUP, "dataset", name))
    from ncbench.data.imported.source import source_of
    from ncbench.data.imported.stored import find_stored

    found = source_of(name) if is_request(name) else find_stored(name)
    assert found is not None
    return found


def with_dev_rule(names: Sequence[str], rule: str) -> tuple[str, ...]:
    """Return datasets as given, with a dev rule other than the usual one for each of them."""
    return tuple(name if rule == "standard" else f"{name}{DEV_RULE}{rule}" for name in names)


def _with_rule(name: str, rule: str) -> DatasetSource:
    from dataclasses import replace
    from typing import get_args

    from ncbench.data.precomp import DevRule, PrecompSource

    source = dataset_source(name)
    if not isinstance(source, PrecompSource):
        raise UserError(f"--dev-rule is for datasets of released files, as f30k; {name} has a dev split of its own")
    if rule not in get_args(DevRule):
        raise unknown_name("dev rule", rule, get_args(DevRule))
    return replace(source, dev_rule=cast("DevRule", rule))


def _check_free(name: str) -> None:
    """Raise UserError where a data set from elsewhere has the name of a registered one."""
    if name in dataset_names():
        raise UserError(f"data set {name!r} has the name of one of ncbench's own; give another `name`")


def load_dataset(name: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`, read below `root` where it needs files. Raises UserError."""
    return dataset_source(name).load(root)


def load_recorded(name: str, version: str, digest: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`, by the dev rule that `version` tells; of several in the local store, that of
    content `digest`. Raises UserError."""
    from ncbench.data.imported.stored import stored
    from ncbench.data.precomp import DEV

    _, dev, rule = version.partition(DEV)
    if dev and name in dataset_names():
        return load_dataset(f"{name}{DEV_RULE}{rule}", root)
    same = any((one.name, one.digest) == (name, digest) for one in stored())
    return load_dataset(f"{name}@{digest}" if same and name not in dataset_names() else name, root)


def load_split(name: str, root: Path | None, split: str) -> Dataset:
    """Return the dataset with at least `split`, and without the others where its source can do so. Raises UserError."""
    from ncbench.data.dataset import SplitSource

    source = dataset_source(name)
    return source.load_split(root, split) if isinstance(source, SplitSource) else source.load(root)
