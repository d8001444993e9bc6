"""Consoles of rich that cannot be used to control the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from ncbench.runtime.printable import printable


class PrintableConsole(Console):
    """Prints control characters in whatever it is given, such as cells and titles of tables, as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text of a string that may hold markup."""
        return super().render_str(printable(text), **options)

    def render(self, *given: Any, **options: Any) -> Iterator[Segment]:
        """Yield the segments of anything that can be printed; those that control the terminal are of rich itself."""
        for segment in super().render(*given, **options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
