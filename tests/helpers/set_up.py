"""Methods that are ready to train."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from ncbench import Method, Task
from ncbench_methods.crcl import CRCL
from ncbench_methods.l2rm import L2RM
from ncbench_methods.ncr import NCR

M = TypeVar("M", bound=Method)


def set_up(kind: type[M], task: Task, **settings: Any) -> M:
    """Return a method that has been given `task`; batches of 8 and a large learning rate, unless settings differ."""
    method = kind(kind.Config(**{"batch_size": 8, "lr": 1e-2, **settings}))
    method.setup(task)
    return method


set_up_l2rm = partial(set_up, L2RM, queue=8, reg=0.07, warmup=0.0)

set_up_crcl = partial(set_up, CRCL, short_stages=2, short=0.2, warmup=0.05, decay_every=0.4)
"""Its stages take 0.2, 0.2 and 0.6 of the budget."""

set_up_ncr = partial(set_up, NCR, warmup=0.0)
