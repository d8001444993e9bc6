"""Datasets by name."""

from __future__ import annotations

import ast
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from ncbench.data.imported.local_store import find_stored, stored_datasets
from ncbench.data.imported.request import is_request, read_request
from ncbench.errors import UserError, error_with_location, unknown_name
from ncbench.plugins.discovery import NAME, check_name, check_names_match, find_plugin, names_of, plugin_names
from ncbench.plugins.source_files import Kind, Offer, has_function, is_path, offer_in_call, offer_of_class
from ncbench.runtime.guard import refuse_if_guarded

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset, DatasetSource

LOG = logging.getLogger(__name__)
GROUP = "ncbench.datasets"
SOURCE_ATTRIBUTES = ("name", "summary", "needs_root", "load")


def _datasets_offered(node: ast.stmt) -> Iterator[Offer]:
    """Yield what a class with a `load` method offers, and a source created as `PrecompSource("name", ...)`."""
    if has_function(node, "load"):
        yield from offer_of_class(node)
    yield from offer_in_call(node, "Source", summary_at=1)


KIND = Kind("dataset", GROUP, Path("datasets"), _datasets_offered)


def dataset_names() -> list[str]:
    """Return the sorted names of all datasets in installed packages and files. Loads none. Raises UserError."""
    return names_of(KIND)


DEV_RULE_MARK = "?dev-rule="
"""Separates the name of a dataset of released files from its dev rule."""


def check_dataset(text: str) -> None:
    """Raise UserError unless `text` is the name of a dataset, a plugin file, or a request for an imported dataset.

    Loads nothing.
    """
    if DEV_RULE_MARK in text and not is_request(text):
        dataset_source(text)
    elif is_request(text):
        _check_free(read_request(text).title)
    elif is_path(text) or text in dataset_names():
        if is_path(text) and not text.endswith(".py") and Path(text).expanduser().exists():
            _refuse_released_folder(text)
            raise UserError(f"dataset {text} is not a Python file (.py); did you mean hf:{text}?")
        check_name(KIND, text)
    else:
        if find_stored(text) is None:
            if Path(text).expanduser().exists():
                _refuse_released_folder(text)
                raise UserError(f"dataset {text!r} is a path; did you mean hf:{text}?")
            raise unknown_name("dataset", text, {*dataset_names(), *(one.name for one in stored_datasets())})


def _refuse_released_folder(text: str) -> None:
    """Raise UserError if `text` is a folder with the released files of a dataset, or the folder around it."""
    path = Path(text).expanduser().absolute()
    for folder in (path, *sorted(path.glob("*_precomp"))):
        name = folder.name.removesuffix("_precomp")
        if name != folder.name and name in dataset_names():
            raise UserError(
                f"dataset {text!r} is a folder with the released files of {name}; use --dataset {name} --data-root "
                f"{Path(text).parent if folder == path else text}"
            )


def dataset_source(name: str, *, run_found: bool = True) -> DatasetSource:
    """Return the source of a dataset, given its name, a plugin file, `hf:...` or a configuration file.

    Without `run_found`, files are only run if NCBENCH_PLUGINS names them.

    Raises UserError for unknown and broken datasets, files without a dataset, and ambiguous names.
    """
    if DEV_RULE_MARK in name and not is_request(name):
        return _with_rule(*name.split(DEV_RULE_MARK, 1))
    check_dataset(name)
    if is_request(name) or not (is_path(name) or name in dataset_names()):
        from ncbench.data.imported.source import source_of

        imported = source_of(name) if is_request(name) else find_stored(name)
        assert imported is not None  # by check_dataset
        return imported
    found, _ = find_plugin(KIND, name, "dataset", _sources_in, run_found=run_found)
    missing = [attribute for attribute in SOURCE_ATTRIBUTES if not hasattr(found, attribute)]
    if isinstance(found, type) or missing:
        reason = "it is a class, not an instance" if isinstance(found, type) else f"it lacks {' and '.join(missing)}"
        raise UserError(f"dataset {name!r} is not an ncbench.data.dataset.DatasetSource: {reason}")
    check_names_match(KIND, name, found)
    return found


