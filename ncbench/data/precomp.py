"""The released files of Flickr30K, MS-COCO and CC152K: region features, captions and vocabularies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ncbench.data.captions_file import read_captions
from ncbench.data.dataset import Captions, Dataset, FloatArray, ImageFeatures, IntVector, Split
from ncbench.data.feature_sizes import bad_size, first_bad_row
from ncbench.data.stamps import stamp
from ncbench.data.stand_ins import check_data_file
from ncbench.data.token_cache import token_ids
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError, unknown_name

DevRule = Literal["standard", "ncr"]

DEV_VERSION_MARK = "-dev-"
"""Separates the version of a dataset from its dev rule, if that is not the default."""

DEV_IMAGES = 1_000
"""Dev images used by the `standard` rule; as published, the rest of the released dev files is not used."""

SPLITS = ("train", "dev", "test")

SCALE, BATCH_SIZE = {"embed": 1024, "similarity": 256, "word": 300}, 128
"""Sizes of networks and of batches, as published for SGRAF."""

COCO_FOLDS = 5
"""The folds of MS-COCO's `testall` images over which the 1K metrics are averaged."""

N_SAMPLED_ROWS = 64
"""Feature rows per file that enter the digest: evenly spaced, including the first and the last."""

MAX_FULL_CHECK_BYTES = 2**28
"""Feature files up to this size are checked in full; of larger files, only the sampled rows."""


class MissingFilesError(UserError):
    """Released files that are not where they should be."""


