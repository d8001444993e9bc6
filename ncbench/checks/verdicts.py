"""Checks and their verdicts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from ncbench.errors import error_with_location, location_of

Subject = TypeVar("Subject")
Outcome: TypeAlias = Literal["pass", "fail", "skipped"]

FIX_THE_LINE = "fix the line that is named; `ncbench -v` in front of the command shows more"

LOG = logging.getLogger(__name__)


class Failed(Exception):  # noqa: N818 - a verdict
    """Raised by a check that fails; the message says what was found.

    `remedy` replaces that of the check, where this failure has another.
    """

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found)
        self.remedy = remedy


class Skipped(Exception):  # noqa: N818
    """Raised by a check that does not apply; the message says why."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One requirement. `examine` returns a description of what it measured, or raises Failed or Skipped.

    `proves` states the requirement, `remedy` how to fix a failure. The check is skipped if one of the checks in `after`
    failed.
    """

    name: str
    proves: str
    remedy: str
    examine: Callable[[Subject], str]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Result of a check: `detail` is what was measured, what is wrong, or why it was skipped."""

    check: str
    outcome: Outcome
    detail: str
    proves: str
    remedy: str
    seconds: float


def judge(checks: Sequence[Check[Subject]], subject: Subject) -> Iterator[Verdict]:
    """Yield the verdict of each check on `subject`, in order. An unexpected exception counts as a failure."""
    failed: set[str] = set()  # includes checks skipped because of a failure
    for check in checks:
        since = time.perf_counter()
        missing = [name for name in check.after if name in failed]
        if missing:
            outcome, detail, remedy = *_skipped(missing), check.remedy
        else:
            outcome, detail, remedy = _examined(check, subject)
        if missing or outcome == "fail":
            failed.add(check.name)
        LOG.info("%s: %s (%.1f s)", check.name, outcome, time.perf_counter() - since)
        yield Verdict(check.name, outcome, detail, check.proves, remedy, time.perf_counter() - since)


def _skipped(missing: Sequence[str]) -> tuple[Outcome, str]:
    return "skipped", f"requires {missing[0]} to pass"


def _examined(check: Check[Subject], subject: Subject) -> tuple[Outcome, str, str]:
    """Return the outcome, its detail, and the remedy: an error that names its line is to be fixed there."""
    try:
        return "pass", check.examine(subject), check.remedy
    except Failed as failure:
        return "fail", str(failure), failure.remedy or check.remedy
    except Skipped as reason:
        return "skipped", str(reason), check.remedy
    except Exception as error:
        return "fail", error_with_location(error), FIX_THE_LINE if location_of(error) else check.remedy
