# The public names: `ncbench.backbones.__getattr__` reads this file, and loads each on first use.
from .base import Backbone as Backbone
from .base import Encoded as Encoded
from .base import Sizes as Sizes
from .registry import BACKBONES as BACKBONES
from .registry import backbone_class as backbone_class
from .registry import build_backbone as build_backbone
from .registry import check_backbone as check_backbone
from .registry import members_of as members_of
from .registry import resolve as resolve
from .vectors import VectorBackbone as VectorBackbone
