"""Protocols that claim the pairs as they come: `clean` where they are right, `natural` where that is unknown."""

from __future__ import annotations

from ncbench.errors import UserError
from ncbench.noise.base import Drawn, NoiseProtocol, NoiseRequest, Unit
from ncbench.noise.ratio import CLEAN as CLEAN_NAME
from ncbench.noise.ratio import NATURAL as NATURAL_NAME


def _as_they_come(name: str, unit: Unit, summary: str) -> NoiseProtocol:
    def draw(request: NoiseRequest) -> Drawn:
        if request.ratio:
            raise UserError(f"makes no noise, found ratio {request.ratio:g}; use --noise 0, or another protocol")
        return Drawn(request.true.copy(), unit)

    version = CLEAN_NAME if name == CLEAN_NAME else "1"  # what records have always said
    return NoiseProtocol(name, version, unit, summary, draw, makes_noise=False)


CLEAN = _as_they_come(CLEAN_NAME, "clean", "every pair is matched; all protocols are this one at ratio 0")
NATURAL = _as_they_come(NATURAL_NAME, "natural", "pairs as collected, mismatched by nature: --noise natural")
