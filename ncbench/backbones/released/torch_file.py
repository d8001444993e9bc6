"""Safe reading of files written by `torch.save`: nothing in the file is executed.

These files are pickles, and a pickle can call any function by name. The names in a file are therefore listed first,
without unpickling, and any name that is not plain data is refused. Then torch loads the file with an unpickler that
knows these names only (`ncbench.backbones.released.plain_pickle`).
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import tarfile
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch

from ncbench.backbones.released import plain_pickle
from ncbench.errors import UserError
from ncbench.runtime.input_files import check_input_file

EXPECTED = "expected a checkpoint written by torch.save, for example model_best.pth.tar"

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGICS = tuple(pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol) for protocol in range(2, 6))
_LEGACY_PICKLES = 5  # magic number, version, system info, content, keys of the storages that follow


def read_torch_file(path: Path) -> object:
    """Return what `torch.save` wrote to `path`, in the zip or the legacy format, with tensors on the CPU.

    Namespaces become `Options`, and what evaluation does not need, such as NumPy arrays, `Placeholder`. Tensors of the
    zip format are memory-mapped, so the file must not change while they are in use. Raises UserError for a file that is
    empty, damaged or not written by torch.save, that names anything but data, or that claims more content than its
    size.
    """
    check_input_file(path)
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; {EXPECTED}")
    with path.open("rb") as file:
        start = file.read(max(map(len, _LEGACY_MAGICS)))
    zipped = start.startswith(_ZIP_MAGIC)
    with _damage_as_user_error(path):
        if zipped:
            _check_zip(path)
        elif start.startswith(_LEGACY_MAGICS):
            _check_legacy(path)
        else:
            raise _not_torch_error(path)
        # Not `weights_only=True`: torch's own restricted unpickler reads protocol 2 alone.
        content: object = torch.load(
            path, map_location="cpu", pickle_module=plain_pickle, weights_only=False, mmap=zipped
        )
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
    if tarfile.is_tarfile(path):
        return UserError(f"{path}: is a tar archive; unpack it (tar xf) and give the checkpoint in it")
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
        if not plain_pickle.is_plain(name):
            raise UserError(
                f"{path}: contains `{name}`, which is code, not data; it was not executed. "
                "A checkpoint holds weights, numbers and options only. If you trust its origin, load it with torch and "
                "save its state_dict alone"
            )


def _names(stream: BytesIO | mmap.mmap) -> Iterator[str]:
    """Yield `module.name` of everything the pickle would import.

    Protocol 4 takes both from the stack, where they may come from the memo. A file could hide a name from this list,
    but not from the unpickler.
    """
    latest: deque[str] = deque(maxlen=2)
    memo: dict[int, str] = {}
    count, text = 0, ""
    for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(latest)
        elif opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[count if argument is None else int(argument)] = text
            count += 1
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            latest.append(memo.get(int(argument or 0), ""))
        text = argument if isinstance(argument, str) else ""
        if text:
            latest.append(text)
