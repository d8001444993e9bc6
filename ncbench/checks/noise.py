"""Checks of a noise protocol: it is valid, seeded and reproducible, and does what it declares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from ncbench.checks.verdicts import Check, Failed, Skipped, Verdict, judge
from ncbench.data.dataset import Captions, ImageFeatures, IntVector, Split
from ncbench.errors import UserError
from ncbench.noise.base import Noise, NoiseProtocol
from ncbench.noise.registry import draw_noise, load_protocol
from ncbench.noise.shuffles import likely_self_landings
from ncbench.plugins.discovery import NAME
from ncbench.runtime.rng_state import seed_all

IMAGES = 200
FIVE_EACH: IntVector = np.arange(5 * IMAGES) // 5
WORDS, REGIONS, DIM = 50, 3, 8  # of the generated captions and images
RATIOS = (0.2, 0.4, 0.8)
SUBPROCESS_SECONDS = 120

OTHER_SHAPES: dict[str, tuple[IntVector, int]] = {
    "one caption per image": (np.arange(IMAGES), IMAGES),
    "three captions per image": (np.arange(3 * IMAGES) // 3, IMAGES),
    "captions in any order": (np.random.default_rng(0).permutation(FIVE_EACH), IMAGES),
    "images without captions": (2 * FIVE_EACH, 2 * IMAGES),
    "two pairs": (np.arange(2), 2),
}
"""True correspondences that a protocol must support, with the number of images."""

INDEX_FILE_SHAPES = ("three captions per image", "captions in any order")
"""The shapes to test index files with. With as many images as captions, an index file would be ambiguous."""

SUBPROCESS_CODE = """
import json, sys
name, folder, path = sys.argv[1:]
sys.path[:] = json.loads(path)
from ncbench.checks.noise import ProtocolUnderTest
print(json.dumps([noise.digest for noise in ProtocolUnderTest.of(name, folder).sample()]))
"""


@dataclass
class ProtocolUnderTest:
    """A noise protocol, by the name or path given by the user. Index files are generated in `folder`."""

    text: str
    protocol: NoiseProtocol
    folder: Path

    @staticmethod
    def of(text: str, folder: str | Path) -> ProtocolUnderTest:
        """Load the protocol called `text`. Raises UserError."""
        return ProtocolUnderTest(text, load_protocol(text), Path(folder))

    def draw(self, ratio: float, seed: int = 0, true: IntVector = FIVE_EACH, images: int = IMAGES) -> Noise:
        """Return noise. A protocol that reads an index file gets one with noise of its unit at this ratio."""
        text = self.text
        if self.protocol.reads_file:
            text = f"{self.text}:{self.write_index(ratio, true, images)}"
        return draw_noise(text, ratio, split_of(true.copy(), images), seed)

    @property
    def ratios(self) -> Sequence[float]:
        """The ratios to test: only 0 for a protocol that makes no noise."""
        return RATIOS if self.protocol.makes_noise else (0.0,)

    @property
    def axes(self) -> list[tuple[float, int]]:
        """All pairs of ratio and seed to test."""
        return [(ratio, seed) for ratio in self.ratios for seed in (0, 1)]

    def sample(self) -> list[Noise]:
        """Return draws for all `axes`."""
        return [self.draw(ratio, seed) for ratio, seed in self.axes]

    def skip_without_noise(self) -> None:
        """Raise Skipped if the protocol makes no noise."""
        if not self.protocol.makes_noise:
            raise Skipped("the protocol makes no noise")

    def write_index(self, ratio: float, true: IntVector, images: int) -> Path:
        """Write an index file with noise of the unit of the protocol; return its path."""
        unit = self.protocol.unit or "captions"
        claimed = draw_noise(f"shuffle-{unit}", ratio, split_of(true, images), 5).claimed
        path = self.folder / f"{unit}-{ratio}-{len(true)}-{images}-{int(true[0])}.npy"
        np.save(path, claimed)
        return path


@cache
def _random_content(captions: int, images: int) -> tuple[ImageFeatures, Captions]:
    """Return random images and captions, the same for the same sizes."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, captions)
    words = [[1, *rng.integers(4, WORDS, length).tolist(), 2] for length in lengths]
    features = rng.normal(size=(images, REGIONS, DIM)).astype(np.float32)
    return ImageFeatures([features]), Captions([""] * captions, words)


def split_of(true: IntVector, images: int) -> Split:
    """Return a training split with this correspondence, for protocols that use its content."""
    return Split(*_random_content(len(true), images), true)


def _named(subject: ProtocolUnderTest) -> str:
    protocol = subject.protocol
    if not NAME.fullmatch(protocol.name):
        raise Failed(f"{protocol.name!r} is not a valid name; use letters, digits, '.', '_' and '-'")
    for part in ("version", "summary"):
        value = getattr(protocol, part)
        if not (isinstance(value, str) and value.strip()) or "\n" in value:
            raise Failed(f"{part} must be one line of text, found {value!r}")
    return f"{protocol.usage}, version {protocol.version}"


