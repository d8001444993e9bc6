"""Requests for imported datasets: the source and the meaning of its columns. Imports nothing heavy."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ncbench.data.imported.split_names import SPLITS, split_of
from ncbench.errors import UserError, unknown_name
from ncbench.runtime.files import MAX_TOML_BYTES
from ncbench.runtime.input_files import check_input_file

PREFIX, SUFFIX = "hf:", ".toml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TYPES = {"bool": "true or false", "int": "an integer of at least 0", "str": "a string"}


@dataclass(frozen=True)
class Request:
    """The source of a dataset and the meaning of its columns. A configuration file has the same keys, with hyphens.

    `source` is a path, or the name of a dataset on the hub, optionally with a `configuration` and a `revision`.
    `captions` is a column of strings or lists of strings. `image_features` is a column of vectors, or of lists of
    region vectors, as many in each row; a vector that concatenates `regions` regions is split. `text_features` is a
    column with a vector per caption. `images` is a column of pictures, for display or, without image features, to
    compute `features` from (see `ncbench.data.imported.descriptors`). With a `captions_file`, `source` is a folder of
    pictures (see `ncbench.data.imported.folder`). `ids` must be unique. `splits` maps train, dev and test to the
    source's names. The vocabulary is the words that occur at least `min_count` times in train and dev, unless there is
    a `vocabulary` file in the released format (JSON). Words are the tokens of a `tokenizer` if given: a
    `tokenizer.json`, its folder, or a model on the hub (see `ncbench.data.model_tokeniser`). Sizes of networks and
    settings of methods are those for the dataset `like`. With `skip_bad`, pictures that cannot be read are left out,
    with their captions.
    """

    source: str
    captions: str = ""
    image_features: str = ""
    text_features: str = ""
    images: str = ""
    features: str = ""
    captions_file: str = ""
    ids: str = ""
    regions: int = 0
    configuration: str = ""
    revision: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    truth_known: bool = True
    min_count: int = 4
    vocabulary: str = ""
    tokenizer: str = ""
    like: str = ""
    skip_bad: bool = False

    @property
    def path(self) -> Path | None:
        """The file or folder `source`, or None for a name on the hub. Raises UserError if it is neither."""
        path = Path(self.source).expanduser()
        if path.exists():
            return path.resolve()
        if not _HUB_NAME.fullmatch(self.source) or self.source.count("/") > 1:
            raise UserError(f"{self.source}: no such file or folder, and not a valid name of a dataset on the hub")
        return None

    @property
    def title(self) -> str:
        """The given name of the dataset, or one derived from the source. Raises UserError if it is not valid."""
        name = self.name or _derived(self.source)
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{self.source}: {name!r} is not a valid name of a dataset; set `name` in a configuration file, with "
                "letters, digits, '.', '_' and '-' only"
            )
        return name


def is_request(text: str) -> bool:
    """Return whether `text` requests an imported dataset: `hf:...` or a configuration file."""
    return text.startswith(PREFIX) or text.endswith(SUFFIX)


def read_request(text: str) -> Request:
    """Parse `hf:SOURCE?key=value&...` or read a configuration file (TOML). Raises UserError."""
    return _parse_text(text) if text.startswith(PREFIX) else _read_file(Path(text).expanduser())


def with_columns(names: Sequence[str], columns: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the names of datasets, with `columns` (by key) added to those of the form `hf:...`. Raises UserError."""
    given = {key: value for key, value in columns.items() if value}
    if given and not any(name.startswith(PREFIX) for name in names):
        options = ", ".join(f"--{key}" for key in given)
        raise UserError(f"{options} needs --dataset hf:NAME_OR_PATH")
    return tuple(_extended(name, given) if name.startswith(PREFIX) else name for name in names)


def picture_request(
    images: str,
    captions: str,
    column: str,
    features: str,
    name: str,
    truth_known: bool = True,
    skip_bad: bool = False,
    tokenizer: str = "",
) -> str:
    """Return a request for a dataset of pictures: a folder with a captions file, or columns of `hf:...`."""
    given = {"features": features, "name": name, "truth-known": "" if truth_known else "false"}
    given["tokenizer"] = tokenizer
    given["skip-bad"] = "true" if skip_bad else ""
    if images.startswith(PREFIX):
        return _extended(images, {k: v for k, v in {**given, "captions": captions, "images": column}.items() if v})
    if column:
        raise UserError(f"--image-column {column} needs --images hf:NAME_OR_PATH, but {images} is a folder of pictures")
    return _extended(f"{PREFIX}{images}", {k: v for k, v in {**given, "captions-file": captions}.items() if v})


