"""A small package of annotations in the layout of `eccv_caption`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from ncbench.data.coco_annotations import PACKAGE

Lists = Mapping[int, Sequence[int]]


def install_annotations(
    site: Path, monkeypatch: pytest.MonkeyPatch, captions: Sequence[int], images: Sequence[int], **files: Lists
) -> Path:
    """Install a package whose code must not run; return the folder of its data.

    Row i of the split has the id captions[i], and its image the id images[i]. `files` are of annotations, by name.
    """
    folder = site / PACKAGE
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    np.save(folder / "data" / "coco_test_ids.npy", np.array(captions))
    owners: Lists = {caption: [image] for caption, image in zip(captions, images, strict=True)}
    for name, content in {"original_caption_to_image": owners, **files}.items():
        (folder / "data" / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    return folder / "data"
