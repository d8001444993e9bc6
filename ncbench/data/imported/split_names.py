"""Which split a name belongs to: the name of a file or folder, or of a split of the source. Imports nothing heavy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ncbench.data.data_warning import DataWarning
from ncbench.errors import UserError

SPLITS = ("train", "dev", "test")
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "dev": ("dev", "validation", "valid", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The words that name a split, those of `datasets`. The first found is the usual one."""

REST = "restval"
"""The part of MS-COCO's validation set that Karpathy's splits add to train, as all published work does."""

_SPLIT_OF = {word: split for split, words in SPLIT_NAMES.items() for word in words} | {REST: "train"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # MyTrain_2.parquet: My, Train, parquet
_DEPTH = 4
"""Folders below the source in which files are found."""


def words_of_split(name: str) -> list[str]:
    """Return the words in `name` that name a split, in lower case: ["val"] of "my_Val-00000-of-00002"."""
    return [word for word in map(str.lower, _WORD.findall(name)) if word in _SPLIT_OF]


def split_of(name: str) -> str | None:
    """Return the split that `name` belongs to, or None if it names none, or several."""
    found = {_SPLIT_OF[word] for word in words_of_split(name)}
    return found.pop() if len(found) == 1 else None


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files with these suffixes in `folder` and its folders, sorted; hidden ones are left out."""
    found = (file for depth in range(_DEPTH) for file in folder.glob("*/" * depth + "*"))
    return sorted(
        file
        for file in found
        if file.suffix.lower() in suffixes
        and not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def files_by_split(root: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the files of each split under the word that names it, as in `datasets`: in its name or a folder's.

    The nearest folder counts. If no file names a split, all are `train`. Raises UserError if only some do, and for
    names that could be of two splits.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_word_of(root, file), []).append(file)
    if "" not in found:
        return found
    if len(found) > 1:
        named = ", ".join(sorted(found)[1:])
        raise UserError(
            f"{found[''][0]}: belongs to no split, but {root} has files for {named}; rename it, or move it elsewhere"
        )
    glued = [file for file in found[""] if re.search(r"train|valid|val|dev|test|eval", file.stem, re.IGNORECASE)]
    if glued and len(found[""]) > 1:
        raise UserError(
            f"{glued[0]}: cannot tell its split; set the word apart, as in {{train,validation,test}}{glued[0].suffix}"
        )
    if len({re.sub(r"\d+", "", file.stem) for file in found[""]}) > 1:  # not the numbered parts of one file
        names = ", ".join(file.name for file in found[""][:3])
        warnings.warn(
            f"{root}: no file names a split ({names}{', ...' if len(found['']) > 3 else ''}), so all rows are train, "
            "and dev and test are drawn from them; rename the files if that is wrong",
            DataWarning,
            stacklevel=2,
        )
    return {"train": found[""]}


def _word_of(root: Path, file: Path) -> str:
    """Return the word that names the split of a file, "" if none does. Raises UserError if it could be two splits."""
    inside = file.relative_to(root)
    decided = ""
    for name in (inside.stem, *reversed(inside.parent.parts)):
        words = words_of_split(name)
        if len({_SPLIT_OF[word] for word in words}) > 1:
            raise UserError(f"{file}: {name!r} names the splits {' and '.join(words)}; rename it so that it names one")
        if words and decided and _SPLIT_OF[words[0]] != _SPLIT_OF[decided]:
            raise UserError(
                f"{file}: its name says {decided}, its folder {words[0]}; rename one, so that they name one split"
            )
        decided = decided or (words[0] if words else "")
    return decided