def _extended(text: str, given: Mapping[str, str]) -> str:
    source, mark, query = text.partition("?")
    pairs = {**dict(parse_qsl(query)), **given}
    return f"{source}?{urlencode(pairs)}" if pairs else source + mark


def _parse_text(text: str) -> Request:
    source, _, query = text.removeprefix(PREFIX).partition("?")
    if not source:
        raise UserError(f"dataset {text!r} has no source; use hf:NAME_OR_PATH")
    given: dict[str, Any] = dict(parse_qsl(query))
    for name, kind in _kinds().items():
        value = given.get(name)
        if value is not None and kind == "int":
            given[name] = int(value) if value.isdecimal() and len(value) < 10 else value
        if value is not None and kind == "bool":
            given[name] = {"true": True, "false": False}.get(value, value)
    # Not all commands have options for columns.
    longer = text.replace("{", "{{").replace("}", "}}") + ("&" if "?" in text else "?")
    return _checked({**given, "source": source}, text, f"--{{0}} COL, or {longer}{{0}}=COL")


def _read_file(path: Path) -> Request:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    check_input_file(path, MAX_TOML_BYTES)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected a configuration file of a dataset"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid TOML ({error})") from error
    for key in ("source", "captions-file", "captions_file", "vocabulary", "tokenizer"):  # relative to this file
        value = given.get(key)
        if isinstance(value, str) and value and (path.parent / Path(value).expanduser()).exists():
            given[key] = str((path.parent / Path(value).expanduser()).resolve())
    given.setdefault("name", path.stem)
    return _checked(given, str(path), '{} = "COL"')


def _kinds() -> dict[str, str]:
    return {entry.name.replace("_", "-"): str(entry.type) for entry in fields(Request)}


def _checked(given: Mapping[str, Any], where: str, usage: str) -> Request:
    """Return the request with the keys of `given`. Raises UserError for unknown, invalid and missing keys."""
    kinds, values = _kinds(), dict[str, Any]()
    for written, value in given.items():
        key = written.replace("_", "-")  # as in Python
        if key not in kinds:
            raise UserError(f"{where}: {unknown_name('key', written, kinds)}")
        if key in values:
            raise UserError(f"{where}: {key} is given twice")
        if key == "splits":
            values[key] = _splits(value, where)
        elif type(value).__name__ != kinds[key] or (kinds[key] == "int" and value < 0):
            raise UserError(f"{where}: {key} is {value!r}, expected {_TYPES[kinds[key]]}")
        else:
            values[key] = value
    if not values.get("source"):
        raise UserError(f'{where}: source is missing; set source = "NAME_OR_PATH"')
    request = Request(**{key.replace("-", "_"): value for key, value in values.items()})
    _ = request.path, request.title
    pictures = request.images or request.features or request.captions_file
    for key, alternative in (("image-features", pictures), ("captions", request.captions_file)):
        if not values.get(key) and not alternative:
            raise UserError(f"{where}: set the column of the {key.replace('-', ' ')}: {usage.format(key)}")
    return request


def _splits(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) and name for name in value.values()):
        raise UserError(f'{where}: splits must name splits of the source: [splits] train = "NAME"')
    for split in value:
        if split not in SPLITS:
            raise UserError(f"{where}: {unknown_name('split', split, SPLITS)}")
    if len(set(value.values())) < len(value):
        raise UserError(
            f"{where}: two of train, dev and test are the same split of the source; splits must not overlap"
        )
    return value


def _derived(source: str) -> str:
    path = Path(source).expanduser()
    parts = [*path.resolve().parts] if path.exists() else source.split("/")
    stem = Path(parts[-1]).stem if path.is_file() else parts[-1]
    if split_of(stem.split("-")[0]) and len(parts) > 1:  # train.parquet, data/train-00000-of-00002.parquet
        stem = parts[-2] if parts[-2] != "data" or len(parts) < 3 else parts[-3]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64]
