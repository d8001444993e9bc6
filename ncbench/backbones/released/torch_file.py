"""Safe reading of files written by `torch.save`: nothing in the file is executed.

These files are pickles, and a pickle can call any function by name. The names in a file are therefore listed first,
without unpickling, and any name that checkpoints do not need is refused. Then torch loads the file with its restricted
unpickler (`weights_only=True`).
"""

from __future__ import annotations

import mmap
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch

from ncbench.errors import UserError

EXPECTED = "expected a checkpoint written by torch.save, for example model_best.pth.tar"

# The names that tensors need.
_TENSOR_NAMES = re.compile(
    r"torch\.\w+Storage|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|collections\.OrderedDict|_codecs\.encode"
)
# Options and scalars that training code saves next to the weights; loaded as `Placeholder`.
_PLACEHOLDER_NAMES = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled
_LEGACY_PICKLES = 5  # magic number, version, system info, content, keys of the storages that follow


class Placeholder:
    """Replaces values that are not needed; their content is discarded."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_torch_file(path: Path) -> object:
    """Return what `torch.save` wrote to `path`, in the zip or the legacy format, with tensors on the CPU.

    Options (argparse.Namespace) and NumPy scalars become `Placeholder`. Tensors of the zip format are memory-mapped, so
    the file must not change while they are in use. Raises UserError for a file that is empty, damaged or not written by
    torch.save, that names anything but data, or that claims more content than its size.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; {EXPECTED}")
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_MAGIC))
    zipped = start.startswith(_ZIP_MAGIC)
    with _damage_as_user_error(path):
        if zipped:
            _check_zip(path)
        elif start == _LEGACY_MAGIC:
            _check_legacy(path)
        else:
            raise _not_torch_error(path)
        with torch.serialization.safe_globals([(Placeholder, name) for name in _PLACEHOLDER_NAMES]):
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    return content


@contextmanager
def _damage_as_user_error(path: Path) -> Iterator[None]:
    """Turn any exception of the parsers, which may be of any type, into a one-line UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise UserError(
            f"{path}: is truncated or damaged ({kind} while reading it); copy or download it again"
        ) from error


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(
                    f"{path}: entry {entry.filename} is compressed, which torch.save never does; {EXPECTED}"
                )
        total, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if total > size:
            raise UserError(f"{path}: its entries claim {total} bytes, but the file has {size} bytes; {EXPECTED}")
        # torch looks up entries case-insensitively.
        pickles = [entry for entry in entries if entry.filename.lower().endswith(".pkl")]
        if not any(entry.filename.lower().endswith("/data.pkl") for entry in pickles):
            raise UserError(f"{path}: is a zip archive without a data.pkl; {EXPECTED}")
        for entry in pickles:
            _check_names(path, BytesIO(archive.read(entry)))


def _check_legacy(path: Path) -> None:
    with _mapped(path) as content:
        for _ in range(_LEGACY_PICKLES):
            _check_names(path, content)


def _not_torch_error(path: Path) -> UserError:
    """Return the error for a file that was not written by torch.save."""
    with _mapped(path) as content:
        try:
            _check_names(path, content)
        except UserError as error:
            return error
        except Exception:  # not a pickle
            return UserError(f"{path}: was not written by torch.save (begins with {content[:12]!r}); {EXPECTED}")
    return UserError(f"{path}: is a pickle, but was not written by torch.save; {EXPECTED}")


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _check_names(path: Path, stream: BytesIO | mmap.mmap) -> None:
    """Check the names in the pickle at the position of `stream`, and move to its end. Raises as pickletools does."""
    for name in _names(stream):
        if name not in _PLACEHOLDER_NAMES and not _TENSOR_NAMES.fullmatch(name):
            raise UserError(
                f"{path}: contains `{name}`, which is code, not data; it was not executed. "
                "A checkpoint holds weights and options only. Do not trust this file"
            )


def _names(stream: BytesIO | mmap.mmap) -> Iterator[str]:
    """Yield `module.name` of everything the pickle would import."""
    latest: deque[str] = deque(maxlen=2)
    for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":  # of later protocols, which torch refuses
            yield ".".join(latest)
        elif isinstance(argument, str):
            latest.append(argument)
