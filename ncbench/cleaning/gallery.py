"""The gallery of a cleaning: one self-contained HTML page with the worst, the doubtful and random pairs.

The template escapes all text, and a content security policy allows embedded images and nothing else.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ncbench.cleaning.inputs.content import picture_contents
from ncbench.cleaning.summary import sentences, summary_of
from ncbench.cleaning.verdicts import VERDICTS
from ncbench.data.dataset import IntVector
from ncbench.data.imported.pictures import decode
from ncbench.runtime.files import write_text
from ncbench.runtime.seeds import derive_rng

if TYPE_CHECKING:
    from ncbench.cleaning.clean import Cleaned, Options

SHOWN = 24
"""Pairs in each section: with two pictures of at most a few kilobytes each, the page stays below two megabytes."""

THUMBNAIL = 160
MAX_CHARACTERS = 400


@dataclass(frozen=True)
class ShownPair:
    """A pair in the gallery; pictures are data URIs, "" if there is none."""

    caption: str
    p: str
    verdict: str
    where: str
    id: str
    file: str
    picture: str
    partner: str
    proposal: str


@dataclass(frozen=True)
class Section:
    """Pairs below a title."""

    title: str
    pairs: Sequence[ShownPair]


def write_gallery(done: Cleaned, options: Options) -> None:
    """Write the gallery next to the lists. Raises OSError, and UserError for a picture that is gone."""
    from jinja2 import Environment, StrictUndefined

    template = (files("ncbench.cleaning") / "assets" / "gallery.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    chosen = _chosen(done)
    pictures = _thumbnails(done, np.concatenate(list(chosen.values())))
    histogram = summary_of(done, options)["histogram"]["counts"]
    page = environment.from_string(template).render(
        title=f"Pairs of {done.source.name}",
        sentences=sentences(done, options),
        rule=options.rule.in_words,
        counts=done.counts,
        histogram=histogram,
        heights=[round(100 * count / max(1, *histogram), 1) for count in histogram],
        sections=[Section(title, [*_shown(done, some, pictures)]) for title, some in chosen.items() if len(some)],
    )
    write_text(done.gallery, page.encode("utf-8", "replace").decode() + "\n")


def _chosen(done: Cleaned) -> dict[str, IntVector]:
    """Return the pairs of each section."""
    p, order = done.judged.findings.together.p_mismatched, done.judged.findings.order
    rng = derive_rng(0, "cleaning", "gallery")
    return {
        "Most likely mismatched": order[:SHOWN],
        "Most doubtful": np.argsort(np.abs(p - 0.5), kind="stable")[:SHOWN],
        "Random pairs": np.sort(rng.permutation(len(p))[:SHOWN]),
    }


def _shown(done: Cleaned, pairs: IntVector, pictures: Mapping[int, str]) -> Iterator[ShownPair]:
    content, judged = done.content, done.judged
    for pair in pairs.tolist():
        row, image, partner = int(content.rows[pair]), int(content.claimed[pair]), int(judged.partners.pair[pair])
        label, number = done.source.source_row(row)
        proposal = ""
        if partner >= 0:
            other, place = done.source.source_row(int(content.rows[partner]))
            proposal = content.names[content.claimed[partner]] or f"{other}, row {place}"
        yield ShownPair(
            caption=_short(content.texts[pair]) if content.texts else "",
            p=f"{judged.findings.together.p_mismatched[pair]:.3f}",
            verdict=VERDICTS[judged.verdicts[pair]],
            where=f"{label}, row {number}",
            id=_short(content.ids[row]) if content.ids else "",
            file=_short(content.names[image]),
            picture=pictures.get(image, ""),
            partner=pictures.get(int(content.claimed[partner]), "") if partner >= 0 else "",
            proposal=_short(proposal),
        )


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} …"


def _thumbnails(done: Cleaned, pairs: IntVector) -> dict[int, str]:
    """Return a data URI for each image of `pairs` and of their partners, by number; none without pictures."""
    content, source = done.content, done.source
    if not source.columns.images or (source.root is None and not _embedded(source)):
        return {}
    partners = done.judged.partners.pair[pairs]
    images = np.unique(content.claimed[np.concatenate([pairs, partners[partners >= 0]])])
    image_of = dict(zip(content.first_rows[images].tolist(), images.tolist(), strict=True))
    found = picture_contents(source, content.first_rows[images])
    return {image_of[row]: _data_uri(encoded, source.place(row)) for row, encoded in found}


def _embedded(source: Any) -> bool:
    kind = source.schema.field(source.columns.images).type
    return str(kind) not in ("string", "large_string")


def _data_uri(encoded: bytes, where: str) -> str:
    picture = Image.fromarray(decode(encoded, where))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