@dataclass
class PrecompSource:
    """A dataset in the released format, `DIR/<name>_precomp/` and `DIR/vocab/<name>_precomp_vocab.json`.

    Each split consists of `{split}_ims.npy`, (rows, R regions, D) float32, and `{split}_caps.txt`, with one caption per
    line and `captions_per_image` consecutive lines per image, or `{split}_caps.tsv`, with image id, tab, caption, if
    `tabbed`. The features have one row per image, or one row per caption, in which case the row of an image repeats.
    With `testall`, the test split is read from files of that name if they exist, and has folds.

    `published_epochs` is the default budget of a run: the epochs of L2RM, including its warm-up.

    `dev_rule` selects the dev images: "standard" the first 1,000 images; "ncr" the first 1,000 rows, as the NCR family
    of code does, which are 200 images if rows repeat. Use `dataclasses.replace(F30K, dev_rule="ncr")`.
    """

    name: str
    summary: str
    published_epochs: float
    captions_per_image: int = 5
    tabbed: bool = False
    testall: bool = False
    truth_known: bool = True
    dev_rule: DevRule = "standard"
    needs_root: bool = True

    def __post_init__(self) -> None:
        if self.dev_rule not in get_args(DevRule):
            raise unknown_name("dev rule", self.dev_rule, get_args(DevRule))

    def load(self, root: Path | None) -> Dataset:
        """Return the dataset in `root`: the folder that contains `<name>_precomp`, or that folder itself.

        SCAN keeps that folder in `data/`, beside `vocab/`: `root` may also be the folder that contains both.

        Features are memory-mapped. The digest covers captions, vocabulary and word ids in full, and of each feature
        file the name, size, shape and `N_SAMPLED_ROWS` rows, since reading it all takes minutes.
        Raises UserError for missing or malformed files. Warns (TokenisationWarning) if NLTK's Punkt data are not
        installed and some captions may be tokenised differently from published work.
        """
        return self._load(root, SPLITS)

    def load_split(self, root: Path | None, split: str) -> Dataset:
        """Return the dataset with this split only; the other files need not exist. Otherwise as `load`."""
        return self._load(root, (split,))

    def _load(self, root: Path | None, wanted: Sequence[str]) -> Dataset:
        stem = f"{self.name}_precomp"
        if root is None:
            needed = self._needed(wanted)
            raise UserError(f"dataset {self.name!r} needs --data-root DIR, where DIR contains {needed}")
        root = root.absolute()  # so that "." has a parent
        is_folder = root.name == stem or any((root / f"{split}_ims.npy").exists() for split in SPLITS)
        folder = root if is_folder else root / stem
        if not folder.is_dir() and (root / "data" / stem).is_dir():  # as SCAN's code has it
            folder = root / "data" / stem
        files = {split: self._test_file(folder) if split == "test" else split for split in wanted}
        vocabulary_file = self._locate(folder, tuple(files.values()))
        kinds = ("ims.npy", f"caps.{self._suffix}")
        read = stamp([vocabulary_file, *(folder / f"{file}_{kind}" for file in files.values() for kind in kinds)])

        vocabulary = Vocabulary.read(vocabulary_file)
        tokeniser = Tokeniser(vocabulary.abbreviations)
        facts = [_fact_of_text(vocabulary_file)]
        splits = {}
        for split, file in files.items():
            splits[split], more = self._split(folder, split, file, vocabulary, tokeniser)
            facts += more
        _check_alike(folder, {f"{files[split]}_ims.npy": content.images for split, content in splits.items()})
        tokeniser.warn()
        return Dataset(
            name=self.name,
            version="1" if self.dev_rule == "standard" else f"1{DEV_VERSION_MARK}{self.dev_rule}",
            vocabulary=vocabulary,
            splits=splits,
            digest=hashlib.sha256("\n".join(facts).encode()).hexdigest(),
            scale=SCALE,
            batch_size=BATCH_SIZE,
            budget=self.published_epochs,
            truth_known=self.truth_known,
            folds=self._folds(folder, files["test"], splits["test"]) if "test" in files else 1,
            files=read,
        )

    @property
    def _suffix(self) -> str:
        return "tsv" if self.tabbed else "txt"

    def _needed(self, files: Sequence[str]) -> str:
        stem, names = f"{self.name}_precomp", "{" + ",".join(files) + "}" if len(files) > 1 else files[0]
        return f"{stem}/{names}_ims.npy, {stem}/{names}_caps.{self._suffix} and vocab/{stem}_vocab.json"

    def _test_file(self, folder: Path) -> str:
        candidates = [folder / "testall_ims.npy", folder / f"testall_caps.{self._suffix}"]
        return "testall" if self.testall and any(path.exists() for path in candidates) else "test"

    def _locate(self, folder: Path, files: Sequence[str]) -> Path:
        """Return the vocabulary file, next to or in `folder`. Raises MissingFilesError if any file is missing."""
        if not folder.is_dir():
            raise MissingFilesError(f"{folder} is not a folder; dataset {self.name!r} needs {self._needed(files)}")
        names = [f"{file}_{kind}" for file in files for kind in ("ims.npy", f"caps.{self._suffix}")]
        missing = [name for name in names if not (folder / name).is_file()]
        vocabulary = Path("vocab", f"{self.name}_precomp_vocab.json")
        places = [folder.parent, folder, *([folder.parent.parent] if folder.parent.name == "data" else [])]
        found = [place / vocabulary for place in places if (place / vocabulary).is_file()]
        if not found:
            missing.append(f"{vocabulary} (in the folder or next to it)")
        if missing:
            raise MissingFilesError(
                f"{folder} lacks {', '.join(missing)}; dataset {self.name!r} needs {self._needed(files)}"
            )
        return found[0]

    def _split(
        self, folder: Path, split: str, file: str, vocabulary: Vocabulary, tokeniser: Tokeniser
    ) -> tuple[Split, list[str]]:
        """Return the split in `file`, and the lines of its files for the digest."""
        features_file, captions_file = folder / f"{file}_ims.npy", folder / f"{file}_caps.{self._suffix}"
        features = open_features(features_file)
        texts = read_captions(captions_file, self.tabbed)
        stride = self._stride(features_file, features, captions_file, len(texts))
        images = len(features) // stride
        if split == "dev":
            images = min(images, DEV_IMAGES // stride if self.dev_rule == "ncr" else DEV_IMAGES)
        texts = texts[: images * self.captions_per_image]
        tokens, lengths = token_ids(texts, vocabulary, tokeniser)
        true: IntVector = np.arange(len(texts), dtype=np.int64) // self.captions_per_image
        facts = [_fact_of_features(features_file, features), _fact_of_text(captions_file), _fact_of_tokens(tokens)]
        return Split(
            ImageFeatures([features[: images * stride]], stride), Captions.of_arrays(texts, tokens, lengths), true
        ), facts

    def _stride(self, features_file: Path, features: FloatArray, captions_file: Path, captions: int) -> int:
        """Return the number of rows per image. Raises UserError if rows and captions do not match."""
        each, rows = self.captions_per_image, len(features)
        if captions == 0 or captions % each:
            raise UserError(
                f"{captions_file}: found {captions} captions, expected a multiple of {each} ({each} per image)"
            )
        if rows * each == captions:
            return 1
        if rows != captions:
            expected = (
                f"{captions // each} (one per image) or {captions} (one per caption)" if each > 1 else f"{captions}"
            )
            raise UserError(
                f"{features_file}: found {rows} rows for {captions} captions in {captions_file.name}, "
                f"expected {expected}"
            )
        if features[0].tobytes() != features[each - 1].tobytes():
            raise UserError(
                f"{features_file}: with as many rows as captions, rows 0 to {each - 1} must be the same image, but "
                f"they differ; expected repeated rows or {captions // each} rows (one per image)"
            )
        return each

    def _folds(self, folder: Path, file: str, test: Split) -> int:
        if file != "testall":
            return 1
        if len(test.images) % COCO_FOLDS:
            raise UserError(
                f"{folder / 'testall_ims.npy'}: {len(test.images)} images cannot be split into {COCO_FOLDS} folds"
            )
        return COCO_FOLDS


def open_features(path: Path) -> FloatArray:
    """Return the array in `path`, (rows, R, D) float32, memory-mapped. Raises UserError for any other content.

    float16 is also accepted, as written by `ncbench data prepare --half`.
    """
    expected = "a .npy file of float32 (rows, regions, dimensions)"
    check_data_file(path)
    try:
        features = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises many types of errors for damaged headers
        reason = " ".join(str(error).split())
        ragged = "object" in reason.lower()
        remedy = "; if regions vary in number, cut those of each image to one number, such as the 36 surest"
        raise UserError(
            f"{path}: cannot be mapped into memory ({reason}); expected {expected}{remedy if ragged else ''}"
        ) from error
    if features.ndim != 3 or 0 in features.shape or features.dtype not in (np.float32, np.float16):
        raise UserError(f"{path}: found {features.dtype} of shape {features.shape}, expected {expected}")
    check_rows(path, features, None if features.nbytes <= MAX_FULL_CHECK_BYTES else _sampled(features))
    return features


def check_rows(path: Path, features: FloatArray, rows: IntVector | None = None) -> None:
    """Raise UserError if any of `rows` (None: all) of the features in `path` is not finite, or absurd."""
    numbers = np.arange(len(features)) if rows is None else rows
    for start in range(0, len(numbers), N_SAMPLED_ROWS):
        chosen = numbers[start : start + N_SAMPLED_ROWS]
        if found := first_bad_row(features[chosen]):
            raise UserError(f"{path}: row {chosen[found[0]]} {bad_size(found[1])}; download the file again")


def _sampled(features: FloatArray) -> IntVector:
    """Return the numbers of N_SAMPLED_ROWS rows, evenly spaced."""
    return np.unique(np.linspace(0, len(features) - 1, N_SAMPLED_ROWS).astype(np.int64))


def _check_alike(folder: Path, features: dict[str, ImageFeatures]) -> None:
    """Raise UserError unless all `features`, by file name, have the same regions and dimensions."""
    shapes = {name: (images.n_regions, images.dim) for name, images in features.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UserError(f"{folder}: regions and dimensions must be the same in all feature files, found {found}")


def _fact_of_text(path: Path) -> str:
    content = path.read_bytes()
    return f"{path.name} {len(content)} {hashlib.sha256(content).hexdigest()}"


def _fact_of_features(path: Path, features: FloatArray) -> str:
    sample = hashlib.sha256(features[_sampled(features)].tobytes()).hexdigest()
    return f"{path.name} {path.stat().st_size} {features.shape} {features.dtype} {sample}"


def _fact_of_tokens(tokens: IntVector) -> str:
    return f"tokens {len(tokens)} {hashlib.sha256(tokens.astype('<i8').tobytes()).hexdigest()}"


F30K = PrecompSource("f30k", "Flickr30K, 29,000 training images with five captions each (released region features)", 40)
COCO = PrecompSource(
    "coco", "MS-COCO, 113,287 training images with five captions each (released region features)", 30, testall=True
)
CC152K = PrecompSource(
    "cc152k",
    "Conceptual Captions, 150,000 training images with one caption each, some mismatched by nature",
    50,
    captions_per_image=1,
    tabbed=True,
    truth_known=False,
)
