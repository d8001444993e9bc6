"""Protocols that leave the pairs unchanged: `clean` where they are correct, `natural` where that is unknown."""

from __future__ import annotations

from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest, Unit
from ncbench.noise.ratio import CLEAN as CLEAN_NAME
from ncbench.noise.ratio import NATURAL as NATURAL_NAME


def _unaltered(name: str, unit: Unit, summary: str) -> NoiseProtocol:
    def draw(request: NoiseRequest) -> Drawn:
        if request.ratio:
            raise UserError(f"makes no noise, found ratio {request.ratio:g}; use --noise 0, or another protocol")
        return Drawn(request.true.copy(), unit)

    version = CLEAN_NAME if name == CLEAN_NAME else "1"  # fixed by existing records
    return NoiseProtocol(name, version, unit, summary, draw, makes_noise=False)


CLEAN = _unaltered(CLEAN_NAME, "clean", "all pairs are matched; at ratio 0, every protocol is this one")
NATURAL = _unaltered(NATURAL_NAME, "natural", "pairs as collected, some mismatched by nature; use --noise natural")
