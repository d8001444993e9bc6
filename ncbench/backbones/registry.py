"""Backbones by name, and checks of what each of them supports. This module loads no torch; building a backbone does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ncbench.errors import UserError, unknown_name

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

SHORT_NAMES = {"scan": "scan-t2i-lse"}

_ABILITY_DESCRIPTIONS: dict[Ability, str] = {
    "within": "scoring images against images and captions against captions",
    "head": "a head of the method's own",
}

ENSEMBLES = {"sgraf": ("sgr", "saf")}


def resolve(name: str) -> str:
    """Return the full name of a backbone, given its full or short name. Raises UserError."""
    full = SHORT_NAMES.get(name, name)
    if full not in BACKBONES:
        raise unknown_name("backbone", name, [*BACKBONES, *SHORT_NAMES])
    return full


def check_backbone(name: str) -> None:
    """Raise UserError unless `name` is the full or short name of a backbone."""
    resolve(name)


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
    """Return the class of a backbone, given its full or short name. Raises UserError."""
    module, _, attribute = BACKBONES[resolve(name)].partition(":")
    found: type[Backbone] = getattr(import_module(module), attribute)
    return found


def build_backbone(name: str, sizes: Sizes) -> Backbone:
    """Return a new backbone; torch's global generator initialises its weights. Raises UserError."""
    return backbone_class(name)(sizes)
