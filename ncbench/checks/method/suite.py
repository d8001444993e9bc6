"""All checks of a method, in order."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from ncbench.checks.method import beliefs, blindness, continuation, learning, numbers, odd_data, spending
from ncbench.checks.method.candidate import Candidate
from ncbench.checks.verdicts import Check, Verdict, judge
from ncbench.method.base import Method
from ncbench.method.settings import Override

CHECKS: Sequence[Check[Candidate]] = (
    learning.TRAINS,
    spending.METERED,
    spending.BUDGET,
    continuation.STATE,
    beliefs.CHECK,
    learning.LEARNS,
    spending.OUTSIDE,
    continuation.SAME_SEED,
    continuation.RESUME,
    blindness.CHECK,
    numbers.CHECK,
    learning.DEVICES,
    learning.HEAVY_NOISE,
    odd_data.SHORT_BATCH,
    odd_data.ONE_CAPTION,
    odd_data.ONE_REGION,
)


def check_method_class(
    method: type[Method], backbone: str = "vse", overrides: Sequence[Override] = ()
) -> Generator[Verdict, None, None]:
    """Yield the verdicts on a method, in the order of CHECKS, as they arrive. All records are deleted.

    The method trains with its preset for `shapes` or else `scenes`, changed by `overrides`. Raises UserError for
    settings that it refuses, and for a backbone that is unknown, an ensemble or not suitable for this method.
    """
    with tempfile.TemporaryDirectory(prefix="ncbench-check-") as folder:
        candidate = Candidate(method, Path(folder), backbone, overrides=tuple(overrides))
        yield from judge(CHECKS, candidate)
