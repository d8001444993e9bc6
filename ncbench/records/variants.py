"""Which settings tell the runs of a method apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Settings = Mapping[str, object]


def differing_keys(rows: Iterable[Settings]) -> set[str]:
    """Return the keys whose values differ between rows; a missing key counts as None."""
    first, *others = rows
    keys = dict.fromkeys(key for row in (first, *others) for key in row)
    return {key for key in keys if any(row.get(key) != first.get(key) for row in others)}


def settings_to_name(rows: Sequence[Settings], presets: Iterable[Settings | None]) -> list[list[str]]:
    """Return for each of the runs of a method its settings that tell it from the others, as key=value.

    Runs with the settings of the preset have none. Others name what differs between runs and is not in the preset; if
    nothing of that is left, or the preset is unknown, all that differs between runs. `presets` yields one per row, None
    if it is unknown; nothing is taken from it if all rows are alike.
    """
    differing = differing_keys(rows)
    if not differing:
        return [[] for _ in rows]
    # What older records lack has no usual value: nobody can say what they were made with.
    everywhere = set[str]().union(*rows).intersection(*rows)
    named = []
    for row, usual in zip(rows, presets, strict=True):
        found = {} if row == usual else {key: value for key, value in row.items() if key in differing}
        known = {key: value for key, value in (usual or {}).items() if key in everywhere}
        changed = {key: value for key, value in found.items() if key not in known or value != known[key]}
        named.append([f"{key}={value}" for key, value in (changed or found).items()])
    return named
