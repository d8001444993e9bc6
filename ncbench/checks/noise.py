"""All checks of a noise protocol: what it draws, from what, and whether it is what it says."""

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
WORDS, REGIONS, DIM = 50, 3, 8  # of the captions and images that protocols may look at
RATIOS = (0.2, 0.4, 0.8)
LATER_SECONDS = 120

OTHER_SHAPES: dict[str, tuple[IntVector, int]] = {
    "one caption per image": (np.arange(IMAGES), IMAGES),
    "three captions per image": (np.arange(3 * IMAGES) // 3, IMAGES),
    "captions in any order": (np.random.default_rng(0).permutation(FIVE_EACH), IMAGES),
    "images without captions": (2 * FIVE_EACH, 2 * IMAGES),
    "two pairs": (np.arange(2), 2),
}
"""Correspondences that a protocol must take, and their numbers of images."""

FOR_FILES = ("three captions per image", "captions in any order")
"""Those that index files exist for: one of as many images as captions can be read in two ways."""

IN_ANOTHER_PROCESS = """
import json, sys
name, folder, path = sys.argv[1:]
sys.path[:] = json.loads(path)
from ncbench.checks.noise import Drawer
print(json.dumps([noise.digest for noise in Drawer.of(name, folder).sample()]))
"""


@dataclass
class Drawer:
    """A noise protocol under examination, by the name or path that a user gave; index files lie in `folder`."""

    text: str
    protocol: NoiseProtocol
    folder: Path

    @staticmethod
    def of(text: str, folder: str | Path) -> Drawer:
        """Return the drawer of the protocol called `text`. Raises UserError."""
        return Drawer(text, load_protocol(text), Path(folder))

    def draw(self, ratio: float, seed: int = 0, true: IntVector = FIVE_EACH, images: int = IMAGES) -> Noise:
        """Return noise. A protocol that reads a file is given one, of the unit that it is for, at that ratio."""
        text = self.text
        if self.protocol.reads_file:
            text = f"{self.text}:{self.index(ratio, true, images)}"
        return draw_noise(text, ratio, split_of(true.copy(), images), seed)

    @property
    def ratios(self) -> Sequence[float]:
        """The ratios to draw at: 0 alone for a protocol that makes no noise."""
        return RATIOS if self.protocol.makes_noise else (0.0,)

    @property
    def axes(self) -> list[tuple[float, int]]:
        """Ratios with two seeds each."""
        return [(ratio, seed) for ratio in self.ratios for seed in (0, 1)]

    def sample(self) -> list[Noise]:
        """Return draws at all ratios with two seeds."""
        return [self.draw(ratio, seed) for ratio, seed in self.axes]

    def need_noise(self) -> None:
        """Raise Skipped for a protocol that makes no noise."""
        if not self.protocol.makes_noise:
            raise Skipped("it makes no noise")

    def index(self, ratio: float, true: IntVector, images: int) -> Path:
        """Write an index file with noise of the unit that the protocol is for; return its path."""
        unit = self.protocol.unit or "captions"
        claimed = draw_noise(f"shuffle-{unit}", ratio, split_of(true, images), 5).claimed
        path = self.folder / f"{unit}-{ratio}-{len(true)}-{images}-{int(true[0])}.npy"
        np.save(path, claimed)
        return path


@cache
def _material(captions: int, images: int) -> tuple[ImageFeatures, Captions]:
    """Return images and captions of nothing in particular, the same whenever asked for."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, captions)
    words = [[1, *rng.integers(4, WORDS, length).tolist(), 2] for length in lengths]
    features = rng.normal(size=(images, REGIONS, DIM)).astype(np.float32)
    return ImageFeatures([features]), Captions([""] * captions, words)


def split_of(true: IntVector, images: int) -> Split:
    """Return a training split with this correspondence, for protocols that look at what is in it."""
    return Split(*_material(len(true), images), true)


def _named(drawer: Drawer) -> str:
    protocol = drawer.protocol
    if not NAME.fullmatch(protocol.name):
        raise Failed(f"{protocol.name!r} is no name; use letters, digits, '.', '_' and '-'")
    for part in ("version", "summary"):
        value = getattr(protocol, part)
        if not (isinstance(value, str) and value.strip()) or "\n" in value:
            raise Failed(f"its {part} must be one line of text, found {value!r}")
    return f"{protocol.usage}, version {protocol.version}"


def _draws(drawer: Drawer) -> str:
    for ratio in drawer.ratios:
        drawer.draw(ratio)
    return f"a claimed image for each of {len(FIVE_EACH):,} captions, at {', '.join(f'{r:g}' for r in drawer.ratios)}"


def _truth_untouched(drawer: Drawer) -> str:
    true = FIVE_EACH.copy()
    text = drawer.text
    if drawer.protocol.reads_file:
        text = f"{text}:{drawer.index(drawer.ratios[-1], true, IMAGES)}"
    noise = draw_noise(text, drawer.ratios[-1], split_of(true, IMAGES), 0)
    if not np.array_equal(true, FIVE_EACH):
        raise Failed("it changes the truth that it is given")
    if np.shares_memory(noise.claimed, true):
        raise Failed("what it returns shares its memory with the truth")
    return "the truth stays as it is"


def _clean_at_0(drawer: Drawer) -> str:
    wrong = int((~drawer.draw(0.0).clean(FIVE_EACH)).sum())
    if wrong:
        raise Failed(f"at ratio 0, {wrong} pairs are mismatched")
    return "at ratio 0 every pair is true"


def _seeded(drawer: Drawer) -> str:
    drawer.need_noise()
    first, again, other = (drawer.draw(0.4, seed) for seed in (0, 0, 1))
    if first.digest != again.digest:
        raise Failed("draws other noise from the same seed")
    if drawer.protocol.reads_file:
        if first.digest != other.digest:
            raise Failed("draws by the seed, where a file says everything")
        return "every seed reads the same file"
    if first.digest == other.digest:
        raise Failed("draws the same noise from another seed")
    return "the same seed draws the same, another seed other noise"


def _stable(drawer: Drawer) -> str:
    before = [noise.digest for noise in drawer.sample()]
    seed_all(12345)
    if [drawer.draw(ratio, seed).digest for ratio, seed in reversed(drawer.axes)] != before[::-1]:
        raise Failed("what it draws depends on what was drawn before, or on global generators")
    words = [sys.executable, "-c", IN_ANOTHER_PROCESS, drawer.text, str(drawer.folder), json.dumps(sys.path)]
    try:
        # Where hashes of text are fixed, as in test runners, they are others there.
        others = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
        done = subprocess.run(words, capture_output=True, text=True, timeout=LATER_SECONDS, check=True, env=others)
        elsewhere = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        last = (getattr(error, "stderr", "") or str(error)).strip().rpartition("\n")[2]
        raise Failed(f"cannot be drawn in another process: {last}") from error
    if elsewhere != before:
        raise Failed("another process draws other noise from the same seed")
    return f"{len(before)} digests are the same in any order and in another process, as {before[0][:12]}"


def _unit(drawer: Drawer) -> str:
    drawer.need_noise()
    stated = drawer.protocol.unit
    for ratio in RATIOS:
        noise = drawer.draw(ratio)
        if stated is not None and noise.unit != stated:
            raise Failed(f"states the unit {stated}, and draws noise of unit {noise.unit}")
        moves = moved(noise)
        if moves != noise.unit:
            raise Failed(f"states the unit {noise.unit}, and moves {MOVED[moves]} at {ratio:g}")
    return f"moves {noise.unit}" + ("" if stated else ", as the file says")


MOVED = {
    "captions": "single captions",
    "images": "images with all their captions",
    "words": "words",
    "": "captions and words at once",
}


def moved(noise: Noise) -> str:
    """Return the unit that `noise`, of five captions per image, moves; "" if several."""
    together = noise.claimed.reshape(IMAGES, 5)
    if noise.splices is not None:
        return "words" if np.array_equal(noise.claimed, FIVE_EACH) else ""
    return "images" if (together == together[:, :1]).all() else "captions"


def _ratio(drawer: Drawer) -> str:
    drawer.need_noise()
    found = []
    for ratio, seed in drawer.axes:
        noise = drawer.draw(ratio, seed)
        wrong = ~noise.clean(FIVE_EACH)
        count = int(wrong.sum()) if noise.unit != "images" else len(np.unique(FIVE_EACH[wrong]))
        items = len(FIVE_EACH) if noise.unit != "images" else IMAGES
        lucky = 0.0 if drawer.protocol.exact else likely_self_landings(ratio, noise.unit, FIVE_EACH)
        if not int(ratio * items) - lucky <= count <= np.ceil(ratio * items):
            what = ITEMS[noise.unit]
            less = f", or less by at most {lucky:.0f} that land on their own: a true pair is no noise"
            raise Failed(
                f"at {ratio:g}, {count} of {items} {what} are mismatched; it must be {int(ratio * items)}"
                + ("; it promises to be exact" if drawer.protocol.exact else less)
            )
        found.append(f"{count / items:.3f}")
    return (
        f"of the {ITEMS[noise.unit]}, {', '.join(found[::2])} are mismatched at {', '.join(f'{r:g}' for r in RATIOS)}"
    )


def _nested(drawer: Drawer) -> str:
    if not drawer.protocol.nested:
        raise Skipped("it does not promise that lower ratios are a part of higher ones (nested)")
    for low, high in pairwise(RATIOS):
        few, many = (drawer.draw(ratio) for ratio in (low, high))
        outside = int((~few.clean(FIVE_EACH) & many.clean(FIVE_EACH)).sum())
        lucky = likely_self_landings(high, many.unit, FIVE_EACH) * (5 if many.unit == "images" else 1)
        lucky = 0.0 if drawer.protocol.exact else lucky
        if outside > lucky:
            raise Failed(f"{outside} captions are mismatched at {low:g} and not at {high:g}, of the same seed")
    return "what is mismatched at a lower ratio is so at a higher one, but for what lands on its own"


def _any_shape(drawer: Drawer) -> str:
    shapes = {
        words: shape for words, shape in OTHER_SHAPES.items() if words in FOR_FILES or not drawer.protocol.reads_file
    }
    for words, (true, images) in shapes.items():
        try:
            drawer.draw(drawer.ratios[0], 0, true, images)
            wrong = int((~drawer.draw(0.0, 0, true, images).clean(true)).sum())
        except UserError as error:
            raise Failed(f"{words}: {error}") from error
        if wrong:
            raise Failed(f"{words}: at ratio 0, {wrong} pairs are mismatched")
    return ", ".join(shapes)


ITEMS = {"captions": "captions", "images": "images", "words": "captions"}
"""What the ratio is of, per unit."""

AFTER = ("draws",)
CHECKS: Sequence[Check[Drawer]] = (
    Check(
        "named",
        "it has a name, a version and a summary of one line",
        "give NoiseProtocol a name of letters, digits, '.', '_' and '-', a version, and a summary",
        _named,
    ),
    Check(
        "draws",
        "it returns an int64 vector with an image that exists for every caption, and its unit",
        "return (claimed, unit): claimed like request.true, of int64, unit 'captions', 'images' or 'words'",
        _draws,
    ),
    Check(
        "truth-untouched",
        "it leaves the true correspondence alone",
        "work on request.true.copy(): the array is the dataset's own",
        _truth_untouched,
        AFTER,
    ),
    Check("clean-at-0", "at ratio 0 nothing is mismatched", "move int(ratio * items) items", _clean_at_0, AFTER),
    Check(
        "seeded",
        "the same seed draws the same noise, another seed other noise",
        "draw from request.rng alone, and from nothing else",
        _seeded,
        AFTER,
    ),
    Check(
        "stable",
        "digests do not depend on the process, on global generators, nor on what was drawn before",
        "draw from request.rng alone; hash() and sets of text differ from process to process",
        _stable,
        (*AFTER, "seeded"),
    ),
    Check(
        "unit",
        "what moves, captions, images with all their captions or words, is what it states",
        "state the unit that moves: they are not comparable at one ratio",
        _unit,
        AFTER,
    ),
    Check(
        "ratio",
        "the ratio is exact in the stated unit, and a true pair is not counted as noise",
        "choose int(ratio * items) items, and see that few of them land on their own image",
        _ratio,
        (*AFTER, "unit"),
    ),
    Check(
        "nested",
        "of one seed, what is mismatched at a lower ratio is so at a higher one, where that is promised",
        "take the first int(ratio * items) of one order that does not depend on the ratio, or promise nothing",
        _nested,
        (*AFTER, "seeded", "unit"),
    ),
    Check(
        "any-shape",
        "it takes one or three captions per image, in any order, images without captions, two pairs",
        "rely on request.true alone: it says which image each caption is of",
        _any_shape,
        (*AFTER, "clean-at-0"),
    ),
)


def check_protocol_named(text: str) -> Generator[Verdict, None, None]:
    """Yield the verdicts on the noise protocol called `text`, or the one in that file. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="ncbench-check-") as folder:
        yield from judge(CHECKS, Drawer.of(text, folder))
