"""Vocabularies: words to ids, as the field's released files have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAD, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)


@dataclass(frozen=True)
class Vocabulary:
    """Word ids 0..len-1; ids 0 to 3 are `<pad>`, `<start>`, `<end>`, `<unk>`."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"the first words must be {', '.join(SPECIAL)}, found {self.words[:4]}")
        if len(set(self.words)) != len(self.words):
            raise ValueError("a word occurs twice")
        object.__setattr__(self, "_ids", {word: number for number, word in enumerate(self.words)})

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the ids of `words` between those of `<start>` and `<end>`; unknown words become `<unk>`."""
        ids: dict[str, int] = self.__dict__["_ids"]
        unknown = ids[UNKNOWN]
        return [ids[START], *(ids.get(word, unknown) for word in words), ids[END]]

    @staticmethod
    def build(captions: Iterable[Sequence[str]], threshold: int) -> Vocabulary:
        """Return the vocabulary of the words that occur at least `threshold` times, in alphabetical order."""
        counts = Counter(word for words in captions for word in words)
        return Vocabulary((*SPECIAL, *sorted(word for word, count in counts.items() if count >= threshold)))
