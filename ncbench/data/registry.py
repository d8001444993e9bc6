"""Datasets by name."""

from __future__ import annotations

import ast
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from ncbench.data.imported.request import is_request, read_request
from ncbench.errors import UserError, told, unknown_name
from ncbench.plugins.discovery import NAME, check_calls_itself, check_name, find_plugin, names_of, plugin_names
from ncbench.plugins.source_files import Kind, Offer, has_function, is_path, offer_in_call, offer_of_class

if TYPE_CHECKING:
    from ncbench.data.dataset import Dataset, DatasetSource

LOG = logging.getLogger(__name__)
GROUP = "ncbench.datasets"
PARTS = ("name", "summary", "needs_root", "load")


def _datasets_offered(node: ast.stmt) -> Iterator[Offer]:
    """Yield what a class offers that can `load`, and a source that is made, as `PrecompSource("name", ...)`."""
    if has_function(node, "load"):
        yield from offer_of_class(node)
    yield from offer_in_call(node, "Source", summary_at=1)


KIND = Kind("dataset", GROUP, Path("datasets"), _datasets_offered)


def dataset_names() -> list[str]:
    """Return the sorted names of all datasets, of installed packages and of files; loads none. Raises UserError."""
    return names_of(KIND)


DEV_RULE = "?dev-rule="
"""What stands between the name of a dataset of released files and the rule by which dev is cut."""


def check_dataset(text: str) -> None:
    """Raise UserError unless `text` names a dataset, a file of one, one in the store, or asks for one from elsewhere.

    Loads nothing.
    """
    if DEV_RULE in text and not is_request(text):
        dataset_source(text)
    elif is_request(text):
        _check_free(read_request(text).title)
    elif is_path(text) or text in dataset_names():
        if is_path(text) and not text.endswith(".py") and Path(text).expanduser().exists():
            raise UserError(f"dataset {text} is not a Python file (.py); {_hint(text)}")
        check_name(KIND, text)
    else:
        from ncbench.data.imported.local_store import find_stored, stored

        if find_stored(text) is None:
            if Path(text).expanduser().exists():
                raise UserError(f"dataset {text!r} is a path; {_hint(text)}")
            raise unknown_name("dataset", text, {*dataset_names(), *(one.name for one in stored())})


def _hint(path: str) -> str:
    return f"did you mean hf:{path}?"


def dataset_source(name: str, *, run_found: bool = True) -> DatasetSource:
    """Return the source of a dataset: a registered one, one in a file, `hf:...`, a configuration file, or a stored one.

    Without `run_found`, files are only run where NCBENCH_PLUGINS names them. Raises UserError for an unknown or broken
    one, for a file that does not hold one, and for two of one name.
    """
    if DEV_RULE in name and not is_request(name):
        return _with_rule(*name.split(DEV_RULE, 1))
    check_dataset(name)
    if is_request(name) or not (is_path(name) or name in dataset_names()):
        from ncbench.data.imported.local_store import find_stored
        from ncbench.data.imported.source import source_of

        elsewhere = source_of(name) if is_request(name) else find_stored(name)
        assert elsewhere is not None  # as `check_dataset` has seen
        return elsewhere
    found, _ = find_plugin(KIND, name, "dataset", _sources_in, run_found=run_found)
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


def load_dataset(name: str, root: Path | None, *, run_found: bool = True) -> Dataset:
    """Return the dataset called `name`, read below `root` where it needs files; `run_found` as for `dataset_source`.

    Raises UserError.
    """
    source, since = dataset_source(name, run_found=run_found), time.perf_counter()
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


def load_recorded(name: str, version: str, digest: str, root: Path | None) -> Dataset:
    """Return the dataset called `name`, by the dev rule that `version` tells; of several in the local store, that of
    content `digest`. Runs no file that only the record names. Raises UserError."""
    from ncbench.data.imported.local_store import stored
    from ncbench.data.precomp import DEV

    if is_request(name) or not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a valid name of a dataset")
    _, dev, rule = version.partition(DEV)
    if dev and name in plugin_names(GROUP):
        return load_dataset(f"{name}{DEV_RULE}{rule}", root)
    same = any((one.name, one.digest) == (name, digest) for one in stored())
    return load_dataset(f"{name}@{digest}" if same and name not in dataset_names() else name, root, run_found=False)


def load_split(name: str, root: Path | None, split: str) -> Dataset:
    """Return the dataset with at least `split`, and without the others where its source can do so. Raises UserError."""
    from ncbench.data.dataset import SplitSource

    source = dataset_source(name)
    return source.load_split(root, split) if isinstance(source, SplitSource) else source.load(root)
