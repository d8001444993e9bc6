"""Closeness in meaning: the degree to which a picture's graph satisfies what a caption says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ncbench.data.dataset import IntVector
from ncbench.data.scenes.grammar import MAX_MENTIONS, UNSAID, Said
from ncbench.data.scenes.graph import (
    BACKGROUND_KINDS,
    CATEGORIES,
    COLOURS,
    MAX_OBJECTS,
    SIZES,
    TEXTURES,
    TINTS,
    Scene,
    relation_table,
)

# Weights of the details of a caption.
CATEGORY, COLOUR, SIZE, TEXTURE, RELATION, BACKGROUND, TINT = 4.0, 2.0, 1.0, 1.5, 2.0, 1.5, 0.5

_OBJECT_WEIGHTS = np.array((CATEGORY, COLOUR, SIZE, TEXTURE), np.float32)
_NO_OBJECT = -2  # differs from every detail and from UNSAID
_BLOCK_PAIRS = 65_536  # processed at a time
_BLOCK_BOUNDS = 1 << 20  # bounds of pairs computed at a time
_MAX_VALUES = max(map(len, (CATEGORIES, COLOURS, SIZES, TEXTURES, BACKGROUND_KINDS, TINTS)))
_SLACK = 1e-3  # of a bound in single precision; weights are multiples of 0.5


@dataclass(frozen=True)
class SceneTable:
    """The graphs of n pictures as arrays, padded to MAX_OBJECTS."""

    objects: NDArray[np.int8]  # (n, MAX_OBJECTS, 4): category, colour, size, texture, or _NO_OBJECT
    relations: NDArray[np.bool_]  # (n, relations, MAX_OBJECTS, MAX_OBJECTS)
    grounds: NDArray[np.int8]  # (n, 2): background, tint

    @staticmethod
    def build(scenes: Sequence[Scene]) -> SceneTable:
        """Return the table of `scenes`."""
        objects = np.full((len(scenes), MAX_OBJECTS, 4), _NO_OBJECT, np.int8)
        for number, scene in enumerate(scenes):
            for place, one in enumerate(scene.objects):
                objects[number, place] = one.category, one.colour, one.size, one.texture
        relations = np.stack([relation_table(scene) for scene in scenes])
        grounds = np.array([(scene.background, scene.tint) for scene in scenes], np.int8)
        return SceneTable(objects, relations, grounds)


@dataclass(frozen=True)
class SaidTable:
    """What n captions say, as arrays; UNSAID for details that are not mentioned."""

    mentions: NDArray[np.int8]  # (n, MAX_MENTIONS, 4): category, colour, size, texture
    counts: NDArray[np.int8]  # (n,) mentioned objects
    relations: NDArray[np.int8]  # (n,) of the first to the second mention
    grounds: NDArray[np.int8]  # (n, 2): background, tint

    @staticmethod
    def build(captions: Sequence[Said]) -> SaidTable:
        """Return the table of what `captions` say."""
        mentions = np.full((len(captions), MAX_MENTIONS, 4), UNSAID, np.int8)
        for number, said in enumerate(captions):
            for place, one in enumerate(said.mentions):
                mentions[number, place] = one.category, one.colour, one.size, one.texture
        counts = np.array([len(said.mentions) for said in captions], np.int8)
        relations = np.array([said.relation for said in captions], np.int8)
        grounds = np.array([(said.background, said.tint) for said in captions], np.int8)
        return SaidTable(mentions, counts, relations, grounds)


def closeness(said: SaidTable, scenes: SceneTable, captions: IntVector, images: IntVector) -> NDArray[np.float64]:
    """Return the closeness in [0, 1] of caption captions[i] and picture images[i], (n,) float64.

    This is the weight of the satisfied details over the weight of all details in the caption: those of objects, the
    relation of the first two, the background. Mentions are assigned to distinct objects so as to satisfy the most.
    """
    out = np.empty(len(captions))
    for start in range(0, len(captions), _BLOCK_PAIRS):
        block = slice(start, start + _BLOCK_PAIRS)
        out[block] = _block_closeness(said, scenes, captions[block], images[block])
    return out


def pairs_at_least(said: SaidTable, scenes: SceneTable, least: NDArray[np.float64]) -> tuple[IntVector, IntVector]:
    """Return the pairs (captions, pictures) whose closeness is at least `least` (captions,), by caption.

    Of most pairs, a bound tells that they are not: mentions assigned to the best objects without regard to each other,
    and every relation satisfied.
    """
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    rows = max(1, _BLOCK_BOUNDS // max(1, len(scenes.grounds)))
    for start in range(0, len(least), rows):
        captions = np.arange(start, min(start + rows, len(least)))
        needed = least[captions] * _said_weight(said, captions)
        places, images = np.nonzero(_bounds(said, scenes, captions) >= needed[:, None] - _SLACK)
        near = captions[places]
        close = closeness(said, scenes, near, images) >= least[near]
        found.append((near[close], images[close]))
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def _bounds(said: SaidTable, scenes: SceneTable, captions: IntVector) -> NDArray[np.float32]:
    """Return an upper bound of the satisfied weight of each caption and picture, (captions, pictures) float32."""
    grounds = np.array((BACKGROUND, TINT), np.float32)
    bounds = _one_hot(said.grounds[captions], grounds) @ _one_hot(scenes.grounds, np.ones_like(grounds)).T
    bounds += np.float32(RELATION) * (said.relations[captions] != UNSAID)[:, None]
    objects = [_one_hot(scenes.objects[:, place], np.ones_like(_OBJECT_WEIGHTS)).T for place in range(MAX_OBJECTS)]
    for mention in range(MAX_MENTIONS):
        wanted = _one_hot(said.mentions[captions, mention], _OBJECT_WEIGHTS)
        best = wanted @ objects[0]
        for one in objects[1:]:
            np.maximum(best, wanted @ one, out=best)
        bounds += best
    return bounds


def _one_hot(values: NDArray[np.int8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return details (n, kinds) as (n, kinds * values) float32: the weight of the kind where it has the value.

    Details that are unsaid, or of missing objects, have no weight.
    """
    hot = values[:, :, None] == np.arange(_MAX_VALUES, dtype=np.int8)
    rows: NDArray[np.float32] = (hot * weights[:, None]).reshape(len(values), -1)
    return rows


