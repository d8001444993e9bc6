"""Tables as commands print them."""

from __future__ import annotations


def body(table: str) -> list[list[str]]:
    """Return the cells of a printed table, row by row."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
