"""Errors that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right. The CLI exits with 2."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a `name` that no `kind` (singular noun) has, with close matches and all that exist."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return UserError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")
