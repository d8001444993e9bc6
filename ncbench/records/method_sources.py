"""Sources of methods that are defined in files: found by their digests and carried along as data, never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ncbench.errors import UserError
from ncbench.method.registry import KIND
from ncbench.plugins.source_files import MAX_FILE_BYTES, find_files, source_digest
from ncbench.records.record import METHOD_FILE, Record
from ncbench.runtime.bounded import in_mib, read_bytes


class MethodSource(msgspec.Struct, frozen=True):
    """The text of the file that defines the method `name`."""

    name: str
    text: str

    def check(self, digest: str) -> None:
        """Raise ValueError unless the text has this digest and is not too large."""
        content = self.text.encode()
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"the file of method {self.name} is larger than {in_mib(MAX_FILE_BYTES)}")
        if source_digest(content) != digest:
            raise ValueError(f"the file of method {self.name} has digest {source_digest(content)}, not {digest}")


def sources_of(records: Iterable[Record], named: Sequence[Path]) -> dict[str, MethodSource]:
    """Return the sources of the methods of `records` that are defined in files, by digest.

    They are looked for in the `named` files, beside records that were unpacked, in NCBENCH_PLUGINS and in `methods/`
    of the working directory. Raises UserError for a named file that cannot be read, and for a method without a source.
    """
    wanted = {record.result.spec.source: record for record in records if record.result.spec.source}
    if not wanted:
        return {}
    known = {source_digest(content): content for content in map(_content, named)}
    for path in _candidates(wanted.values()):
        try:
            content = read_bytes(path, MAX_FILE_BYTES)
        except (OSError, ValueError):
            continue
        known.setdefault(source_digest(content), content)
    found = {}
    for digest, record in sorted(wanted.items()):
        name = record.result.spec.method
        if digest not in known:
            raise UserError(
                f"{record.folder}: the file that defined method {name} (digest {digest}) is not found; give the "
                "unchanged file with --method-file FILE"
            )
        try:
            found[digest] = MethodSource(name, known[digest].decode())
        except UnicodeDecodeError as error:
            raise UserError(f"the file of method {name} is not UTF-8 text ({error}); it cannot be submitted") from error
    return found


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"--method-file {path}: cannot be read ({error})") from error


def _candidates(records: Iterable[Record]) -> Iterator[Path]:
    for record in records:
        yield record.folder / METHOD_FILE
    for file in find_files(KIND):
        yield file.path
