"""Computing features of pictures: the built-in descriptor, or a vision model of timm or transformers."""

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
GRID_SIZE = 4
"""The feature map of a picture is averaged over GRID_SIZE x GRID_SIZE cells, its regions."""

_BATCH_SIZE = 16


def descriptor(name: str) -> Describe:
    """Return a function from pictures (H, W, 3) uint8 to features (n, R, D) float32; "" means "builtin".

    `timm:NAME` and `transformers:NAME` are pretrained models of these libraries, downloaded if necessary. Raises
    UserError for an unknown name, a library that is not installed, and a model that cannot be loaded.
    """
    library, _, model = name.partition(":")
    if name in ("", BUILT_IN):
        return describe_built_in
    if library not in _LOADERS or not model:
        raise UserError(f"unknown features {name!r}; expected {BUILT_IN}, timm:NAME or transformers:NAME")
    try:
        module = import_module(library)
    except Exception as error:  # an incompatible version may raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"features {name!r} need {library}, which cannot be imported ({reason}); "
            f"run `pip install ncbench[vision]`, or use {BUILT_IN}"
        ) from error
    try:
        return _LOADERS[library](module, model)
    except Exception as error:  # from the library, the hub client, or the weights
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"features {name!r}: {library} cannot load this model ({reason})") from error


def describe_built_in(pictures: Iterable[Picture]) -> NDArray[np.float32]:
    """Return the region features that `scenes` uses, after scaling each picture to the size of its pictures."""
    return np.stack([region_features(_scaled(picture)) for picture in pictures])


def _scaled(picture: Picture) -> Picture:
    if picture.shape[:2] == (SIDE, SIDE):
        return picture
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _timm(timm: Any, name: str) -> Describe:
    model = timm.create_model(name, pretrained=True, num_classes=0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def prepare(picture: Picture) -> torch.Tensor:
        tensor: torch.Tensor = transform(Image.fromarray(picture))
        return tensor

    def look(batch: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = model.forward_features(batch)
        return seen.permute(0, 3, 1, 2) if channels_last and seen.ndim == 4 else seen

    return _describe(model, prepare, look)


def _transformers(transformers: Any, name: str) -> Describe:
    processor = transformers.AutoImageProcessor.from_pretrained(name, use_safetensors=True)
    whole = transformers.AutoModel.from_pretrained(name, use_safetensors=True)
    model = getattr(whole, "vision_model", whole)  # the vision part of an image-text model

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
    """Return a function that computes regions with a model in batches, on CUDA if available."""
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
    while some := list(islice(items, _BATCH_SIZE)):
        yield some


def regions_of(seen: torch.Tensor) -> torch.Tensor:
    """Return regions (n, R, D) from a model's output: maps (n, D, H, W), patches (n, N, D) or vectors (n, D).

    Maps, and patches that form a square after any leading tokens such as a class token, are averaged over GRID_SIZE x
    GRID_SIZE cells. Smaller maps are kept.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    if seen.ndim == 2:
        return seen[:, None]
    if seen.ndim == 3:
        side = math.isqrt(seen.shape[1])
        patches = seen[:, seen.shape[1] - side * side :]
        seen = patches.transpose(1, 2).reshape(len(seen), -1, side, side)
    fields = adaptive_avg_pool2d(seen, (min(GRID_SIZE, seen.shape[2]), min(GRID_SIZE, seen.shape[3])))
    return fields.flatten(2).transpose(1, 2)