def _draws(subject: ProtocolUnderTest) -> str:
    for ratio in subject.ratios:
        subject.draw(ratio)
    return f"a claimed image for each of {len(FIVE_EACH):,} captions, at {', '.join(f'{r:g}' for r in subject.ratios)}"


def _truth_untouched(subject: ProtocolUnderTest) -> str:
    true = FIVE_EACH.copy()
    text = subject.text
    if subject.protocol.reads_file:
        text = f"{text}:{subject.write_index(subject.ratios[-1], true, IMAGES)}"
    noise = draw_noise(text, subject.ratios[-1], split_of(true, IMAGES), 0)
    if not np.array_equal(true, FIVE_EACH):
        raise Failed("it modifies the true correspondence in place")
    if np.shares_memory(noise.claimed, true):
        raise Failed("the claimed correspondence shares memory with the true one")
    return "the true correspondence is unchanged"


def _clean_at_0(subject: ProtocolUnderTest) -> str:
    wrong = int((~subject.draw(0.0).clean(FIVE_EACH)).sum())
    if wrong:
        raise Failed(f"at ratio 0, {wrong} pairs are mismatched")
    return "no pair is mismatched at ratio 0"


def _seeded(subject: ProtocolUnderTest) -> str:
    subject.skip_without_noise()
    first, again, other = (subject.draw(0.4, seed) for seed in (0, 0, 1))
    if first.digest != again.digest:
        raise Failed("the same seed draws different noise")
    if subject.protocol.reads_file:
        if first.digest != other.digest:
            raise Failed("the noise depends on the seed, although the file determines it")
        return "the noise is that of the file for every seed"
    if first.digest == other.digest:
        raise Failed("different seeds draw the same noise")
    return "the same seed draws the same noise, different seeds different noise"


def _stable(subject: ProtocolUnderTest) -> str:
    before = [noise.digest for noise in subject.sample()]
    seed_all(12345)
    if [subject.draw(ratio, seed).digest for ratio, seed in reversed(subject.axes)] != before[::-1]:
        raise Failed("the noise depends on earlier draws or on global random number generators")
    command = [sys.executable, "-c", SUBPROCESS_CODE, subject.text, str(subject.folder), json.dumps(sys.path)]
    try:
        # A different hash seed, also if this process has a fixed one.
        env = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=SUBPROCESS_SECONDS, check=True, env=env)
        after = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        last = (getattr(error, "stderr", "") or str(error)).strip().rpartition("\n")[2]
        raise Failed(f"drawing in another process failed: {last}") from error
    if after != before:
        raise Failed("another process draws different noise from the same seed")
    return f"{len(before)} digests are the same in any order and in another process, for example {before[0][:12]}"


def _unit(subject: ProtocolUnderTest) -> str:
    subject.skip_without_noise()
    declared = subject.protocol.unit
    for ratio in RATIOS:
        noise = subject.draw(ratio)
        if declared is not None and noise.unit != declared:
            raise Failed(f"declares unit {declared}, but draws noise of unit {noise.unit}")
        moved = moved_unit(noise)
        if moved != noise.unit:
            raise Failed(f"declares unit {noise.unit}, but moves {UNIT_DESCRIPTIONS[moved]} at ratio {ratio:g}")
    return f"moves {noise.unit}" + ("" if declared else ", as in the file")


UNIT_DESCRIPTIONS = {
    "captions": "single captions",
    "images": "images with all their captions",
    "words": "words",
    "pairs": "both captions and words",
}


def moved_unit(noise: Noise) -> str:
    """Return the unit that `noise` moves; expects five captions per image."""
    together = noise.claimed.reshape(IMAGES, 5)
    if noise.splices is not None:
        return "words" if np.array_equal(noise.claimed, FIVE_EACH) else "pairs"
    return "images" if (together == together[:, :1]).all() else "captions"


def _ratio(subject: ProtocolUnderTest) -> str:
    subject.skip_without_noise()
    found = []
    for ratio, seed in subject.axes:
        noise = subject.draw(ratio, seed)
        wrong = ~noise.clean(FIVE_EACH)
        count = int(wrong.sum()) if noise.unit != "images" else len(np.unique(FIVE_EACH[wrong]))
        items = len(FIVE_EACH) if noise.unit != "images" else IMAGES
        lucky = 0.0 if subject.protocol.exact else likely_self_landings(ratio, noise.unit, FIVE_EACH)
        if not int(ratio * items) - lucky <= count <= np.ceil(ratio * items):
            tolerance = f", or up to {lucky:.0f} fewer because of items that stay in place by chance"
            raise Failed(
                f"at ratio {ratio:g}, {count} of {items} {RATIO_ITEMS[noise.unit]} are mismatched; expected "
                f"{int(ratio * items)}" + (" (the protocol declares exact)" if subject.protocol.exact else tolerance)
            )
        found.append(f"{count / items:.3f}")
    ratios = ", ".join(f"{ratio:g}" for ratio in RATIOS)
    return f"share of mismatched {RATIO_ITEMS[noise.unit]}: {', '.join(found[::2])} at ratios {ratios}"


