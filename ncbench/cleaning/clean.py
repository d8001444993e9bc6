"""Cleaning: from an input to findings, lists, a summary and a gallery."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ncbench.cleaning.content import caption_rows, image_rows
from ncbench.cleaning.findings import Findings, judge
from ncbench.cleaning.inputs.content import Content, read_content
from ncbench.cleaning.inputs.found_columns import Columns
from ncbench.cleaning.inputs.opening import Source, open_source
from ncbench.cleaning.lists import Added, check_format, files_of, write_lists
from ncbench.cleaning.pairs import ArrayRows, Pairs
from ncbench.cleaning.partners import NO_PARTNER, Partners, propose
from ncbench.cleaning.scoring import (
    Progress,
    Training,
    best_vector_scorer,
    check_scorers,
    dataset_of,
    default_scorers,
    run_scorers,
)
from ncbench.cleaning.verdicts import KEPT, VERDICTS, Rule
from ncbench.data.cache import cache_root
from ncbench.data.imported.pictures import write_skipped
from ncbench.data.stamps import check_unchanged
from ncbench.errors import UserError
from ncbench.runtime.files import check_absent

ADDED = ("p_mismatched", "verdict", "source_file", "source_row", "partner_row", "partner_image")


@dataclass(frozen=True)
class Options:
    """How pairs are judged and sorted; `scorers` is None for those that fit."""

    scorers: tuple[str, ...] | None = None
    rule: Rule = field(default_factory=Rule)
    training: Training = field(default_factory=Training)
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UserError(f"--folds is {self.folds}; expected at least 2")


@dataclass(frozen=True)
class Judged:
    """What was found out about the pairs of a content, their verdicts (pairs,) and better partners."""

    findings: Findings
    verdicts: NDArray[np.int8]
    partners: Partners
    seconds: float


@dataclass(frozen=True)
class Cleaned:
    """An input that was cleaned: what it says, what was found out, and the files that were written.

    `skipped` lists the pictures that were left out, None if there are none.
    """

    source: Source
    content: Content
    judged: Judged
    lists: dict[str, Path]
    gallery: Path
    summary: Path
    skipped: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of pairs of each verdict."""
        return {name: int((self.judged.verdicts == number).sum()) for number, name in enumerate(VERDICTS)}


def judged(content: Content, options: Options, folder: Path, on_progress: Progress = lambda *_: None) -> Judged:
    """Return what scorers find out about `content`; arrays are files in `folder`. Raises UserError."""
    since = time.perf_counter()
    if content.vectors is not None:
        captions = ArrayRows(content.vectors)
    else:
        assert content.texts is not None
        captions = caption_rows(content.texts, folder)
    own_vectors = content.features.n_regions == 1 and content.vectors is not None
    images = _Vectors(content) if own_vectors else image_rows(content.features, folder)
    pairs = Pairs(images, captions, content.claimed, options.folds, options.seed)
    names = options.scorers or default_scorers(pairs, own_vectors)
    if "cosine" in names and not own_vectors:
        raise UserError("cosine needs vectors of images and of captions in one space; leave it out of --scorers")
    scored, vector_scorers = run_scorers(
        pairs,
        names,
        lambda: dataset_of(pairs, content.features, content.texts, content.vectors),
        options.training,
        on_progress,
    )
    found = judge(pairs, scored)
    verdicts = options.rule.verdicts(found)
    separations = {name: opinion.separation for name, opinion in found.each.items()}
    scorer = best_vector_scorer(vector_scorers, separations)
    partners = Partners(np.full(len(pairs), NO_PARTNER), 0, 0.0)
    if scorer is not None:
        on_progress("partners", 0.0)
        suspects = found.order[verdicts[found.order] != KEPT]
        partners = propose(pairs, scorer, suspects, np.flatnonzero(verdicts == KEPT))
    return Judged(found, verdicts, partners, time.perf_counter() - since)


class _Vectors:
    """The images of a content that are single vectors."""

    def __init__(self, content: Content) -> None:
        self._features, self.dim = content.features, content.features.dim

    def __len__(self) -> int:
        return len(self._features)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors by number."""
        return self._features.take(numbers)[:, 0]


def clean(
    text: str,
    out: Path,
    options: Options,
    *,
    columns: Columns | None = None,
    captions_file: Path | None = None,
    pictures: Path | None = None,
    features: str = "builtin",
    force: bool = False,
    skip_bad: bool = False,
    on_opened: Any = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> Cleaned:
    """Judge all pairs of the input `text`, and write lists, a summary and a gallery next to `out`.

    See `open_source` for `columns`, `captions_file` and `pictures`; `features` describe pictures. With `skip_bad`,
    pictures that cannot be read are left out and listed. `on_opened` receives the source. Raises UserError, for files
    that exist unless `force` is given, before any work is done.
    """
    from ncbench.cleaning.gallery import write_gallery
    from ncbench.cleaning.summary import write_summary

    gallery, summary = out.with_suffix(".html"), out.with_suffix(".json")
    skipped = out.with_name(f"{out.stem}.skipped.txt")
    written = [*files_of(out).values(), gallery, summary, *([skipped] if skip_bad else [])]
    if not force:
        check_absent(written)
    if options.scorers is not None:
        check_scorers(options.scorers, options.training)
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clean-", dir=cache_root()) as name:
        folder = Path(name)
        source = open_source(text, columns or Columns(), captions_file, pictures, folder)
        check_format(out, source, ADDED)
        inputs = {stamp.path.resolve() for stamp in source.files}
        for path in written:
            if path.resolve() in inputs:
                raise UserError(f"--out {out}: would overwrite {path}, which is read; choose another path")
        on_opened(source)
        content = read_content(source, folder, features, lambda share: on_progress("reading", share), skip_bad)
        found = judged(content, options, folder, on_progress)
        check_unchanged(source.files)
        on_progress("writing", 0.0)
        lists = write_lists(source, content.counts, found.verdicts, _added(source, content, found), out)
        if content.skipped:
            write_skipped(skipped, content.skipped)
        done = Cleaned(source, content, found, lists, gallery, summary, skipped if content.skipped else None)
        write_summary(done, options)
        write_gallery(done, options)
    return done


def _added(source: Source, content: Content, found: Judged) -> list[Added]:
    """Return the columns that are added to those of the input."""
    files, numbers = source.source_rows()
    partner_rows = np.where(found.partners.pair >= 0, content.rows[found.partners.pair], -1)
    images = [
        None if pair < 0 else content.names[content.claimed[pair]] or None for pair in found.partners.pair.tolist()
    ]
    rows: Sequence[Any] = [None if row < 0 else int(numbers[row]) for row in partner_rows.tolist()]
    named = [VERDICTS[verdict] for verdict in found.verdicts]
    return [
        Added("p_mismatched", found.findings.together.p_mismatched, pa.float64()),
        Added("verdict", named, pa.string()),
        Added("source_file", files, pa.string(), of_rows=True),
        Added("source_row", numbers, pa.int64(), of_rows=True),
        Added("partner_row", rows, pa.int64()),
        Added("partner_image", images, pa.string()),
        *(Added(f"score_{name}", opinion.scores, pa.float64()) for name, opinion in found.findings.each.items()),
    ]
