"""Errors that a user can mend."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

HERE = Path(__file__).parent


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right. The CLI exits with 2."""


class UnknownNameError(UserError):
    """A name that nothing has."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a `name` that no `kind` (singular noun) has, with close matches and all that exist."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def in_words(error: BaseException) -> str:
    """Return an error in a line: what a UserError says, anything else with its kind."""
    return str(error) if isinstance(error, UserError) else repr(error)


def told(error: BaseException) -> str:
    """Return an error of somebody else's code in a line: its last one, and the last place in it that is theirs."""
    line = " ".join(traceback.format_exception_only(error)[-1].split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_foreign(Path(frame.filename))]
    return f"{line} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else line


def _is_foreign(file: Path) -> bool:
    """Return whether a file is ncbench's, a library's, or none at all."""
    return file.is_relative_to(HERE) or "site-packages" in file.parts or "lib" in file.parts or not file.exists()
