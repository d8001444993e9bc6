"""Captions of scenes: which details are mentioned, some of them wrong, and how they are phrased."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from ncbench.data.scenes.draws import Draws
from ncbench.data.scenes.graph import (
    BACKGROUND_KINDS,
    CATEGORIES,
    COLOURS,
    RELATIONS,
    SIZES,
    TEXTURES,
    TINTS,
    Scene,
    holds,
)

UNSAID = -1
MAX_MENTIONS = 3
WRONG_RATE = 0.02  # per mentioned detail: category, colour, size, texture, relation, background, tint

_MENTION_SHARES = (0, 60, 40)  # of captions that mention 1, 2, 3 objects, in per cent; one would fit too many pictures
_COLOUR_RATES = (0.95, 0.9, 0.85)  # how often an attribute is mentioned, by the number of objects in the caption
_TEXTURE_RATES = (0.85, 0.65, 0.4)
_SIZE_RATES = (0.5, 0.3, 0.15)
_BACKGROUND_RATES = (0.95, 0.6, 0.3)
_RELATION_RATE = 0.6  # of captions that mention two objects
_TINT_RATE = 0.6  # of captions that mention the background
MIN_DETAILS = 7  # with fewer, a caption would fit too many pictures
_VAGUE_RATE = 0.01  # of mentions that use "thing" for the category
_AFTER_RATE = 0.12  # of colours and textures that follow the noun
_LEADING_RATE = 0.25  # of backgrounds that come first

_NOUNS = {
    "house": ("house", "house", "cottage", "hut"),
    "tree": ("tree", "tree", "fir", "pine"),
    "star": ("star",),
    "car": ("car", "car", "automobile", "vehicle"),
    "fish": ("fish",),
    "cup": ("cup", "mug"),
    "boat": ("boat", "boat", "ship", "sailboat"),
    "flower": ("flower", "flower", "blossom", "daisy"),
    "kite": ("kite",),
    "heart": ("heart",),
    "moon": ("moon", "crescent"),
    "mushroom": ("mushroom", "mushroom", "toadstool"),
    "umbrella": ("umbrella", "umbrella", "parasol"),
    "rocket": ("rocket", "rocket", "spaceship"),
    "bird": ("bird", "bird", "chick"),
    "cactus": ("cactus",),
}
_VAGUE_NOUNS = ("thing", "object", "shape")
_COLOUR_WORDS = {
    "red": ("red", "red", "crimson"),
    "orange": ("orange", "orange", "amber"),
    "yellow": ("yellow", "yellow", "lemon"),
    "green": ("green", "green", "emerald"),
    "teal": ("teal", "turquoise", "cyan"),
    "blue": ("blue", "blue", "cobalt"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rosy"),
}
_SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "average"),
    "large": ("large", "big", "huge"),
}
_TEXTURE_WORDS = {
    "plain": ("plain", "uniform"),
    "striped": ("striped", "banded"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
_TEXTURE_PHRASES = {
    "plain": ("without pattern", "in one tone"),
    "striped": ("with stripes", "with bands"),
    "dotted": ("with dots", "with spots"),
    "checked": ("with squares", "with checks"),
}
_RELATION_PHRASES = {
    "left": ("left of", "left of", "to the left of"),
    "right": ("right of", "right of", "to the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath"),
    "near": ("near", "beside", "next to", "close to"),
    "front": ("in front of", "partly hiding", "covering part of"),
    "behind": ("behind", "partly hidden by"),
}
_BACKGROUND_PHRASES = {
    "wall": ("against a {} wall", "before {} bricks"),
    "sky": ("in a {} sky", "against a {} sky", "under {} clouds"),
    "field": ("on a {} field", "on a {} meadow", "in {} grass"),
    "sea": ("on a {} sea", "over {} waves", "on {} water"),
    "desert": ("in a {} desert", "on {} sand", "among {} dunes"),
    "night": ("in a {} night", "under {} starlight", "in {} darkness"),
}
_TINT_WORDS = {
    "blue": ("blue",),
    "brown": ("brown", "earthy"),
    "cream": ("cream", "ivory"),
    "golden": ("golden", "straw"),
    "green": ("green",),
    "grey": ("grey", "ashen"),
    "pink": ("pink", "rosy"),
    "purple": ("purple", "violet"),
}
_FRAMES_ONE = ("{0}", "{0}", "{0}", "there is {0}", "a picture of {0}", "this shows {0}", "just {0}")
_FRAMES_TWO = ("{0} and {1}", "{0} and {1}", "{0} with {1}", "there are {0} and {1}", "we see {0} and {1}")
_FRAMES_RELATED = ("{0} {r} {1}", "{0} {r} {1}", "{0} {r} {1}", "{0} is {r} {1}", "{0} placed {r} {1}")
_FRAMES_THREE = ("{0} {1} and {2}", "{0} {1} and {2}", "{0} with {1} and {2}", "there are {0} {1} and {2}")


@dataclass(frozen=True)
class Mention:
    """What a caption says about one object, number `about`; UNSAID for details that are not mentioned."""

    about: int
    category: int
    colour: int
    size: int
    texture: int


@dataclass(frozen=True)
class Said:
    """What a caption says: 1 to 3 objects, the relation of the first to the second, and the background, or UNSAID."""

    mentions: tuple[Mention, ...]
    relation: int
    background: int
    tint: int

    @property
    def n_details(self) -> int:
        """Number of details: categories, attributes, the relation, the background and its tint."""
        values = [self.relation, self.background, self.tint]
        for one in self.mentions:
            values += [one.category, one.colour, one.size, one.texture]
        return sum(value != UNSAID for value in values)

    def to_json(self) -> str:
        """Return the details as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Said:
        """Parse the output of `to_json`. Raises ValueError, KeyError or TypeError for other text."""
        fields: dict[str, Any] = json.loads(text)
        mentions = tuple(Mention(**one) for one in fields["mentions"])
        return Said(mentions, fields["relation"], fields["background"], fields["tint"])


