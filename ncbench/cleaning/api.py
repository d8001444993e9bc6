"""`ncbench.find_mismatched`: arrays in, a table out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ncbench.data.feature_sizes import bad_size, first_bad_row
from ncbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def find_mismatched(
    images: Any,
    texts: Any,
    *,
    index: Sequence[Any] | None = None,
    scorers: str | Sequence[str] | None = None,
    rule: str = "ratio",
    drop_from: float | None = None,
    review_from: float | None = None,
    share: float | None = None,
    backbone: str = "vse",
    epochs: float = 8.0,
    folds: int = 5,
    device: str = "auto",
    seed: int = 0,
) -> pd.DataFrame:
    """Return which pairs of images and texts are mismatched, one row per pair, in the order given.

    `images` are vectors (n, D) or regions (n, R, D), `texts` vectors (n, T) or n strings: arrays, tensors, or a
    DataFrame or Series, whose index is kept unless `index` is given. Equal images are one image. Columns:
    `p_mismatched` in [0, 1]; `verdict`, `kept`, `review` or `dropped`; `partner`, the index of a pair whose image fits
    the text better, or None; and the score of each scorer, in standard deviations above random pairs.

    `scorers` are `cosine`, `linear`, `neighbours` and names of methods (default: those that fit, and `l2rm` for at most
    20,000 pairs). No pair is judged by a model that was trained on it. `rule`, `drop_from`, `review_from` and `share`
    are those of `ncbench clean`. The estimated share of mismatched pairs is in `attrs`: `ratio`, `ratio_low` and
    `ratio_high`. Raises UserError for arrays that do not fit.
    """
    import pandas as pd

    from ncbench.cleaning.clean import Options, judged
    from ncbench.cleaning.inputs.content import Content
    from ncbench.cleaning.scoring import Training, as_texts, check_scorers
    from ncbench.cleaning.verdicts import VERDICTS, Rule
    from ncbench.data.dataset import ImageFeatures
    from ncbench.runtime.device import choose_device

    labels = _index(images, texts, index)
    features = _numbers("images", images)
    if features.ndim == 2:
        features = features[:, None]
    strings = as_texts(texts)
    vectors = None if strings is not None else _numbers("texts", texts)
    count = len(strings) if strings is not None else len(vectors) if vectors is not None else 0
    if features.ndim != 3 or (vectors is not None and vectors.ndim != 2):
        raise UserError(
            f"images have shape {tuple(np.shape(images))} and texts {tuple(np.shape(texts))}; expected (n, D) or "
            "(n, R, D), and (n, T) or n strings"
        )
    if not count == len(features) == len(labels):
        raise UserError(
            f"found {len(features):,} images, {count:,} texts and {len(labels):,} labels; expected as many of each"
        )
    named = (scorers,) if isinstance(scorers, str) else None if scorers is None else tuple(scorers)
    training = Training(backbone, epochs, choose_device(device))
    if rule not in ("ratio", "threshold", "share"):
        raise UserError(f"rule {rule!r} is unknown; expected ratio, threshold or share")
    options = Options(named, Rule(rule, drop_from, review_from, share), training, folds, seed)  # type: ignore[arg-type]
    if named is not None:
        check_scorers(named, training, vectors is not None)
    claimed, first = _images(features)
    rows = np.arange(count)
    content = Content(
        rows=rows,
        counts=np.ones(count, np.int64),
        claimed=claimed,
        texts=strings,
        ids=None,
        first_rows=first,
        names=[""] * len(first),
        features=ImageFeatures([features[first] if len(first) < count else features]),
        vectors=vectors,
    )
    with tempfile.TemporaryDirectory(prefix="ncbench-") as folder:
        found = judged(content, options, Path(folder))
    table = pd.DataFrame({"p_mismatched": found.findings.together.p_mismatched}, index=pd.Index(labels))
    table["verdict"] = [VERDICTS[verdict] for verdict in found.verdicts]
    table["partner"] = pd.Series(
        [None if pair < 0 else labels[pair] for pair in found.partners.pair], table.index, dtype=object
    )
    for name, opinion in found.findings.each.items():
        table[name] = opinion.scores
    ratio = found.findings.together.ratio
    table.attrs |= {"ratio": ratio.estimate, "ratio_low": ratio.low, "ratio_high": ratio.high}
    return table


def _index(images: Any, texts: Any, index: Sequence[Any] | None) -> list[Any]:
    """Return the label of each pair."""
    if index is not None:
        return list(index)
    for given in (texts, images):
        if hasattr(given, "index") and hasattr(given, "to_numpy"):
            return list(given.index)
    return list(range(len(images)))


def _numbers(name: str, values: Any) -> NDArray[Any]:
    """Return numbers as an array, float16 or float32. Raises UserError for others, and absurd ones."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected an array of numbers, {error}") from error
    if found.dtype.kind not in "fiu":
        raise UserError(f"{name}: found an array of {found.dtype}, expected numbers, or strings for texts")
    if found.dtype not in (np.float16, np.float32):
        found = found.astype(np.float32)
    if found.ndim and (bad := first_bad_row(found)):
        raise UserError(f"{name}: row {bad[0]} {bad_size(bad[1])}; fix or remove it")
    return found


def _images(features: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image of each pair, equal ones once, and the first pair of each image."""
    import hashlib

    seen: dict[bytes, int] = {}
    claimed, first = np.empty(len(features), np.int64), []
    for row, vectors in enumerate(features):
        key = hashlib.blake2b(vectors.tobytes(), digest_size=16).digest()
        if key not in seen:
            seen[key] = len(seen)
            first.append(row)
        claimed[row] = seen[key]
    return claimed, np.array(first, np.int64)
