"""Files that `torch.save` wrote, read without executing anything that they hold.

Such files are pickles, and a pickle may name any function and call it. What a file names is therefore looked up
first, without unpickling; a name that no checkpoint needs ends the reading. torch then reads the file with its own
restricted unpickler.
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

RIGHT = "right would be a checkpoint as torch.save writes it, for example model_best.pth.tar"

# What tensors are made of.
_TENSORS = re.compile(
    r"torch\.\w+Storage|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|collections\.OrderedDict|_codecs\.encode"
)
# Options and scalars that training codes keep beside the weights.
_UNREAD = ("argparse.Namespace", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")

_ZIP_START = b"PK\x03\x04"
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled
_LEGACY_PICKLES = 5  # magic number, version, facts of the machine, content, names of the storages that follow


class Unread:
    """Stands for a value in a file that is not read, whatever it was made of."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_torch_file(path: Path) -> object:
    """Return what `torch.save` wrote to `path`, in the zip or the older format; tensors are on the CPU.

    Options (argparse.Namespace) and NumPy scalars come back as `Unread`. Tensors of the zip format are mapped from the
    file, so that it must not change while they are used.
    Raises UserError for a file that is empty, damaged or of another kind, that names anything but data, or whose
    content is larger than itself.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; {RIGHT}")
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_START))
    zipped = start.startswith(_ZIP_START)
    with _one_line(path):
        if zipped:
            _check_zip(path)
        elif start == _LEGACY_START:
            _check_legacy(path)
        else:
            raise _stranger(path)
        with torch.serialization.safe_globals([(Unread, name) for name in _UNREAD]):
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    return content


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what parsers raise on damaged content, which is nearly anything, into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise UserError(
            f"{path}: is cut off or damaged ({kind} while reading it); copy or download it again"
        ) from error


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(
                    f"{path}: its part {entry.filename} is compressed, which torch.save never does; {RIGHT}"
                )
        total, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if total > size:
            raise UserError(f"{path}: claims parts of {total} bytes, but is a file of {size} bytes; {RIGHT}")
        # torch finds its parts whatever their case.
        pickles = [entry for entry in entries if entry.filename.lower().endswith(".pkl")]
        if not any(entry.filename.lower().endswith("/data.pkl") for entry in pickles):
            raise UserError(f"{path}: is a zip archive without a data.pkl; {RIGHT}")
        for entry in pickles:
            _check_names(path, BytesIO(archive.read(entry)))


def _check_legacy(path: Path) -> None:
    with _mapped(path) as content:
        for _ in range(_LEGACY_PICKLES):
            _check_names(path, content)


def _stranger(path: Path) -> UserError:
    """Return the error for a file that torch.save did not write."""
    with _mapped(path) as content:
        try:
            _check_names(path, content)
        except UserError as error:
            return error
        except Exception:  # it is no pickle
            return UserError(f"{path}: is not a file of torch.save (it begins with {content[:12]!r}); {RIGHT}")
    return UserError(f"{path}: is a pickle, but not one of torch.save; {RIGHT}")


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _check_names(path: Path, stream: BytesIO | mmap.mmap) -> None:
    """Check what the pickle that begins here names, and leave `stream` behind its end. Raises what pickletools does."""
    for name in _names(stream):
        if name not in _UNREAD and not _TENSORS.fullmatch(name):
            raise UserError(
                f"{path}: holds `{name}`, which is not data; it was not executed. "
                "A checkpoint holds weights and options only: ask where this file comes from."
            )


def _names(stream: BytesIO | mmap.mmap) -> Iterator[str]:
    """Yield `module.name` of everything that the pickle would import."""
    latest: deque[str] = deque(maxlen=2)
    for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":  # in later protocols, which torch refuses
            yield ".".join(latest)
        elif isinstance(argument, str):
            latest.append(argument)
