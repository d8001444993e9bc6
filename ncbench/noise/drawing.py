"""`ncbench.draw_noise`: the noise of a run."""

from __future__ import annotations

from operator import index
from typing import SupportsIndex

from ncbench.data.dataset import Dataset
from ncbench.errors import ArgumentError, UserError
from ncbench.noise import registry
from ncbench.noise.base import Noise
from ncbench.noise.ratio import CLEAN, NATURAL, Amount, amount_of
from ncbench.runtime.seeds import derive_seed


def draw_noise(
    dataset: Dataset, ratio: Amount = 0.4, *, protocol: str = "shuffle-images", seed: SupportsIndex = 0
) -> Noise:
    """Return the noise on the training pairs of `dataset`: the same as of a run with these arguments.

    `ratio` is a number in [0, 1), or "natural" for a dataset whose pairs are mismatched by nature. `protocol` is a name
    of `ncbench noise list`, `file:PATH` for a published index file, or the path of a plugin. At ratio 0, protocols are
    all the same, `clean`. `claimed` of the result (captions,) int64 is the image that each caption claims, and
    `clean(dataset.splits["train"].true)` says which pairs are matched.

    Raises UserError for arguments that are not valid, a request that the protocol cannot satisfy, natural noise on a
    dataset with ground truth, and drawn noise on one without.
    """
    if not isinstance(dataset, Dataset):
        raise ArgumentError(
            f"dataset: expected an ncbench.Dataset, as ncbench.load_dataset returns, found {type(dataset).__name__}"
        )
    if not isinstance(protocol, str):
        raise ArgumentError(f"protocol: expected the name of a noise protocol, found {protocol!r}")
    amount, number = amount_of(ratio), checked_seed(seed)
    if amount == NATURAL:
        if dataset.truth_known:
            raise UserError(
                f"--noise natural is for datasets that are noisy by nature; the pairs of {dataset.name} are clean. If "
                "they are not, say so: truth-known = false in a configuration file, or data featurize --truth unknown"
            )
        return draw(dataset, NATURAL, 0.0, number)
    if not dataset.truth_known:
        raise UserError(f"{dataset.name} is noisy by nature; expected --noise natural, found {amount:g}")
    noise = draw(dataset, protocol, amount, number)  # at ratio 0 too: an index file may contradict the ratio
    return noise if amount else draw(dataset, CLEAN, 0.0, number)


def draw(dataset: Dataset, protocol: str, ratio: float, seed: int) -> Noise:
    """Return the noise of a run with `seed` on the training split. Raises UserError like `registry.draw_noise`."""
    return registry.draw_noise(protocol, ratio, dataset.splits["train"], derive_seed(seed, "noise"))


def checked_seed(value: object) -> int:
    """Return a seed. Raises UserError unless it is a non-negative integer."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or index(value) < 0:
        raise UserError(f"seed {value!r} is not a non-negative integer")
    return index(value)
