"""Names of weights in published networks: their translation, and the sizes that their shapes give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

BATCH_COUNTER = "num_batches_tracked"
"""A buffer of batch norms that is ignored: evaluation does not use it, and older versions of torch did not save it."""

IMAGES, CAPTIONS, SIMILARITY = "img_enc.", "txt_enc.", "sim_enc."


@dataclass(frozen=True)
class Family:
    """Published networks whose weights have the same names.

    `encoders` are the prefixes of their parts, which may be saved as a list of state dicts. `sizes` are the weight and
    the axis of its shape that give a size. `prefixes` translate published names into those of ncbench; no published one
    is a prefix of another. Weights whose names begin with one of `unused` have no effect.
    """

    title: str
    encoders: Sequence[str]
    sizes: Mapping[str, tuple[str, int]]
    prefixes: Mapping[str, str]
    unused: Sequence[str] = ()

    def renamed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights under ncbench's names. Raises KeyError for a name that is not in the table."""
        unused = tuple(self.unused)
        return {self._renamed(name): w for name, w in weights.items() if not (unused and name.startswith(unused))}

    def published_name(self, ours: str) -> str:
        """Return the published name of the weight called `ours` in ncbench. Raises KeyError if there is none."""
        for published, prefix in self.prefixes.items():
            if ours.startswith(prefix):
                return published + ours.removeprefix(prefix)
        raise KeyError(ours)

    def _renamed(self, name: str) -> str:
        for prefix, ours in self.prefixes.items():
            if name.startswith(prefix):
                return ours + name.removeprefix(prefix)
        raise KeyError(name)


_IMAGE_DIM, _EMBED = ("img_enc.fc.weight", 1), ("img_enc.fc.weight", 0)
_WORDS = {"vocabulary": ("txt_enc.embed.weight", 0), "word": ("txt_enc.embed.weight", 1)}

GRAPHS = Family(
    "SGR or SAF",
    (IMAGES, CAPTIONS, SIMILARITY),
    {
        "image_dim": _IMAGE_DIM,
        "n_regions": ("sim_enc.v_global_w.embedding_local.1.weight", 0),
        "embed": _EMBED,
        "similarity": ("sim_enc.sim_tranloc_w.weight", 0),
        **_WORDS,
    },
    {
        "img_enc.fc.": "image_encoder.project.",
        "txt_enc.embed.": "caption_encoder.embedding.",
        "txt_enc.cap_rnn.": "caption_encoder.gru.",
        "sim_enc.v_global_w.embedding_local.0.": "image_summary.local_map.",
        "sim_enc.v_global_w.embedding_local.1.": "image_summary.local_norm.",
        "sim_enc.v_global_w.embedding_global.0.": "image_summary.global_map.",
        "sim_enc.v_global_w.embedding_global.1.": "image_summary.global_norm.",
        "sim_enc.v_global_w.embedding_common.0.": "image_summary.weigh.",
        "sim_enc.t_global_w.embedding_local.0.": "caption_summary.local_map.",
        "sim_enc.t_global_w.embedding_global.0.": "caption_summary.global_map.",
        "sim_enc.t_global_w.embedding_common.0.": "caption_summary.weigh.",
        "sim_enc.sim_tranloc_w.": "local_alignment.",
        "sim_enc.sim_tranglo_w.": "global_alignment.",
        "sim_enc.sim_eval_w.": "head.",
        **{f"sim_enc.SGR_module.{n}.graph_query_w.": f"steps.{n}.query." for n in range(3)},
        **{f"sim_enc.SGR_module.{n}.graph_key_w.": f"steps.{n}.key." for n in range(3)},
        **{f"sim_enc.SGR_module.{n}.sim_graph_w.": f"steps.{n}.update." for n in range(3)},
        "sim_enc.SAF_module.attn_sim_w.": "gate.",
        "sim_enc.SAF_module.bn.": "gate_norm.",
    },
    unused=(f"sim_enc.SAF_module.bn.{BATCH_COUNTER}",),  # ncbench's batch norm has no such counter
)
"""SGRAF and the papers on noisy correspondence that train its networks."""

GRAPH_HEADS = {"sgr": "sim_enc.SGR_module.", "saf": "sim_enc.SAF_module."}
"""Prefixes of the weights that only one of the two backbones has."""

VSE_INFINITY = Family(
    "VSE-infinity with a GRU",
    (IMAGES, CAPTIONS),
    {"image_dim": _IMAGE_DIM, "embed": _EMBED, **_WORDS},
    {
        "img_enc.fc.": "image_encoder.project.",
        "img_enc.mlp.layers.0.": "image_encoder.expand.",
        "img_enc.mlp.layers.1.": "image_encoder.contract.",
        "img_enc.mlp.bns.0.": "image_encoder.norm.",
        "img_enc.gpool.gru.": "image_pool.gru.",
        "img_enc.gpool.linear.": "image_pool.score.",
        "txt_enc.embed.": "caption_encoder.embedding.",
        "txt_enc.rnn.": "caption_encoder.gru.",
        "txt_enc.gpool.gru.": "caption_pool.gru.",
        "txt_enc.gpool.linear.": "caption_pool.score.",
    },
    unused=("img_enc.mlp.bns.1.",),
)
"""vse_infty with regions and words, as trained by CRCL."""

SCAN = Family(
    "SCAN",
    (IMAGES, CAPTIONS),
    {"image_dim": _IMAGE_DIM, "embed": _EMBED, **_WORDS},
    {
        "img_enc.fc.": "image_encoder.project.",
        "txt_enc.embed.": "caption_encoder.embedding.",
        "txt_enc.rnn.": "caption_encoder.gru.",
    },
)
"""SCAN, whose similarity has no weights: its options say which variant it is."""
