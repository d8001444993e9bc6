"""The category of warnings about data that can be used, but that may not be what the user thinks it is."""

from __future__ import annotations


class DataWarning(UserWarning):
    """The data can be used, but scores may not mean what they seem to. A separate category, to filter or count."""
