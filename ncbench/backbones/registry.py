"""Backbones by name, built-in, installed or in files, and checks of what each of them supports.

This module loads no torch; building a backbone does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ncbench.errors import UserError, unknown_name
from ncbench.plugins.discovery import check_complete, check_name, check_names_match, find_plugin, names_of
from ncbench.plugins.source_files import Kind, Offer, has_function, is_path, offer_of_class

if TYPE_CHECKING:
    from ncbench.backbones.base import Ability, Backbone, Sizes
    from ncbench.backbones.precision import Precision
    from ncbench.data.dataset import Dataset

BACKBONES = {
    "saf": "ncbench.backbones.graph:SAF",
    "scan-i2t-lse": "ncbench.backbones.scan:ImageToTextLSE",
    "scan-i2t-mean": "ncbench.backbones.scan:ImageToTextMean",
    "scan-t2i-lse": "ncbench.backbones.scan:TextToImageLSE",
    "scan-t2i-mean": "ncbench.backbones.scan:TextToImageMean",
    "sgr": "ncbench.backbones.graph:SGR",
    "sgraf": "ncbench.backbones.ensemble:SGRAF",
    "vse": "ncbench.backbones.vse:VSE",
    "vse-infinity": "ncbench.backbones.vse_infinity:VSEInfinity",
    "vse-mlp": "ncbench.backbones.vse_mlp:VSEMLP",
}
"""The built-in backbones, and where they are."""

SHORT_NAMES = {"scan": "scan-t2i-lse"}

_ABILITY_DESCRIPTIONS: dict[Ability, str] = {
    "within": "scoring images against images and captions against captions",
    "head": "a head of the method's own",
}

ENSEMBLES = {"sgraf": ("sgr", "saf")}

BASE_ENDING = "Backbone"
_BUILT_IN_CLASSES = {place.partition(":")[2] for place in BACKBONES.values()}


def defines_backbone(node: ast.stmt) -> bool:
    """Return whether a statement is the class of a backbone, by the names of its bases or what it implements."""
    if not isinstance(node, ast.ClassDef):
        return False
    bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    known = any(base.endswith(BASE_ENDING) or base in _BUILT_IN_CLASSES for base in bases)
    return known or has_function(node, "_encode_images")


def _backbones_offered(node: ast.stmt) -> Iterator[Offer]:
    if defines_backbone(node):
        yield from offer_of_class(node)


KIND = Kind("backbone", "ncbench.backbones", Path("backbones"), _backbones_offered)

_loaded: dict[str, type[Backbone]] = {}
"""The plugins that were loaded in this process, by name: runs refer to these. A later one replaces an earlier one."""


def backbone_names() -> list[str]:
    """Return the sorted names of all backbones, built-in, installed or in files, without short names. Loads none."""
    return sorted({*BACKBONES, *names_of(KIND)})


def check_backbone(name: str) -> None:
    """Raise UserError unless `name` is the full or short name of a backbone or a path to a file. Loads nothing."""
    if is_path(name):
        check_name(KIND, name)
    elif _full(name) not in {*BACKBONES, *_loaded} and name not in names_of(KIND):
        raise unknown_name("backbone", name, [*backbone_names(), *SHORT_NAMES])


def resolve(name: str) -> str:
    """Return the full name of a backbone that a user has named, by full or short name or by the path of its file.

    The file of a plugin is run; runs and records can then refer to it by its name. Raises UserError.
    """
    full = _full(name)
    return full if full in BACKBONES else load_backbone(name).name


def load_backbone(name: str, *, run_found: bool = True) -> type[Backbone]:
    """Return the class of the backbone called `name`, or of the one in the file whose path is `name`.

    Without `run_found`, files are only run if NCBENCH_PLUGINS names them. Raises UserError for an unknown or broken
    backbone, a file that does not hold exactly one, and a name used twice.
    """
    check_backbone(name)
    if _full(name) in BACKBONES:
        return _built_in(_full(name))
    if name in _loaded and name not in names_of(KIND):  # its file was given by path
        return _loaded[name]
    noun = "subclass of ncbench.backbones.Backbone"
    found, digest = find_plugin(KIND, name, noun, _backbones_in, run_found=run_found)
    from ncbench.backbones.base import Backbone

    if not (isinstance(found, type) and issubclass(found, Backbone)):
        raise UserError(f"backbone {name!r} is {found!r}, not a {noun}.")
    if not isinstance(getattr(found, "name", None), str):
        raise UserError(f"backbone {name!r}: {found.__name__} has no name; set the class attribute `name`.")
    check_names_match(KIND, name, found)
    check_complete(KIND, name, found)
    if found.name in {*BACKBONES, *SHORT_NAMES}:
        raise UserError(f"backbone {name!r}: {found.name!r} is the name of a built-in backbone; choose another name.")
    if digest:
        found.source = digest
    _loaded[found.name] = found
    return found


def _backbones_in(module: ModuleType) -> list[type[Backbone]]:
    from ncbench.backbones.base import Backbone

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Backbone) and value.__module__ == module.__name__
    ]


def members_of(name: str) -> tuple[str, ...]:
    """Return the backbones that backbone `name` is trained as: the members of an ensemble, else the backbone itself."""
    return ENSEMBLES.get(name, (name,))


def check_precision(name: str, precision: Precision) -> None:
    """Raise UserError unless backbone `name` supports `precision`."""
    if precision == "bf16" and not backbone_class(name).HAS_BF16:
        able = ", ".join(other for other in BACKBONES if backbone_class(other).HAS_BF16)
        raise UserError(f"--precision bf16 is not supported by {name}. Use float32 or tf32, or one of {able}")


def check_abilities(name: str, needed: frozenset[Ability], method: str) -> None:
    """Raise UserError unless backbone `name` (or each of its members) has the abilities that `method` needs."""

    def missing(backbone: str) -> list[Ability]:
        able = [backbone_class(member).ABILITIES for member in members_of(backbone)]
        return sorted(needed - frozenset.intersection(*able))

    if missing(name):
        others = ", ".join(other for other in BACKBONES if not missing(other))
        lacking = _ABILITY_DESCRIPTIONS[missing(name)[0]]
        raise UserError(f"{method} cannot train {name}, which does not support {lacking}; use {others}")


def check_captions(name: str, dataset: Dataset) -> None:
    """Raise UserError if the captions of `dataset` are vectors but backbone `name` reads words."""
    if dataset.vector_dim and not _takes_vectors(name):
        able = ", ".join(other for other in BACKBONES if _takes_vectors(other))
        raise UserError(f"{name} reads words, but the captions of {dataset.name} are vectors; use {able}")


def _takes_vectors(name: str) -> bool:
    return all(backbone_class(member).TAKES_VECTORS for member in members_of(name))


def backbone_class(name: str) -> type[Backbone]:
    """Return the class of a backbone, given its full or short name, or that of a plugin in a run or a record.

    The plugin is the one loaded last in this process. Otherwise, a file is only run if NCBENCH_PLUGINS names it. Raises
    UserError.
    """
    full = _full(name)
    if full in BACKBONES:
        return _built_in(full)
    return _loaded[full] if full in _loaded else load_backbone(name, run_found=False)


def _built_in(name: str) -> type[Backbone]:
    module, _, attribute = BACKBONES[name].partition(":")
    found: type[Backbone] = getattr(import_module(module), attribute)
    return found


def _full(name: str) -> str:
    return SHORT_NAMES.get(name, name)


def build_backbone(name: str, sizes: Sizes) -> Backbone:
    """Return a new backbone; torch's global generator initialises its weights. Raises UserError."""
    return backbone_class(name)(sizes)
