"""Finding the columns of captions, images, vectors and ids by name and type, and asking for those that are unclear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pyarrow as pa

from ncbench.cleaning.inputs.text_tables import looks_like_picture
from ncbench.data.imported.pictures import is_pictures
from ncbench.errors import UserError, unknown_name

NAMES = {
    "captions": ("caption", "captions", "text", "texts", "txt", "sentence", "sentences", "raw", "description", "title"),
    "images": ("image", "images", "picture", "pictures", "photo", "jpg", "jpeg", "png", "webp", "img", "file_name"),
    "image_vectors": ("image_features", "image_vectors", "image_embeddings", "image_embedding", "images", "image"),
    "text_vectors": ("text_features", "text_vectors", "text_embeddings", "text_embedding", "texts", "text", "captions"),
    "ids": ("id", "ids", "key", "__key__", "uid", "sample_id"),
}
"""Usual names, the most usual first."""

PARTS_OF_NAMES = {
    "image_vectors": ("image", "img", "vis", "pict", "photo"),
    "text_vectors": ("text", "txt", "capt", "sent"),
}
"""Parts of the names of columns of vectors, where no name is usual."""

SEEN_ROWS = 20


@dataclass(frozen=True)
class Columns:
    """The names of the columns that hold what; "" for what is not there. The fields are those of the options."""

    captions: str = ""
    images: str = ""
    image_vectors: str = ""
    text_vectors: str = ""
    ids: str = ""

    @property
    def used(self) -> list[str]:
        """The names of all columns, once each."""
        return list(dict.fromkeys(filter(None, (getattr(self, entry.name) for entry in fields(self)))))

    @property
    def in_words(self) -> str:
        """What was taken for what."""
        told = [(entry.name.replace("_", " "), getattr(self, entry.name)) for entry in fields(self)]
        return ", ".join(f"{what}: {name}" for what, name in told if name)


def find_columns(table: Any, given: Columns, where: str) -> Columns:
    """Return `given` with the columns that it lacks, found in `table` by name and type.

    Raises UserError for columns that do not exist, and where the choice is not clear.
    """
    kinds = {field.name: field.type for field in table.schema}
    for entry in fields(given):
        name = getattr(given, entry.name)
        if name and name not in kinds:
            option = f"--{entry.name.replace('_', '-')}"
            raise UserError(f"{where}: {option}: {unknown_name('column', name, kinds)}")
    first = _first_rows(table, [name for name, kind in kinds.items() if _is_text(kind)])
    tests: dict[str, Callable[[str, Any], bool]] = {
        "image_vectors": lambda _, kind: _is_vector(kind),
        "text_vectors": lambda _, kind: _is_vector(kind),
        "images": lambda name, kind: is_pictures(kind) or _is_binary(kind) or _names_pictures(first.get(name, [])),
        "captions": lambda name, kind: _is_words(kind) and not _names_pictures(first.get(name, [])),
        "ids": lambda _, kind: _is_text(kind) or pa.types.is_integer(kind),
    }
    found = given
    for what in ("text_vectors", "image_vectors", "images", "captions", "ids"):
        if not getattr(found, what):
            free = [name for name in kinds if name not in found.used and tests[what](name, kinds[name])]
            found = replace(found, **{what: _choice(what, free)})
    return _checked(found, kinds, first, where)


def _choice(what: str, candidates: Sequence[str]) -> str:
    by_name = {name.lower(): name for name in reversed(candidates)}
    named = next((by_name[usual] for usual in NAMES[what] if usual in by_name), "")
    alike = [name for name in candidates if any(part in name.lower() for part in PARTS_OF_NAMES.get(what, ()))]
    if named or len(alike) == 1:
        return named or alike[0]
    # A lone column of the right type needs no usual name; vectors of captions and ids might be anything.
    return candidates[0] if len(candidates) == 1 and what in ("captions", "images", "image_vectors") else ""


def _checked(found: Columns, kinds: dict[str, Any], first: dict[str, list[str]], where: str) -> Columns:
    told = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    vectors = [name for name, kind in kinds.items() if _is_vector(kind) and name not in found.used]
    if not found.image_vectors and not found.images:
        if vectors:
            raise UserError(
                f"{where}: cannot tell which columns hold vectors of images and of captions; name them with "
                f"--image-vectors COL and --text-vectors COL, or --captions COL; found {told}"
            )
        raise UserError(
            f"{where}: no column holds pictures or the names of picture files; name it with --images COL, or one of "
            f"vectors with --image-vectors COL; found {told}"
        )
    if not found.text_vectors and not found.captions:
        raise UserError(
            f"{where}: cannot tell which column holds the captions; name it with --captions COL; found {told}"
        )
    return found


def _first_rows(table: Any, names: Sequence[str]) -> dict[str, list[str]]:
    if not names or not table.n_rows:
        return {}
    batch = next(iter(table.batches(names)), None)
    if batch is None:
        return {}
    return {
        name: [str(value) for value in batch.column(place).slice(0, SEEN_ROWS).to_pylist() if value]
        for place, name in enumerate(names)
    }


def _names_pictures(values: Sequence[str]) -> bool:
    return bool(values) and all(looks_like_picture(value) for value in values)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_words(kind: Any) -> bool:
    return _is_text(kind.value_type if _is_list(kind) else kind)


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_vector(kind: Any) -> bool:
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if not _is_list(kind):
        return False
    while _is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
