"""Names of weights in the published SGR and SAF networks: their translation, and the sizes that their shapes give."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

ENCODERS = ("img_enc.", "txt_enc.", "sim_enc.")
"""Prefixes of the weights of the image, text and similarity encoders."""

HEADS = {"sgr": "sim_enc.SGR_module.", "saf": "sim_enc.SAF_module."}
"""Prefixes of the weights that only one of the two backbones has."""

SIZES = {
    "image_dim": ("img_enc.fc.weight", 1),
    "n_regions": ("sim_enc.v_global_w.embedding_local.1.weight", 0),
    "vocabulary": ("txt_enc.embed.weight", 0),
    "embed": ("img_enc.fc.weight", 0),
    "similarity": ("sim_enc.sim_tranloc_w.weight", 0),
    "word": ("txt_enc.embed.weight", 1),
}
"""For each size, the weight and the axis of its shape that give it."""

# No entry is a prefix of another, so their order does not matter.
PREFIXES = {
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
}


def rename_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights under ncbench's names. Raises KeyError for a name that is not in the table."""
    return {_renamed(name): weight for name, weight in weights.items() if name != _BATCH_COUNT}


def published_name(ours: str) -> str:
    """Return the published name of the weight called `ours` in ncbench. Raises KeyError if there is none."""
    for published, prefix in PREFIXES.items():
        if ours.startswith(prefix):
            return published + ours.removeprefix(prefix)
    raise KeyError(ours)


_BATCH_COUNT = "sim_enc.SAF_module.bn.num_batches_tracked"  # ncbench's batch norm has no such counter


def _renamed(name: str) -> str:
    for prefix, ours in PREFIXES.items():
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    raise KeyError(name)
