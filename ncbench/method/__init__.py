"""The contract of a method, and the parts that methods are made of."""

import lazy_loader

SUBMODULES = {"evidence", "losses", "mixture", "scans", "schedules", "transport"}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=SUBMODULES)
