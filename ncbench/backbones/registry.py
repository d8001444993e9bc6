"""The backbones by name, and what each of them can do. Naming one loads no torch; building one does."""

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
}

SHORT_NAMES = {"scan": "scan-t2i-lse"}

_WORDS: dict[Ability, str] = {
    "within": "scores of images against images and of captions against captions",
    "head": "a vector per pair that a head of the method's own could score",
}

ENSEMBLES = {"sgraf": ("sgr", "saf")}


def resolve(name: str) -> str:
    """Return the name in BACKBONES of a backbone that may be given by its short name. Raises UserError."""
    full = SHORT_NAMES.get(name, name)
    if full not in BACKBONES:
        raise unknown_name("backbone", name, [*BACKBONES, *SHORT_NAMES])
    return full


def check_backbone(name: str) -> None:
    """Raise UserError unless `name` is a backbone, or the short name of one."""
    resolve(name)


def members_of(name: str) -> tuple[str, ...]:
    """Return the backbones that a backbone is trained as, each on its own: itself, unless it is an ensemble."""
    return ENSEMBLES.get(name, (name,))


def check_precision(name: str, precision: Precision) -> None:
    """Raise UserError unless the backbone called `name` can be computed in `precision`."""
    if precision == "bf16" and not backbone_class(name).HAS_BF16:
        able = ", ".join(other for other in BACKBONES if backbone_class(other).HAS_BF16)
        raise UserError(f"--precision bf16: {name} has none; use float32 or tf32 with it. It is for {able}.")


def check_abilities(name: str, needed: frozenset[Ability], method: str) -> None:
    """Raise UserError unless backbone `name` (or each of its members) has the abilities that `method` needs."""

    def missing(backbone: str) -> list[Ability]:
        able = [backbone_class(member).ABILITIES for member in members_of(backbone)]
        return sorted(needed - frozenset.intersection(*able))

    if missing(name):
        others = ", ".join(other for other in BACKBONES if not missing(other))
        raise UserError(f"{method} cannot train {name}, which lacks {_WORDS[missing(name)[0]]}; use {others}.")


def check_captions(name: str, dataset: Dataset) -> None:
    """Raise UserError where captions of `dataset` are vectors, and backbone `name` reads words."""
    if dataset.vector_dim and not _takes_vectors(name):
        able = ", ".join(other for other in BACKBONES if _takes_vectors(other))
        raise UserError(f"{name} reads the words of captions, and {dataset.name} has vectors of them; use {able}.")


def _takes_vectors(name: str) -> bool:
    return all(backbone_class(member).TAKES_VECTORS for member in members_of(name))


def backbone_class(name: str) -> type[Backbone]:
    """Return the class of a backbone. Raises UserError."""
    module, _, attribute = BACKBONES[resolve(name)].partition(":")
    found: type[Backbone] = getattr(import_module(module), attribute)
    return found


def build_backbone(name: str, sizes: Sizes) -> Backbone:
    """Return a freshly initialised backbone; torch's global generator gives the weights. Raises UserError."""
    return backbone_class(name)(sizes)
