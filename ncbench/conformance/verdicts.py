"""Checks and their verdicts: what was examined, whether it holds, and what to do where it does not."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

Subject = TypeVar("Subject")
Outcome: TypeAlias = Literal["pass", "fail", "skipped"]

LOG = logging.getLogger(__name__)
HERE = Path(__file__).parents[1]


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


def told(error: BaseException) -> str:
    """Return an error in a line: its last one, and the last place in it that is neither ncbench's nor a library's."""
    line = " ".join(traceback.format_exception_only(error)[-1].split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_foreign(Path(frame.filename))]
    return f"{line} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else line


def _is_foreign(file: Path) -> bool:
    return file.is_relative_to(HERE) or not file.exists() or "site-packages" in file.parts or "lib" in file.parts