def _nested(subject: ProtocolUnderTest) -> str:
    if not subject.protocol.nested:
        raise Skipped("the protocol does not declare nested")
    for low, high in pairwise(RATIOS):
        lower, higher = (subject.draw(ratio) for ratio in (low, high))
        outside = int((~lower.clean(FIVE_EACH) & higher.clean(FIVE_EACH)).sum())
        lucky = likely_self_landings(high, higher.unit, FIVE_EACH) * (5 if higher.unit == "images" else 1)
        lucky = 0.0 if subject.protocol.exact else lucky
        if outside > lucky:
            raise Failed(f"{outside} captions are mismatched at ratio {low:g} but not at {high:g}, with the same seed")
    return "pairs mismatched at a lower ratio are mismatched at higher ratios (except by chance)"


def _any_shape(subject: ProtocolUnderTest) -> str:
    names = INDEX_FILE_SHAPES if subject.protocol.reads_file else tuple(OTHER_SHAPES)
    shapes = {name: OTHER_SHAPES[name] for name in names}
    for name, (true, images) in shapes.items():
        try:
            subject.draw(subject.ratios[0], 0, true, images)
            wrong = int((~subject.draw(0.0, 0, true, images).clean(true)).sum())
        except UserError as error:
            raise Failed(f"{name}: {error}") from error
        if wrong:
            raise Failed(f"{name}: at ratio 0, {wrong} pairs are mismatched")
    return ", ".join(shapes)


RATIO_ITEMS = {"captions": "captions", "images": "images", "words": "captions", "pairs": "pairs"}
"""The items that the ratio refers to, by unit."""

AFTER_DRAWING = ("draws",)
CHECKS: Sequence[Check[ProtocolUnderTest]] = (
    Check(
        "named",
        "the protocol has a name, a version and a one-line summary",
        "set a name of letters, digits, '.', '_' and '-', a version, and a summary",
        _named,
    ),
    Check(
        "draws",
        "the protocol returns an int64 vector with an existing image for every caption, and its unit",
        "return (claimed, unit): claimed int64 like request.true, unit 'captions', 'images', 'words' or 'pairs'",
        _draws,
    ),
    Check(
        "truth-untouched",
        "the protocol does not modify the true correspondence",
        "modify request.true.copy(); request.true is the array of the dataset",
        _truth_untouched,
        AFTER_DRAWING,
    ),
    Check(
        "clean-at-0", "at ratio 0 nothing is mismatched", "move int(ratio * items) items", _clean_at_0, AFTER_DRAWING
    ),
    Check(
        "seeded",
        "the same seed draws the same noise, different seeds different noise",
        "use no randomness other than request.rng",
        _seeded,
        AFTER_DRAWING,
    ),
    Check(
        "stable",
        "digests do not depend on the process, on global random number generators, or on earlier draws",
        "use only request.rng; hash() and the order of sets of strings differ between processes",
        _stable,
        (*AFTER_DRAWING, "seeded"),
    ),
    Check(
        "unit",
        "the protocol moves the unit that it declares: captions, images with all their captions, words, or both",
        "declare the unit that moves; different units are not comparable at the same ratio",
        _unit,
        AFTER_DRAWING,
    ),
    Check(
        "ratio",
        "the share of mismatched items equals the ratio; true pairs do not count as noise",
        "choose int(ratio * items) items, and let few of them keep their own image",
        _ratio,
        (*AFTER_DRAWING, "unit"),
    ),
    Check(
        "nested",
        "if declared nested: pairs mismatched at a lower ratio are mismatched at higher ratios of the same seed",
        "take the first int(ratio * items) of an order that does not depend on the ratio, or do not declare nested",
        _nested,
        (*AFTER_DRAWING, "seeded", "unit"),
    ),
    Check(
        "any-shape",
        "the protocol supports any number and order of captions per image, images without captions, and two pairs",
        "derive which image a caption belongs to from request.true only",
        _any_shape,
        (*AFTER_DRAWING, "clean-at-0"),
    ),
)


def check_protocol_named(text: str) -> Generator[Verdict, None, None]:
    """Yield the verdicts on a noise protocol, given by name or file path. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="ncbench-check-") as folder:
        yield from judge(CHECKS, ProtocolUnderTest.of(text, folder))
