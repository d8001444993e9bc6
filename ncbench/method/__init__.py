"""The contract of a method, and building blocks of methods."""

import lazy_loader

SUBMODULES = {"evidence", "losses", "mixture", "rematching", "scans", "schedules", "transport"}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=SUBMODULES)
