"""The contract of a method, and the parts that methods are made of."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"losses", "mixture", "transport"})
