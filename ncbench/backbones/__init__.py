"""Backbones: networks that score images against captions.

Its public names are listed in the stub beside this file. They are loaded on first use, so that importing this package
loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