@dataclass(frozen=True)
class Caption:
    """A sentence and the details in it."""

    text: str
    said: Said


def split_words(text: str) -> list[str]:
    """Return the lower-case words of `text`."""
    return re.findall(r"[a-z]+", text.lower())


def write_captions(scene: Scene, count: int, draws: Draws, wrong_rate: float = WRONG_RATE) -> list[Caption]:
    """Return `count` distinct captions of `scene`; each detail is wrong at `wrong_rate`."""
    captions: dict[str, Caption] = {}
    while len(captions) < count:
        said = choose_details(scene, draws, wrong_rate)
        if said.n_details < MIN_DETAILS:
            continue
        text = phrase(said, draws)
        captions.setdefault(text, Caption(text, said))
    return list(captions.values())


def choose_details(scene: Scene, draws: Draws, wrong_rate: float) -> Said:
    """Return random details for a caption of `scene`."""
    count = min(1 + draws.weighted(_MENTION_SHARES), len(scene.objects))
    prominence = [one.radius for one in scene.objects]
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(draws.weighted(prominence))
        prominence[chosen[-1]] = 0
    relation = UNSAID
    if count == 2 and draws.chance(_RELATION_RATE):
        relation = _choose_relation(scene, chosen[0], chosen[1], draws, wrong_rate)
    background = tint = UNSAID
    if draws.chance(_BACKGROUND_RATES[count - 1]):
        background = _report(scene.background, len(BACKGROUND_KINDS), draws, wrong_rate)
        if draws.chance(_TINT_RATE):
            tint = _report(scene.tint, len(TINTS), draws, wrong_rate)
    mentions = tuple(_mention(scene, number, count, draws, wrong_rate) for number in chosen)
    return Said(mentions, relation, background, tint)


