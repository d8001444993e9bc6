"""An unpickler for plain data: tensors, containers and numbers. Nothing else that a file names is ever called.

Training scripts save options, random states, metrics and paths beside the weights. What evaluation does not need
becomes a `Placeholder`, so that no library has to be imported, let alone run, for it.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_TORCH_DTYPES = sorted({str(kind) for kind in vars(torch).values() if isinstance(kind, torch.dtype)})
_BUILTINS = "object|set|frozenset|list|dict|tuple|int|float|bool|str|bytes|bytearray|complex|range|slice"
_UNNEEDED = re.compile(
    "|".join(
        (
            rf"(builtins|__builtin__)\.({_BUILTINS})",
            r"collections\.(Counter|deque)",
            r"(datetime\.(date|time|datetime|timedelta|timezone)|decimal\.Decimal|fractions\.Fraction|uuid\.UUID)",
            r"pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path",
            r"numpy\.(ndarray|dtype|dtypes\.\w+DType|bool_?|(float|int|uint|complex)\d+)",
            r"numpy\.(core|_core)\.(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer)",
            r"numpy\.random\.(_pickle\.__\w+_ctor|_(mt19937|pcg64|philox|sfc64)\.\w+|bit_generator\.\w+)",
            r"torch\.(device|Size|strided|serialization\._get_layout|torch_version\.TorchVersion)",
            *map(re.escape, _TORCH_DTYPES),
        )
    )
)
_STORAGE = re.compile(r"torch\.\w+Storage")


class Placeholder:
    """Replaces values that are not needed; their content is discarded."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None:
        """Discard an element."""

    def extend(self, _: object) -> None:
        """Discard elements."""


class Options:
    """Replaces a namespace, such as the parsed options of a training script; `values` are its attributes."""

    def __init__(self, *_: object) -> None:
        self.values: Mapping[object, object] = {}

    def __setstate__(self, state: object) -> None:
        self.values = state if isinstance(state, dict) else {}


class Items(dict[Any, Any]):
    """Replaces dicts with behaviour (defaultdict, EasyDict, ...) by their items."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, _: object) -> None: ...


class _Function:
    """A function that a file may call, and cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *args: object) -> object:
        return self._call(*args)


def is_plain(name: str) -> bool:
    """Return whether `name`, as `module.name`, stands for data rather than code."""
    return name in _NEEDED or bool(_UNNEEDED.fullmatch(name) or _STORAGE.fullmatch(name))


class Unpickler(pickle._Unpickler):
    """Reads pickles of every protocol. Raises pickle.UnpicklingError for names that are not plain data.

    It is the one written in Python: the other one allocates memory for any number that a file claims.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for `module.name`."""
        full = f"{module}.{name}"
        if full in _NEEDED:
            found = _NEEDED[full]
            return found if isinstance(found, type) else _Function(found)
        if _UNNEEDED.fullmatch(full):
            return Placeholder
        raise pickle.UnpicklingError(f"{full} is code, not data")


def load(file: Any, **options: Any) -> Any:
    """Return the next pickle of `file`; the interface that torch.load expects of a pickle module."""
    return Unpickler(file, **options).load()


def _tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: object) -> Tensor:
    found: Tensor = torch._utils._rebuild_tensor(  # type: ignore[no-untyped-call]
        storage, offset, tuple(size), tuple(stride)
    )
    return found


def _parameter(data: object, *_: object) -> object:
    return data


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Return bytes: protocol 2 writes them as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes are encoded as {encoding!r}, expected latin1")
    return text.encode("latin1")


def _instance(kind: object, *_: object) -> object:
    return kind() if isinstance(kind, type) else Placeholder()


_NEEDED: Mapping[str, type | Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _instance,
    "copy_reg._reconstructor": _instance,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": Items,
    "easydict.EasyDict": Items,
    "addict.addict.Dict": Items,
    "munch.Munch": Items,
    "yacs.config.CfgNode": Items,
    "argparse.Namespace": Options,
    "types.SimpleNamespace": Options,
}
