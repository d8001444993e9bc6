"""SingleNetwork: the base class of methods that train one network by one loss per batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ncbench.method.base import Method, Task
from ncbench.method.optimiser import Optimiser, check_scalar
from ncbench.method.settings import TrainingSettings

if TYPE_CHECKING:
    from ncbench.data.dataset import IntVector
    from ncbench.data.training_view import Batch


class SingleNetwork(Method):
    """A method that trains one network by one loss per batch. Subclasses define `name` and `loss`.

    An epoch is one pass over `pairs()` in random order. Adam takes a step per batch, with the learning rate and the
    clipping of `TrainingSettings`. If `Config` has a setting called `warmup`, a share of the budget, `warming_up` is
    True until it is spent, and the learning rate starts to decay from there.
    """

    Config: ClassVar[type[Any]] = TrainingSettings

    def setup(self, task: Task) -> None:
        """Build the network, in `self.backbone`, and its optimiser."""
        self.task = task
        self.order = task.rng("order of pairs")
        self.backbone = task.new_backbone()
        self.optimiser = Optimiser.of(self.config, [self.backbone], task.budget, decay_from=self._warmup)

    def train_epoch(self, epoch: int) -> Iterator[Mapping[str, float]]:
        """Pass over the pairs once."""
        for batch in self.task.data.batches(self.config.batch_size, self.order, self.pairs()):
            self.backbone.train()
            loss = self.loss(self.backbone(*batch.inputs), batch)
            check_scalar(loss, f"what loss() returns{self._place_of_loss}")
            self.optimiser.step(loss)
            yield {"loss": loss.item()}

    @abstractmethod
    def loss(self, similarities: Tensor, batch: Batch) -> Tensor:
        """Return the loss of `batch`, a scalar, from the similarities (B images, B captions) of its pairs.

        Row i holds image i against all captions of the batch; claimed pairs are on the diagonal.
        """

    def pairs(self) -> IntVector | None:
        """Return the numbers of the pairs to train on; None stands for all."""
        return None

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        return self.task.budget.progress

    @property
    def warming_up(self) -> bool:
        """Whether the share of the budget that the setting `warmup` names is not spent yet."""
        return self.progress < self._warmup

    @property
    def _place_of_loss(self) -> str:
        """Where `loss` is defined: it has returned when its result turns out to be wrong, so no traceback says."""
        code = getattr(self.loss, "__code__", None)
        return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else ""

    @property
    def _warmup(self) -> float:
        return float(getattr(self.config, "warmup", 0.0))
