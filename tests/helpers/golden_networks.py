"""Networks and numbers of the released code, from the golden fixtures."""

from __future__ import annotations

import json

import numpy as np
import torch
from places import FIXTURES
from torch import Tensor

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.registry import build_backbone
from ncbench.backbones.released.names import GRAPHS

Golden = dict[str, Tensor]


def load_golden(name: str) -> tuple[Golden, Backbone]:
    """Return the golden fixture of a released network, and the network, in evaluation mode and without dropout."""
    stored = np.load(FIXTURES / f"{name}.npz", allow_pickle=False)
    meta = json.loads(str(stored["meta"]))
    golden = {key: torch.from_numpy(np.asarray(stored[key])) for key in stored.files if key != "meta"}
    sizes = Sizes(
        meta["img_dim"],
        golden["images"].shape[1],
        meta["vocab_size"],
        embed=meta["embed_size"],
        similarity=meta["sim_dim"],
        word=meta["word_dim"],
        dropout=0.0,
    )
    backbone = build_backbone(name, sizes)
    weights = {key.removeprefix("weights/"): value for key, value in golden.items() if key.startswith("weights/")}
    backbone.load_state_dict(GRAPHS.renamed(weights), strict=True)
    return golden, backbone.eval()
