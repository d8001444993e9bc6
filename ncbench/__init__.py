"""A benchmark suite for noisy correspondence.

Its public names are listed in the stub beside this file. They are loaded on first use, so that importing ncbench loads
neither torch nor pandas.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