def _sources_in(module: ModuleType) -> list[DatasetSource]:
    """Return the source objects in a module, and an instance of each source class that has a name."""
    found = [value for name, value in vars(module).items() if not name.startswith("__")]
    sources = [
        value
        for value in found
        if not isinstance(value, type) and all(hasattr(value, attribute) for attribute in SOURCE_ATTRIBUTES)
    ]
    classes = [
        value
        for value in found
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and callable(getattr(value, "load", None))
        and isinstance(getattr(value, "name", None), str)
        and not any(isinstance(source, value) for source in sources)
    ]
    return [*sources, *(cls() for cls in classes)]


def with_dev_rule(names: Sequence[str], rule: str) -> tuple[str, ...]:
    """Return the names of datasets with a dev rule added to each, unless it is the default."""
    return tuple(name if rule == "standard" else f"{name}{DEV_RULE_MARK}{rule}" for name in names)


def _with_rule(name: str, rule: str) -> DatasetSource:
    from dataclasses import replace
    from typing import get_args

    from ncbench.data.precomp import DevRule, PrecompSource

    source = dataset_source(name)
    if not isinstance(source, PrecompSource):
        raise UserError(f"--dev-rule is for datasets of released files such as f30k; {name} has its own dev split")
    if rule not in get_args(DevRule):
        raise unknown_name("dev rule", rule, get_args(DevRule))
    return replace(source, dev_rule=cast("DevRule", rule))


def _check_free(name: str) -> None:
    """Raise UserError if an imported dataset has the name of a registered one."""
    if name in dataset_names():
        raise UserError(f"imported dataset {name!r} has the name of a registered dataset; set another `name`")


def load_dataset(name: str, root: Path | None, *, run_found: bool = True) -> Dataset:
    """Return the dataset called `name`, read from `root` if it needs files; `run_found` as for `dataset_source`.

    Raises UserError.
    """
    from ncbench.data.feature_sizes import check_sizes
    from ncbench.data.unknown_words import check_words

    refuse_if_guarded("load a dataset")
    source, since = dataset_source(name, run_found=run_found), time.perf_counter()
    LOG.info("loading dataset %s%s", source.name, f" from {root}" if source.needs_root else "")
    try:
        dataset = source.load(root)
    except (UserError, OSError):
        raise
    except Exception as error:  # of a plugin
        raise UserError(f"dataset {source.name!r} cannot be loaded: {error_with_location(error)}") from error
    check_words(dataset)
    check_sizes(dataset)
    sizes = ", ".join(f"{split} {len(part.images):,}" for split, part in dataset.splits.items())
    LOG.info("dataset %s: images %s (%.1f s)", source.name, sizes, time.perf_counter() - since)
    return dataset


def load_recorded(name: str, version: str, digest: str, root: Path | None) -> Dataset:
    """Return the dataset of a record: by name, the dev rule in `version`, and the `digest` of a stored dataset.

    No file is run because a record names it. Raises UserError.
    """
    return load_dataset(_recorded(name, version, digest), root, run_found=False)


def recorded_needs_root(name: str, version: str, digest: str) -> bool:
    """Return whether `load_recorded` needs a root. Raises UserError."""
    return dataset_source(_recorded(name, version, digest), run_found=False).needs_root


def _recorded(name: str, version: str, digest: str) -> str:
    """Return what `load_dataset` takes for the dataset of a record. Raises UserError."""
    from ncbench.data.precomp import DEV_VERSION_MARK

    if is_request(name) or not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a valid dataset name")
    _, mark, rule = version.partition(DEV_VERSION_MARK)
    if mark and name in plugin_names(GROUP):
        return f"{name}{DEV_RULE_MARK}{rule}"
    is_stored = any((one.name, one.digest) == (name, digest) for one in stored_datasets())
    return f"{name}@{digest}" if is_stored and name not in dataset_names() else name


def load_split(name: str, root: Path | None, split: str) -> Dataset:
    """Return the dataset with at least `split`; without the others if its source supports that. Raises UserError."""
    from ncbench.data.dataset import SplitSource
    from ncbench.data.feature_sizes import check_sizes
    from ncbench.data.unknown_words import check_words

    source = dataset_source(name)
    dataset = source.load_split(root, split) if isinstance(source, SplitSource) else source.load(root)
    check_words(dataset)
    check_sizes(dataset)
    return dataset
