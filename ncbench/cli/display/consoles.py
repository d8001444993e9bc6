"""Consoles of rich that cannot be used to control the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from ncbench.runtime.printable import printable


class PrintableConsole(Console):
    """Prints control characters in strings, such as cells and titles of tables, as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text of a string that may hold markup."""
        return super().render_str(printable(text), **options)
