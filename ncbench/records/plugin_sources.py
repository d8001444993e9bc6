"""Sources of methods and backbones that are defined in files: found by digest and carried along as data, never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ncbench.backbones.registry import KIND as BACKBONE_KIND
from ncbench.errors import UserError
from ncbench.method.registry import KIND as METHOD_KIND
from ncbench.plugins.source_files import MAX_FILE_BYTES, Kind, find_files, source_digest
from ncbench.records.record import BACKBONE_FILE, METHOD_FILE, Record
from ncbench.records.spec import RunSpec
from ncbench.runtime.bounded import in_mib, read_bytes


@dataclass(frozen=True)
class Part:
    """A part of a run that a file can define.

    Specs hold its name and the digest of its file in `name_field` and `source_field`; `file` is the name of a copy
    beside a record, and `option` the option that gives the file.
    """

    kind: Kind
    name_field: str
    source_field: str
    file: str
    option: str

    def name_in(self, spec: RunSpec) -> str:
        """Return the name in a spec."""
        return str(getattr(spec, self.name_field))

    def source_in(self, spec: RunSpec) -> str:
        """Return the digest in a spec, "" for what is built in or installed."""
        return str(getattr(spec, self.source_field))


METHOD = Part(METHOD_KIND, "method", "source", METHOD_FILE, "--method-file")
BACKBONE = Part(BACKBONE_KIND, "backbone", "backbone_source", BACKBONE_FILE, "--backbone-file")
PARTS = (METHOD, BACKBONE)


class PluginSource(msgspec.Struct, frozen=True):
    """The text of the file that defines the method or backbone `name`."""

    name: str
    text: str

    def check(self, digest: str, part: Part) -> None:
        """Raise ValueError unless the text has this digest and is not too large."""
        content, what = self.text.encode(), f"the file of {part.name_field} {self.name}"
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"{what} is larger than {in_mib(MAX_FILE_BYTES)}")
        if source_digest(content) != digest:
            raise ValueError(f"{what} has digest {source_digest(content)}, not {digest}")


def sources_of(records: Iterable[Record], named: Sequence[Path], part: Part) -> dict[str, PluginSource]:
    """Return the sources of the methods or backbones of `records` that are defined in files, by digest.

    They are looked for in the `named` files, beside records that were unpacked, in NCBENCH_PLUGINS and in `methods/` or
    `backbones/` of the working directory. Raises UserError for a named file that cannot be read, and for a method or
    backbone without a source.
    """
    wanted = {part.source_in(record.result.spec): record for record in records if part.source_in(record.result.spec)}
    if not wanted:
        return {}
    known = {source_digest(content): content for content in (_content(path, part) for path in named)}
    for path in _candidates(wanted.values(), part):
        try:
            content = read_bytes(path, MAX_FILE_BYTES)
        except (OSError, ValueError):
            continue
        known.setdefault(source_digest(content), content)
    found = {}
    for digest, record in sorted(wanted.items()):
        name = part.name_in(record.result.spec)
        if digest not in known:
            raise UserError(
                f"{record.folder}: the file that defined {part.name_field} {name} (digest {digest}) is not found; give "
                f"the unchanged file with {part.option} FILE"
            )
        try:
            found[digest] = PluginSource(name, known[digest].decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"the file of {part.name_field} {name} is not UTF-8 text ({error}); it cannot be submitted"
            ) from error
    return found


def _content(path: Path, part: Part) -> bytes:
    try:
        return read_bytes(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"{part.option} {path}: cannot be read ({error})") from error


def _candidates(records: Iterable[Record], part: Part) -> Iterator[Path]:
    for record in records:
        yield record.folder / part.file
    for file in find_files(part.kind):
        yield file.path
