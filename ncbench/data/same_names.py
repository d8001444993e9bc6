"""Telling datasets of one name apart, by the first digits of their digests."""

from __future__ import annotations

from collections.abc import Iterable

MIN_DIGITS = 8


def told_apart(datasets: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a label for each (name, digest): the name, or `NAME@DIGITS` where other data have the same name.

    The digits are as many as it takes to differ, at least MIN_DIGITS. `--dataset` takes such a label for imported
    datasets.
    """
    digests: dict[str, set[str]] = {}
    for name, digest in datasets:
        digests.setdefault(name, set()).add(digest)
    return {
        (name, digest): name if len(found) == 1 else f"{name}@{digest[: _digits(found)]}"
        for name, found in digests.items()
        for digest in found
    }


def _digits(digests: set[str]) -> int:
    length = MIN_DIGITS
    while len({digest[:length] for digest in digests}) < len(digests):
        length += 1
    return length