def _mention(scene: Scene, number: int, count: int, draws: Draws, wrong_rate: float) -> Mention:
    """Return what a caption that mentions `count` objects says about object `number`."""
    one = scene.objects[number]

    def said(rate: float, value: int, values: int) -> int:
        return _report(value, values, draws, wrong_rate) if draws.chance(rate) else UNSAID

    return Mention(
        about=number,
        category=said(1 - _VAGUE_RATE, one.category, len(CATEGORIES)),
        colour=said(_COLOUR_RATES[count - 1], one.colour, len(COLOURS)),
        size=said(_SIZE_RATES[count - 1], one.size, len(SIZES)),
        texture=said(_TEXTURE_RATES[count - 1], one.texture, len(TEXTURES)),
    )


def _report(value: int, values: int, draws: Draws, wrong_rate: float) -> int:
    """Return `value`, or at `wrong_rate` another number below `values`."""
    if not draws.chance(wrong_rate):
        return value
    return (value + draws.between(1, values - 1)) % values


def _choose_relation(scene: Scene, subject: int, other: int, draws: Draws, wrong_rate: float) -> int:
    """Return a relation that holds between two objects, or at `wrong_rate` one that does not; else UNSAID."""
    wanted = not draws.chance(wrong_rate)
    fitting = [n for n, relation in enumerate(RELATIONS) if holds(scene, relation, subject, other) == wanted]
    return draws.pick(fitting) if fitting else UNSAID


def phrase(said: Said, draws: Draws) -> str:
    """Return a sentence for `said`: lower-case words separated by single spaces."""
    names = [_noun_phrase(mention, draws) for mention in said.mentions]
    if said.relation != UNSAID:
        relation = draws.pick(_RELATION_PHRASES[RELATIONS[said.relation]])
        sentence = draws.pick(_FRAMES_RELATED).format(*names, r=relation)
    else:
        sentence = draws.pick((_FRAMES_ONE, _FRAMES_TWO, _FRAMES_THREE)[len(names) - 1]).format(*names)
    if said.background == UNSAID:
        return sentence
    place = _place_phrase(said, draws)
    return f"{place} {sentence}" if draws.chance(_LEADING_RATE) else f"{sentence} {place}"


def _noun_phrase(mention: Mention, draws: Draws) -> str:
    before: list[str] = []
    after: list[str] = []
    if mention.size != UNSAID:
        before.append(draws.pick(_SIZE_WORDS[SIZES[mention.size]]))
    if mention.texture != UNSAID:
        texture = TEXTURES[mention.texture]
        if draws.chance(_AFTER_RATE):
            after.append(draws.pick(_TEXTURE_PHRASES[texture]))
        else:
            before.append(draws.pick(_TEXTURE_WORDS[texture]))
    if mention.colour != UNSAID:
        colour = draws.pick(_COLOUR_WORDS[COLOURS[mention.colour]])
        if not after and draws.chance(_AFTER_RATE):
            after.append(f"in {colour}")
        else:
            before.append(colour)
    noun = draws.pick(_NOUNS[CATEGORIES[mention.category]] if mention.category != UNSAID else _VAGUE_NOUNS)
    return _with_article(" ".join([*before, noun, *after]))


def _place_phrase(said: Said, draws: Draws) -> str:
    template = draws.pick(_BACKGROUND_PHRASES[BACKGROUND_KINDS[said.background]])
    tint = draws.pick(_TINT_WORDS[TINTS[said.tint]]) if said.tint != UNSAID else ""
    words = template.format(tint).split()
    for position, word in enumerate(words[:-1]):
        if word == "a":
            words[position:] = _with_article(" ".join(words[position + 1 :])).split()
            break
    return " ".join(words)


def _with_article(words: str) -> str:
    # "uniform" starts with a consonant sound.
    return f"an {words}" if words[0] in "aeiou" and not words.startswith("uni") else f"a {words}"
