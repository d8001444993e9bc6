"""Public annotations of which captions fit which images of MS-COCO's 5K test split: ECCV Caption and CxC.

The package `eccv_caption` has both (Chun et al., ECCV 2022; Parekh et al., EACL 2021), by the ids of MS-COCO. Its files
are read; its code never runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ncbench.data.dataset import IntVector, Split
from ncbench.data.fitting import FittingPairs
from ncbench.errors import UserError
from ncbench.runtime.bounded import read_bytes

NAMES = {"eccv": "ECCV Caption", "cxc": "CxC"}
PACKAGE = "eccv_caption"
INSTALL = "pip install 'ncbench[coco]'"
MAX_BYTES = 16 * 2**20
"""Of a file of ids or annotations."""


@dataclass(frozen=True)
class CocoRows:
    """The ids of MS-COCO of the rows of the 5K test split: `captions`, and `images`, that of each caption, int64."""

    captions: IntVector
    images: IntVector

    @classmethod
    def of_package(cls) -> CocoRows:
        """Return the rows as the package has them, the split of Karpathy and Fei-Fei. Raises UserError without it."""
        folder = _folder()
        try:
            captions = np.load(folder / "coco_test_ids.npy", allow_pickle=False).astype(np.int64)
        except (OSError, ValueError) as error:
            raise _damaged(folder / "coco_test_ids.npy", error) from error
        own = _read("original_caption_to_image.json")
        try:
            return cls(captions, np.array([own[int(caption)][0] for caption in captions], np.int64))
        except (KeyError, IndexError) as error:
            raise _damaged(folder / "original_caption_to_image.json", error) from error

    def check(self, split: Split, ids_file: Path) -> None:
        """Raise UserError unless a split has these rows, as far as the ids in `ids_file` tell.

        The file has one id of MS-COCO per line, in the order of the rows: of images, one per image or per caption, or
        of captions. Ids of images leave open in which order the captions of an image come.
        """
        each = _captions_per_image(self.images)
        sizes = len(split.images), len(split.captions)
        if sizes != (len(self.images) // each, len(self.captions)) or (split.true != np.arange(sizes[1]) // each).any():
            raise UserError(
                f"the split has {sizes[0]:,} images and {sizes[1]:,} captions, but the annotations are of MS-COCO's "
                f"test split of {len(self.images) // each:,} images with {each} captions each"
            )
        found = _read_ids(ids_file)
        if len(found) == len(self.captions) and (found == self.captions).all():
            return
        for expected in (self.images, self.images[::each]):
            if len(found) == len(expected):
                wrong = np.flatnonzero(found != expected)
                if len(wrong):
                    row = int(wrong[0])
                    raise UserError(
                        f"{ids_file}, line {row + 1}: found id {found[row]}, but the image of this row in the "
                        f"annotations is {expected[row]} ({len(wrong):,} of {len(found):,} lines differ); expected ids "
                        "of MS-COCO, in the order of its test split"
                    )
                return
        raise UserError(
            f"{ids_file}: found {len(found):,} ids, expected one per image ({len(self.images) // each:,}) or one per "
            f"caption ({len(self.captions):,})"
        )


def coco_fitting(name: str, rows: CocoRows) -> tuple[FittingPairs, FittingPairs]:
    """Return what fits by the annotations `name` of NAMES: captions for images, and images for captions.

    Only some images and captions are queries, so the pairs of both directions differ. ECCV Caption has two captions
    that are not among the five of their image: they cannot be retrieved, and are left out. Raises UserError without
    the package.
    """
    each = _captions_per_image(rows.images)
    image_rows = {int(image): row for row, image in enumerate(rows.images[::each])}
    caption_rows = {int(caption): row for row, caption in enumerate(rows.captions)}
    i2t, t2i = (_read(f"{name}_{kind}.json") for kind in ("image_to_caption", "caption_to_image"))
    try:
        captions_for_images = [
            (caption_rows[c], image_rows[i]) for i, found in i2t.items() for c in found if c in caption_rows
        ]
        images_for_captions = [(caption_rows[c], image_rows[i]) for c, found in t2i.items() for i in found]
    except KeyError as error:
        raise _damaged(_folder() / f"{name}_*.json", f"id {error} is not in the test split") from error
    return _pairs(captions_for_images), _pairs(images_for_captions)


def _pairs(found: Sequence[tuple[int, int]]) -> FittingPairs:
    unique = np.unique(np.array(found, np.int64).reshape(-1, 2), axis=0)
    return FittingPairs(unique[:, 0].copy(), unique[:, 1].copy())


def _captions_per_image(images: IntVector) -> int:
    """Return how many rows in turn have the id of the first image."""
    return int(np.argmax(np.append(images, -1) != images[0]))


def _folder() -> Path:
    """Return the folder of the annotations, without importing the package. Raises UserError if it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"annotations of MS-COCO need the package {PACKAGE}; install it with: {INSTALL}")
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _read(name: str) -> Mapping[int, Sequence[int]]:
    """Return a file of the package: lists of ids by id."""
    path = _folder() / name
    try:
        content: dict[int, list[int]] = msgspec.json.decode(
            read_bytes(path, MAX_BYTES), type=dict[int, list[int]], strict=False
        )
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return content


def _damaged(path: Path, error: Any) -> UserError:
    return UserError(f"{path}: cannot be read as annotations ({error}); install them again: {INSTALL}")


def _read_ids(path: Path) -> IntVector:
    try:
        lines = read_bytes(path, MAX_BYTES).decode().split()
        return np.array([int(line) for line in lines], np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: expected one id of MS-COCO per line ({error})") from error
