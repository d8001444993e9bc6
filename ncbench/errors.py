"""Errors caused by user input, and errors as one-line messages."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).parent


class UserError(Exception):
    """Invalid user input. The message is one line: what is wrong, where, and what is expected. The CLI exits with 2."""


class ArgumentError(UserError, ValueError):
    """An argument of a public function that is not what was expected. The message begins with its name."""


class UnknownNameError(UserError):
    """A name that does not exist."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a `name` that no `kind` (singular noun) has, with close matches and all `known` names."""
    names = sorted(known)
    close = [known_name for known_name in names if known_name.lower() == name.lower()]
    close = close or get_close_matches(name.lower(), names, n=3, cutoff=0.55)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def brief(error: object, length: int = 300) -> str:
    """Return an error, or text from a file that may be very long, in one line of bounded length."""
    text = " ".join(str(error)[: 4 * length].split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def error_message(error: BaseException) -> str:
    """Return an error in one line: the message of a UserError, the repr of any other."""
    return str(error) if isinstance(error, UserError) else repr(error)


def error_with_location(error: BaseException) -> str:
    """Return an error raised by plugin code in one line, with the last line of plugin code in its traceback."""
    line = " ".join(traceback.format_exception_only(error)[-1].split())
    return f"{line}{location_of(error)}"


def location_of(error: BaseException) -> str:
    """Return the last line of plugin code in a traceback as " (my_method.py, line 12)"; "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(Path(frame.filename))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _is_library(file: Path) -> bool:
    """Return whether a file belongs to ncbench or to a library, or does not exist."""
    return file.is_relative_to(PACKAGE) or "site-packages" in file.parts or "lib" in file.parts or not file.exists()
