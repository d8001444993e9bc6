"""The checks of a method in a process of their own, which is ended where a check does not end by itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection

from ncbench.checks.method import suite
from ncbench.checks.method.candidate import Candidate
from ncbench.checks.verdicts import Check, Verdict
from ncbench.errors import UserError
from ncbench.method.base import Method
from ncbench.method.settings import Override
from ncbench.runtime.forks import CAN_FORK, Fork

CHECK_SECONDS = 60.0
"""Seconds that one check may take. The longest takes a few on one core, for a shipped method."""


def check_within_limits(
    method: type[Method],
    backbone: str = "vse",
    overrides: Sequence[Override] = (),
    seconds: float = CHECK_SECONDS,
) -> Generator[Verdict, None, None]:
    """Yield what `check_method_class` yields; a check that takes more than `seconds` fails, and ends the examination.

    Raises UserError as `check_method_class` does.
    """
    if not CAN_FORK:
        yield from suite.check_method_class(method, backbone, overrides)
        return

    def main(parent: Connection) -> None:
        try:
            for verdict in suite.check_method_class(method, backbone, overrides):
                parent.send(verdict)
        except UserError as error:
            parent.send(str(error))

    with Fork(main) as fork:
        for number, check in enumerate(suite.CHECKS):
            since = time.monotonic()
            found = _next(fork, seconds)
            if isinstance(found, UserError):
                raise found
            if isinstance(found, Verdict):
                yield found
                continue
            fork.signal(signal.SIGKILL)  # a method can ignore any other
            yield _failed(check, found, time.monotonic() - since)
            for other in suite.CHECKS[number + 1 :]:
                yield Verdict(other.name, "skipped", f"{check.name} did not end", other.proves, other.remedy, 0.0)
            return


def _next(fork: Fork, seconds: float) -> Verdict | UserError | str:
    """Return the next verdict; in words, why there is none."""
    try:
        if not fork.pipe.poll(seconds):
            return f"does not end within {seconds:g} s; --seconds sets another limit"
        found = fork.pipe.recv()
    except (EOFError, OSError):
        return "ends the process that checks it"
    return found if isinstance(found, Verdict) else UserError(str(found))


def _failed(check: Check[Candidate], words: str, seconds: float) -> Verdict:
    return Verdict(check.name, "fail", words, check.proves, "end train_epoch after one pass, and return", seconds)
