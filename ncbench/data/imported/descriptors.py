"""What makes features of pictures: the built-in descriptor, which sees colours, edges and shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncbench.data.imported.pictures import Picture
from ncbench.data.scenes.descriptor import region_features
from ncbench.data.scenes.render import SIDE
from ncbench.errors import UserError

Describe: TypeAlias = Callable[[Sequence[Picture]], NDArray[np.float32]]

BUILT_IN = "builtin"


def descriptor(name: str) -> Describe:
    """Return the function from pictures (H, W, 3) uint8 to features (n, R, D) float32 by `name`; "" is "builtin"."""
    if name in ("", BUILT_IN):
        return describe_built_in
    raise UserError(f"unknown features {name!r}; right would be {BUILT_IN}")


def describe_built_in(pictures: Sequence[Picture]) -> NDArray[np.float32]:
    """Return the region features of `scenes` of each picture, which is first scaled to the size of its pictures."""
    return np.stack([region_features(_scaled(picture)) for picture in pictures])


def _scaled(picture: Picture) -> Picture:
    if picture.shape[:2] == (SIDE, SIDE):
        return picture
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
