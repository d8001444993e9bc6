"""What makes features of pictures: the built-in descriptor, or a vision model of timm or transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncbench.data.imported.pictures import Picture
from ncbench.data.scenes.descriptor import region_features
from ncbench.data.scenes.render import SIDE
from ncbench.errors import UserError

if TYPE_CHECKING:
    import torch

Describe: TypeAlias = Callable[[Iterable[Picture]], NDArray[np.float32]]

BUILT_IN = "builtin"
GRID = 4
"""A model's map of a picture is averaged in GRID x GRID fields, its regions."""

_BATCH = 16


def descriptor(name: str) -> Describe:
    """Return what makes features (n, R, D) float32 of pictures (H, W, 3) uint8; "" is "builtin".

    `timm:NAME` and `transformers:NAME` are models of these libraries, with the weights that these find or fetch.
    Raises UserError for another name, a library that is not installed, and a model that cannot be loaded.
    """
    library, _, model = name.partition(":")
    if name in ("", BUILT_IN):
        return describe_built_in
    if library not in _LOADERS or not model:
        raise UserError(f"unknown features {name!r}; expected {BUILT_IN}, timm:NAME or transformers:NAME")
    try:
        module = import_module(library)
    except Exception as error:  # one that does not fit the others installed raises errors of many kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"features {name!r} need {library}, which cannot be imported ({reason}); `pip install ncbench[vision]` "
            f"installs it, and {BUILT_IN} needs nothing"
        ) from error
    try:
        return _LOADERS[library](module, model)
    except Exception as error:  # of the library, the hub's client, the file of weights
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"features {name!r}: {library} cannot load this model ({reason})") from error


def describe_built_in(pictures: Iterable[Picture]) -> NDArray[np.float32]:
    """Return the region features of `scenes` of each picture, which is first scaled to the size of its pictures."""
    return np.stack([region_features(_scaled(picture)) for picture in pictures])


def _scaled(picture: Picture) -> Picture:
    if picture.shape[:2] == (SIDE, SIDE):
        return picture
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _timm(timm: Any, name: str) -> Describe:
    model = timm.create_model(name, pretrained=True, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def prepare(picture: Picture) -> torch.Tensor:
        tensor: torch.Tensor = transform(Image.fromarray(picture))
        return tensor

    def look(batch: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = model.forward_features(batch)
        return seen.permute(0, 3, 1, 2) if last and seen.ndim == 4 else seen

    return _describe(model, prepare, look)


def _transformers(transformers: Any, name: str) -> Describe:
    processor = transformers.AutoImageProcessor.from_pretrained(name, use_safetensors=True)
    whole = transformers.AutoModel.from_pretrained(name, use_safetensors=True)
    model = getattr(whole, "vision_model", whole)  # of a model of images and texts

    def prepare(picture: Picture) -> torch.Tensor:
        tensor: torch.Tensor = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0]
        return tensor

    def look(batch: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = model(pixel_values=batch).last_hidden_state
        return seen

    return _describe(model, prepare, look)


_LOADERS: dict[str, Callable[[Any, str], Describe]] = {"timm": _timm, "transformers": _transformers}


def _describe(
    model: Any, prepare: Callable[[Picture], torch.Tensor], look: Callable[[torch.Tensor], torch.Tensor]
) -> Describe:
    """Return what makes regions of what a model sees, a few pictures at a time, on CUDA where there is any."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().to(device)

    @torch.inference_mode()
    def describe(pictures: Iterable[Picture]) -> NDArray[np.float32]:
        prepared = map(prepare, pictures)
        seen = [regions_of(look(torch.stack(some).to(device))) for some in _grouped(prepared)]
        features: NDArray[np.float32] = torch.cat(seen).float().cpu().numpy()
        return features

    return describe


def _grouped(items: Iterator[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    while some := list(islice(items, _BATCH)):
        yield some


def regions_of(seen: torch.Tensor) -> torch.Tensor:
    """Return regions (n, R, D) of a model's output: maps (n, D, H, W), patches (n, N, D) or vectors (n, D).

    Maps, and patches that make a square behind what stands before them (a class token), are averaged in GRID x GRID
    fields; smaller maps stay as they are.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    if seen.ndim == 2:
        return seen[:, None]
    if seen.ndim == 3:
        side = math.isqrt(seen.shape[1])
        patches = seen[:, seen.shape[1] - side * side :]
        seen = patches.transpose(1, 2).reshape(len(seen), -1, side, side)
    fields = adaptive_avg_pool2d(seen, (min(GRID, seen.shape[2]), min(GRID, seen.shape[3])))
    return fields.flatten(2).transpose(1, 2)