def _block_closeness(
    said: SaidTable, scenes: SceneTable, captions: IntVector, images: IntVector
) -> NDArray[np.float64]:
    satisfied = np.zeros(len(captions))
    counts = said.counts[captions]
    for count in np.unique(counts):
        mine = np.flatnonzero(counts == count)
        satisfied[mine] = _best_assignment(said, scenes, captions[mine], images[mine], int(count))
    ground_weights = np.array((BACKGROUND, TINT))
    satisfied += (said.grounds[captions] == scenes.grounds[images]) @ ground_weights
    return np.clip(satisfied / _said_weight(said, captions), 0, 1)


def _said_weight(said: SaidTable, captions: IntVector) -> NDArray[np.float64]:
    weight = ((said.mentions[captions] != UNSAID) @ _OBJECT_WEIGHTS).sum(axis=1, dtype=np.float64)
    weight += (said.grounds[captions] != UNSAID) @ np.array((BACKGROUND, TINT))
    weight += RELATION * (said.relations[captions] != UNSAID)
    return np.asarray(np.maximum(weight, 1e-9))


def _best_assignment(
    said: SaidTable, scenes: SceneTable, captions: IntVector, images: IntVector, count: int
) -> NDArray[np.float32]:
    """Return the largest weight that an assignment of `count` mentions to objects satisfies, (n,) float32."""
    mentions = said.mentions[captions, :count]
    gains = (mentions[:, :, None] == scenes.objects[images][:, None]) @ _OBJECT_WEIGHTS  # (n, count, MAX_OBJECTS)
    related = np.zeros((len(captions), MAX_OBJECTS, MAX_OBJECTS), np.float32)
    relations = said.relations[captions]
    has = np.flatnonzero(relations != UNSAID)
    related[has] = scenes.relations[images[has], relations[has]] * np.float32(RELATION)
    best = np.zeros(len(captions), np.float32)
    for places in permutations(range(MAX_OBJECTS), count):
        total = sum((gains[:, mention, place] for mention, place in enumerate(places)), np.float32(0))
        if count > 1:
            total = total + related[:, places[0], places[1]]
        np.maximum(best, total, out=best)
    return best
