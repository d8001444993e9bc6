"""`ncbench.load_dataset`: a dataset by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncbench.data import registry
from ncbench.data.imported.request import with_columns
from ncbench.errors import ArgumentError

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset


def load_dataset(
    name: str = "scenes",
    data_root: Path | str | None = None,
    *,
    dev_rule: str = "standard",
    image_features: str | None = None,
    captions: str | None = None,
    text_features: str | None = None,
) -> Dataset:
    """Return the dataset called `name`: its splits `train`, `dev` and `test`, vocabulary and defaults.

    `name` is what `--dataset` accepts: a name of `ncbench data list`, `hf:NAME_OR_PATH`, a configuration file (.toml)
    or a plugin (.py). Released datasets, such as `f30k`, are read from `data_root`. `dev_rule`, and the columns
    `image_features`, `captions` and `text_features` of `hf:` datasets, are the options of `ncbench run`. `scenes` is
    made on first use. Raises UserError for a name that does not exist, and files that are missing or malformed.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"name: expected the name of a dataset, such as 'scenes', found {name!r}")
    (full,) = requested([name], dev_rule, image_features, captions, text_features)
    return registry.load_dataset(full, None if data_root is None else Path(data_root))


def requested(
    names: list[str], dev_rule: str, image_features: str | None, captions: str | None, text_features: str | None
) -> tuple[str, ...]:
    """Return the names of datasets with their options added. Raises UserError for options that do not fit."""
    columns = {"image-features": image_features, "captions": captions, "text-features": text_features}
    return registry.with_dev_rule(with_columns(names, columns), dev_rule)
