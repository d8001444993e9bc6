"""Standard output and standard error that cannot be used to control the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ncbench.runtime.printable import printable


class PrintableStream:
    """A text stream that writes control characters as escapes: names in files of others may hold any character.

    Rich, which writes sequences of its own, bypasses it; `ncbench.cli.display.output.console` does the same for it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write text. Characters that the encoding of the stream does not have become escapes too."""
        stream = self.rich_proxied_file
        shown = printable(text)
        try:
            return stream.write(shown)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            return stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))

    def writelines(self, lines: Any) -> None:
        """Write several pieces of text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # what is written there would not pass through here
            raise AttributeError(name)
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Make both streams printable inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (PrintableStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
