"""Checks and their verdicts: what was examined, whether it holds, and what to do where it does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from ncbench.errors import told

Subject = TypeVar("Subject")
Outcome: TypeAlias = Literal["pass", "fail", "skipped"]

LOG = logging.getLogger(__name__)


class Failed(Exception):  # noqa: N818 - a verdict
    """What a check examines does not hold; says what was found."""


class Skipped(Exception):  # noqa: N818
    """A check does not apply; says why."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One thing that must hold. `examine` returns what it measured, or raises Failed or Skipped.

    `proves` says what holds if it passes, `remedy` what to do if it fails. Where one of the checks in `after` has
    failed, its verdict would mean nothing: it is skipped.
    """

    name: str
    proves: str
    remedy: str
    examine: Callable[[Subject], str]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How a check came out: `detail` is what was measured, found wrong, or the reason for skipping it."""

    check: str
    outcome: Outcome
    detail: str
    proves: str
    remedy: str
    seconds: float


def judge(checks: Sequence[Check[Subject]], subject: Subject) -> Iterator[Verdict]:
    """Yield the verdict of each check on `subject`, in order. Whatever a check raises is a failure, told in a line."""
    unsound: set[str] = set()  # what has failed, or was skipped for that
    for check in checks:
        since = time.perf_counter()
        missing = [name for name in check.after if name in unsound]
        if missing:
            outcome, detail = _skipped(missing)
        else:
            outcome, detail = _examined(check, subject)
        if missing or outcome == "fail":
            unsound.add(check.name)
        LOG.info("%s: %s (%.1f s)", check.name, outcome, time.perf_counter() - since)
        yield Verdict(check.name, outcome, detail, check.proves, check.remedy, time.perf_counter() - since)


def _skipped(missing: Sequence[str]) -> tuple[Outcome, str]:
    return "skipped", f"means something only once {missing[0]} passes"


def _examined(check: Check[Subject], subject: Subject) -> tuple[Outcome, str]:
    try:
        return "pass", check.examine(subject)
    except Failed as failure:
        return "fail", str(failure)
    except Skipped as reason:
        return "skipped", str(reason)
    except Exception as error:
        return "fail", told(error)
