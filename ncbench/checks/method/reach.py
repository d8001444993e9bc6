"""What can be reached from an object through attributes, items, closures and generators.

A path ends at modules, classes and call frames: everything in a process can be reached through these, and no honest
method uses them.
"""

from __future__ import annotations

import functools
import gc
import inspect
import types
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None), type, types.ModuleType, types.FrameType)
ENDS = (*ATOMS, types.CodeType, np.dtype, np.generic, torch.dtype, torch.device, torch.Size)
MAX_OBJECTS = 2_000_000


def reachable(roots: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    """Yield every object that can be reached from `roots`, including these, once, with a path such as
    `task.data._images`. Shorter paths come first.
    """
    seen: dict[int, object] = {}  # holds the objects, so that no id is used again
    waiting = deque(roots.items())
    while waiting and len(seen) < MAX_OBJECTS:
        path, thing = waiting.popleft()
        if isinstance(thing, ENDS) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        yield path, thing
        waiting.extend((path + step, part) for step, part in _parts(thing))


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield what `thing` refers to, each with the step that leads there."""
    if isinstance(thing, types.FunctionType):  # its globals are those of a module
        for cell in thing.__closure__ or ():
            yield ".__closure__", _content(cell)
        yield ".__defaults__", thing.__defaults__
        yield ".__kwdefaults__", thing.__kwdefaults__
        yield from _items(thing.__dict__, ".{}")
    elif isinstance(thing, types.MethodType | types.BuiltinMethodType):
        yield ".__self__", thing.__self__
        yield ".__func__", getattr(thing, "__func__", None)
    elif isinstance(thing, types.GeneratorType):
        yield from _items(inspect.getgeneratorlocals(thing), ".gi_frame.f_locals[{!r}]")
        yield ".gi_yieldfrom", thing.gi_yieldfrom
    elif isinstance(thing, weakref.ReferenceType):
        yield "()", thing()
    elif isinstance(thing, Mapping):
        yield from _items(thing, "[{!r}]")
        yield from _items(getattr(thing, "__dict__", {}), ".{}")
    elif isinstance(thing, list | tuple | deque):
        yield from ((f"[{number}]", item) for number, item in enumerate(thing))
        yield from _items(getattr(thing, "__dict__", {}), ".{}")
    elif isinstance(thing, functools.partial):
        yield from ((f".{name}", getattr(thing, name)) for name in ("func", "args", "keywords"))
    else:
        yield from _of_instance(thing)


def _of_instance(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, np.ndarray):
        yield ".base", thing.base
        if thing.dtype == object:
            yield ".tolist()", thing.tolist()
    if isinstance(thing, torch.Tensor):
        yield "._base", thing._base
        yield ".grad", thing.grad
    if isinstance(thing, memoryview):
        yield ".obj", thing.obj
    attributes = getattr(thing, "__dict__", {})
    yield from _items(attributes, ".{}")
    # What else an object holds, in slots or in C, has no name in Python.
    yield from ((" -> ", part) for part in gc.get_referents(thing) if part is not attributes)


def _items(content: Mapping[Any, Any], step: str) -> Iterator[tuple[str, Any]]:
    for key, value in list(content.items()):
        yield step.format(key), value
        if not isinstance(key, ENDS):
            yield f".key({key!r})", key


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
