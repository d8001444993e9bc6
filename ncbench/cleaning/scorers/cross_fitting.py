"""Any method of the suite as a scorer: it is trained once a fold, on the pairs of all other folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ncbench.backbones.base import Backbone, Sizes
from ncbench.backbones.outline import outline
from ncbench.backbones.registry import check_abilities, members_of, resolve
from ncbench.budget import WorkMeter
from ncbench.cleaning.pairs import Pairs
from ncbench.data.dataset import Dataset, FloatArray, IntVector, Split
from ncbench.data.training_view import TrainingView
from ncbench.errors import UserError
from ncbench.evaluation.similarity import similarity_matrix
from ncbench.method.base import Method
from ncbench.method.registry import load_method, make_config, settings_of
from ncbench.runtime.rng_state import seed_all
from ncbench.runtime.seeds import derive_seed
from ncbench.training.cost import FORWARD_AND_BACKWARD, baseline_epoch_work, denormals_flushed, threads_for
from ncbench.training.loop import Loop, Workshop

CPU = torch.device("cpu")


@dataclass
class CrossFitted:
    """The similarities of networks that `method` has trained, on the pairs outside of each fold, for `epochs`.

    `dataset` has all pairs in `train`, where `true` is the claimed image. `epochs` are baseline epochs of the pairs
    that a fold is trained on: the work of so many epochs of plain training. Networks are those of the end of the
    budget. Raises UserError for a method that needs the truth, clean pairs or words that are not there.
    """

    pairs: Pairs
    dataset: Dataset
    method: str
    backbone: str = "vse"
    epochs: float = 8.0
    device: torch.device = CPU
    on_progress: Callable[[float], None] = lambda _: None
    _networks: dict[int, tuple[list[Backbone], WorkMeter]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._method = check_method_can_clean(self.method, self.backbone, len(self.pairs), self.dataset.vector_dim > 0)
        self.backbone = resolve(self.backbone)

    @property
    def name(self) -> str:
        """The name of the method."""
        return self._method.name

    def block(self, pairs: IntVector) -> FloatArray:
        """Return the similarities of the images and captions of `pairs`, by the networks that saw neither."""
        split = self._split(pairs, np.arange(len(pairs)), self.pairs.claimed[pairs])
        networks, meter = self._trained(int(self.pairs.folds[pairs[0]]))
        with meter.paused():
            return similarity_matrix(networks, split, self.device)

    def _split(self, pairs: IntVector, claimed: IntVector, images: IntVector) -> Split:
        train = self.dataset.splits["train"]
        return Split(train.images.reordered(images), train.captions.reordered(pairs), claimed)

    def _trained(self, fold: int) -> tuple[list[Backbone], WorkMeter]:
        if fold not in self._networks:
            self._networks[fold] = self._train(fold)
        return self._networks[fold]

    def _train(self, fold: int) -> tuple[list[Backbone], WorkMeter]:
        others = np.flatnonzero(self.pairs.folds != fold)
        images, claimed = np.unique(self.pairs.claimed[others], return_inverse=True)
        split, dataset = self._split(others, claimed, images), self.dataset
        view = TrainingView(split.images, split.captions, split.true, self.device)
        sizes = Sizes.of(dataset, dataset.scale)
        work = baseline_epoch_work(outline(self.backbone, sizes), split.captions, dataset.batch_size)
        step = FORWARD_AND_BACKWARD * work * dataset.batch_size // len(others)
        meter = WorkMeter(max(1, round(self.epochs * work)))
        settings = settings_of(self._method, dataset.presets)
        method = self._method(make_config(self._method, settings))
        seed = derive_seed(self.pairs.seed, "cleaning", "fold", fold)
        seed_all(seed)
        workshop = Workshop(self.backbone, sizes, self.device, "float32", meter)
        loop = Loop(method, view, workshop, meter, seed)
        with threads_for(step, self.device), denormals_flushed():
            loop.set_up()
            for scalars in loop.updates():
                self.on_progress((fold + meter.progress) / self.pairs.n_folds)
                if scalars is not None and not np.isfinite(scalars["loss"]):
                    raise UserError(
                        f"{self.name} diverged on fold {fold + 1}: its loss is {scalars['loss']}; leave it out of "
                        "--scorers, or check that the vectors are of ordinary size"
                    )
        return workshop.made, meter


def check_method_can_clean(name: str, backbone: str, pairs: int, has_vectors: bool) -> type[Method]:
    """Return the method. Raises UserError unless it can be trained on pairs that nothing is known about."""
    method = load_method(name)
    if method.needs_truth:
        raise UserError(f"{name} must know which pairs are clean, so it cannot find out; choose another method")
    config = make_config(method, settings_of(method, "scenes"))
    if needed := method(config).clean_pairs_needed(pairs):
        raise UserError(f"{name} needs {needed} pairs that are known to be clean; choose another method")
    if has_vectors and method.needs_words:
        raise UserError(f"{name} changes the words of captions, but the captions are vectors; choose another method")
    if len(members_of(resolve(backbone))) > 1:
        raise UserError(f"--backbone {backbone} is an ensemble; choose {' or '.join(members_of(resolve(backbone)))}")
    check_abilities(resolve(backbone), method.needs_abilities, method.name)
    return method
