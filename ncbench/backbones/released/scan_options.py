"""The variant of a SCAN checkpoint: its weights are the same for all, its options tell."""

from __future__ import annotations

from pathlib import Path

from ncbench.backbones.attention import SHARPNESS
from ncbench.backbones.released.plain_pickle import Options
from ncbench.backbones.scan import SHARPNESS_OVER_WORDS
from ncbench.errors import UserError

EXPECTED = {"raw_feature_norm": "clipped_l2norm", "no_imgnorm": False, "no_txtnorm": False}
POOLING = {"LogSumExp": "lse", "Mean": "mean"}


def scan_variant(path: Path, options: object) -> tuple[str, float]:
    """Return the backbone of a SCAN checkpoint and the sharpness of its log-sum-exp, from the `options` in it.

    Raises UserError if there are none, and for variants that ncbench does not have.
    """
    values = options.values if isinstance(options, Options) else {}
    direction, pooling = values.get("cross_attn"), values.get("agg_func")
    if direction not in ("t2i", "i2t") or pooling not in POOLING:
        raise UserError(
            f"{path}: is a SCAN network with options cross_attn={direction!r}, agg_func={pooling!r}; "
            "expected t2i or i2t, and LogSumExp or Mean, in its `opt`"
        )
    sharpness = SHARPNESS if direction == "t2i" else SHARPNESS_OVER_WORDS
    expected = {
        "lambda_softmax": sharpness,
        "raw_feature_norm": "clipped_l2norm",
        "no_imgnorm": False,
        "no_txtnorm": False,
    }
    for name, value in expected.items():
        if values.get(name, value) != value:
            raise UserError(
                f"{path}: is a SCAN network with {name}={values[name]!r}, expected {value!r}; "
                "this variant is not supported"
            )
    lse = values.get("lambda_lse", 0.0) if pooling == "LogSumExp" else 0.0
    if not isinstance(lse, int | float) or not 0 <= lse < 1e6:
        raise UserError(f"{path}: is a SCAN network with lambda_lse={lse!r}, expected a positive number")
    return f"scan-{direction}-{POOLING[pooling]}", float(lse)
