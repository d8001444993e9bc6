"""`ncbench.record`: the record of a training that ncbench did not execute."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from ncbench.budget import SELF_REPORTED
from ncbench.data.dataset import Dataset, Split
from ncbench.errors import ArgumentError, UserError
from ncbench.evaluation.beliefs import Beliefs
from ncbench.evaluation.retrieval import FloatVector, Similarities, rank
from ncbench.method.registry import GROUP
from ncbench.noise.base import Noise
from ncbench.noise.drawing import checked_seed
from ncbench.noise.storage import save_noise
from ncbench.plugins.discovery import NAME, plugin_names
from ncbench.records.arrays import BELIEFS_FILE, save_beliefs
from ncbench.records.judgement import judge
from ncbench.records.lease import take
from ncbench.records.measurements import Environment, Measurements, Seconds
from ncbench.records.record import MEASUREMENTS_FILE, RESULT_FILE, noise_path
from ncbench.records.result import MAX_WORK, Judgement, Result, Selected, WorkSpent
from ncbench.records.scored import save_scores
from ncbench.records.spec import RunSpec
from ncbench.records.store import Store
from ncbench.runtime.array_like import Numbers, as_floats
from ncbench.runtime.files import write_json

MAX_SETTINGS = 10_000
"""Characters of settings as JSON."""


class _Outsider:
    """The name of a method that is defined elsewhere."""

    source = ""

    def __init__(self, name: str) -> None:
        self.name = name


def record(
    test: Numbers,
    dev: Numbers,
    dataset: Dataset,
    noise: Noise,
    *,
    method: str,
    seconds: float,
    device: str,
    seed: SupportsIndex = 0,
    flops: float | None = None,
    backbone: str = "own",
    settings: Mapping[str, object] | None = None,
    p_clean: Numbers | None = None,
    sees_truth: bool = False,
    out: Path | str = "runs",
) -> Path:
    """Write the record of a training of your own into the folder of records `out`, and return its folder.

    `test` and `dev` are the similarities (images, captions) of these splits under the weights that dev selected, arrays
    or tensors (`ncbench.score_split`). `dataset` and `noise` are what was trained on (`ncbench.load_dataset`,
    `ncbench.draw_noise`), `seed` that of the training. The cost is as you tell it: `seconds` of training on `device`,
    such as "1 x A100", and `flops`, if known. `method` is a name of your own, `backbone` that of the network, and
    `settings` are plain values that tell variants of the method apart. `p_clean` (pairs,), the probabilities that the
    training pairs are matched, is judged by the ground truth. Set `sees_truth` if training used the ground truth.

    Reports rank such runs among themselves, under "self-reported budget": nobody bounded or counted their compute.

    Raises ArgumentError for an argument that is not valid, and UserError if `out` has this run already.
    """
    if not isinstance(dataset, Dataset):
        raise ArgumentError(
            f"dataset: expected an ncbench.Dataset, as ncbench.load_dataset returns, found {type(dataset).__name__}"
        )
    train = dataset.splits["train"]
    _check_noise(noise, train)
    _check_name("method", method)
    _check_name("backbone", backbone)
    if method in plugin_names(GROUP):
        raise ArgumentError(
            f"method: {method} is a method of ncbench; expected a name of your own, such as {method}-mine"
        )
    if not (isinstance(device, str) and device.strip()):
        raise ArgumentError(f'device: expected what the training ran on, such as "1 x A100", found {device!r}')
    scores = {name: _scores(name, given, dataset.splits[name]) for name, given in (("test", test), ("dev", dev))}
    spec = RunSpec.of(
        dataset,
        noise,
        _Outsider(method),
        _plain(settings or {}),
        backbone=backbone,
        budget=SELF_REPORTED,
        evaluations=1,
        seed=checked_seed(seed),
        sizes={},
    )
    known = dataset.truth_known
    beliefs = Beliefs(
        p_clean=None if p_clean is None else _probabilities(p_clean, len(train.captions)),
        soft_labels=None,
        rematches=None,
        given_clean=np.empty(0, np.int64),
        clean=noise.clean(train.true) if known else None,
    )
    selected = Selected(rank(scores["dev"], dataset.splits["dev"].true).retrieval().rsum, 1.0)
    work = WorkSpent(budget=None, used=0 if flops is None else round(_positive("flops", flops, MAX_WORK)), updates=0)
    measurements = Measurements(
        seconds=Seconds(training=_positive("seconds", seconds), evaluation=0.0),
        environment=Environment(device=" ".join(device.split())),
    )
    store = Store(Path(out))
    folder = store.folder(spec)
    with take(folder) as lease:
        if lease is None or store.find(spec) is not None:
            raise UserError(
                f"{folder}: this run is recorded already; change the seed or settings, or delete the folder"
            )
        store.start(spec)
        save_noise(noise, noise_path(store.root, spec))
        metrics = save_scores(folder, scores["test"], dataset, method)
        save_beliefs(folder / BELIEFS_FILE, beliefs)
        result = Result(
            id=spec.id,
            spec=spec,
            vocabulary_digest=dataset.vocabulary.digest,
            sees_truth=bool(sees_truth),
            metrics=metrics,
            selected=selected,
            work=work,
            mismatched=noise.mismatch(train.true) if known else None,
            beliefs=judge(beliefs, noise, dataset) if known else Judgement(),
        )
        write_json(folder / MEASUREMENTS_FILE, measurements.to_dict())
        write_json(folder / RESULT_FILE, result.to_dict())
    return folder


def _check_noise(noise: Noise, train: Split) -> None:
    if not isinstance(noise, Noise):
        raise ArgumentError(f"noise: expected noise of ncbench.draw_noise, found {type(noise).__name__}")
    if noise.claimed.shape != train.true.shape or noise.claimed.max(initial=0) >= len(train.images):
        raise ArgumentError(
            f"noise: expected noise on the {len(train.true)} training pairs of this dataset, found noise on "
            f"{len(noise.claimed)} pairs"
        )


def _check_name(argument: str, name: str) -> None:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ArgumentError(f"{argument}: expected a name of letters, digits, '.', '_' and '-', found {name!r}")


def _scores(argument: str, given: Numbers, split: Split) -> Similarities:
    """Return the similarities of a split, checked."""
    found = as_floats(argument, given)
    shape = (len(split.images), len(split.captions))
    if found.shape != shape:
        raise ArgumentError(f"{argument}: expected similarities (images, captions) {shape}, found shape {found.shape}")
    if not np.isfinite(found).all():
        raise ArgumentError(f"{argument}: expected finite similarities, found NaN or infinity")
    return found


def _probabilities(given: Numbers, pairs: int) -> FloatVector:
    found = as_floats("p_clean", given).astype(np.float64)
    if found.shape != (pairs,):
        raise ArgumentError(f"p_clean: expected one probability for each of {pairs} pairs, found shape {found.shape}")
    if not ((found >= 0) & (found <= 1)).all():
        raise ArgumentError("p_clean: expected probabilities in [0, 1]")
    return found


def _positive(argument: str, value: float, most: float = math.inf) -> float:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
    if not valid or not math.isfinite(value):
        raise ArgumentError(f"{argument}: expected a positive number, found {value!r}")
    return float(value)


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings as they will be read from JSON."""
    try:
        text = json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"settings: expected names with plain values, found {settings!r} ({error})") from error
    if len(text) > MAX_SETTINGS:
        raise ArgumentError(f"settings: expected at most {MAX_SETTINGS} characters as JSON, found {len(text)}")
    found: dict[str, object] = json.loads(text)
    return found
