"""How numbers are set in pages."""

from __future__ import annotations

import re

NBSP = "\N{NO-BREAK SPACE}"


def unbroken(text: str) -> str:
    """Return `text` with no-break spaces within quantities such as 351.7 ± 17.3, 1,234 MiB and 30 s."""
    text = re.sub(r"(?<=\d) ± (?=\d)", f"{NBSP}±{NBSP}", text)
    return re.sub(r"(?<=\d) (?=(?:MiB|GiB|s|%|h)(?:\W|$))", NBSP, text)
