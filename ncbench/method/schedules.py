"""What trains when: phases that end at a share of the budget, and learners that take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ncbench.budget import Allowance

Scalars: TypeAlias = Mapping[str, float]
Item = TypeVar("Item")


def until(share: float, budget: Allowance, items: Iterable[Item]) -> Iterator[Item]:
    """Yield `items`, such as the batches of a warm-up, until `share` of the budget is spent."""
    for item in items:
        if budget.progress >= share:
            return
        yield item


class Turns:
    """Lets learners train in turns, one update each. Whose turn is next is part of the state."""

    def __init__(self) -> None:
        self.next = 0

    def begin(self) -> None:
        """Give the first learner the next turn: call this when an epoch begins."""
        self.next = 0

    def take(self, *epochs: Iterator[Scalars]) -> Iterator[Scalars]:
        """Yield one update of each learner in turn, until all epochs are exhausted.

        Each learner must create its batches before its first turn, as resuming an epoch requires the same order of
        creation (see `TrainingView`): pass functions that create batches and return a generator, not generators that
        create batches themselves.
        """
        turns = deque(enumerate(epochs))
        turns.rotate(-self.next)
        while turns:
            learner, epoch = turns.popleft()
            scalars = next(epoch, None)
            if scalars is not None:
                turns.append((learner, epoch))
                self.next = turns[0][0]
                yield scalars

    def state_dict(self) -> dict[str, int]:
        """Return whose turn it is."""
        return {"next": self.next}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore what `state_dict` returned."""
        self.next = state["next"]
