"""Capturing and restoring the state of objects.

Supported are networks, optimisers, random number generators, arrays, tensors, plain values, and lists, tuples and
dictionaries of these. Other types raise an error, so that no state is lost silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

State = dict[str, Any]
"""Nested dictionaries and lists of numbers, strings, None, arrays and tensors."""

PLAIN = (bool, int, float, str, type(None))


@runtime_checkable
class Stateful(Protocol):
    """The protocol of networks and optimisers."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Restore the state."""
        ...


def capture(value: Any, name: str = "value") -> Any:
    """Return a copy of the state of `value`, with tensors on the CPU. Raises TypeError for unsupported types."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Stateful):
        return capture(dict(value.state_dict()), name)
    if isinstance(value, np.random.Generator):
        return capture(value.bit_generator.state, name)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Mapping):
        return {key: capture(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [capture(item, f"{name}[{number}]") for number, item in enumerate(value)]
    raise TypeError(f"cannot save {name}: type {type(value).__name__} is not supported")


def restore(value: Any, state: Any) -> Any:
    """Return `value` in a state returned by `capture`, possibly in another process.

    Networks, optimisers and generators are changed in place and returned; other values are replaced. The state is
    copied and can be restored again.
    """
    return _restored(value, capture(state, "state"))


def _restored(value: Any, state: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return None if state is None else torch.as_tensor(state).to(value.device)
    if isinstance(value, Stateful):
        value.load_state_dict(state)
        return value
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = state
        return value
    if isinstance(value, Mapping) and isinstance(state, Mapping) and set(value) == set(state):
        return {key: _restored(item, state[key]) for key, item in value.items()}
    if isinstance(value, list | tuple) and isinstance(state, list) and len(value) == len(state):
        items = [_restored(item, part) for item, part in zip(value, state, strict=True)]
        return tuple(items) if isinstance(value, tuple) else items
    return state
