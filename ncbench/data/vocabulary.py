"""Vocabularies, in the format of the released files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncbench.data.stand_ins import check_data_file
from ncbench.errors import UserError
from ncbench.runtime.files import write_json

MAX_BYTES = 2**28
"""Bytes of the largest vocabulary file; the released ones have less than one million."""

PAD, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)
UNKNOWN_ID = SPECIAL.index(UNKNOWN)


@dataclass(frozen=True)
class Vocabulary:
    """A mapping of words to ids 0..len-1; ids 0 to 3 are `<pad>`, `<start>`, `<end>`, `<unk>`."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"expected the first words to be {', '.join(SPECIAL)}, found {self.words[:4]}")
        if len(set(self.words)) != len(self.words):
            raise ValueError("duplicate word")
        object.__setattr__(self, "_ids", {word: number for number, word in enumerate(self.words)})

    def __len__(self) -> int:
        return len(self.words)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the words in id order, one per line."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the ids of `<start>`, `words` and `<end>`; unknown words become `<unk>`."""
        ids: dict[str, int] = self.__dict__["_ids"]
        unknown = ids[UNKNOWN]
        return [ids[START], *(ids.get(word, unknown) for word in words), ids[END]]

    @property
    def abbreviations(self) -> list[str]:
        """The words that kept their full stop ("mr.") under NLTK's trained model when the vocabulary was built."""
        return [word[:-1] for word in self.words if len(word) > 2 and word[-1] == "." and word[-2].isalpha()]

    @staticmethod
    def build(captions: Iterable[Sequence[str]], threshold: int) -> Vocabulary:
        """Return the vocabulary of the words that occur at least `threshold` times, in alphabetical order."""
        return Vocabulary.of_counts(Counter(word for words in captions for word in words), threshold)

    @staticmethod
    def of_counts(counts: Mapping[str, int], threshold: int) -> Vocabulary:
        """Return the vocabulary of the words with a count of at least `threshold`, in alphabetical order."""
        known = sorted(word for word, count in counts.items() if count >= threshold and word not in SPECIAL)
        return Vocabulary((*SPECIAL, *known))

    def write(self, path: Path) -> None:
        """Write the vocabulary in the released format, atomically. Raises OSError."""
        ids: dict[str, int] = self.__dict__["_ids"]
        write_json(path, {"word2idx": ids, "idx2word": {str(n): word for word, n in ids.items()}, "idx": len(self)})

    @staticmethod
    def read(path: Path) -> Vocabulary:
        """Read a vocabulary in the released format: JSON with `word2idx`, `idx2word` (ids as strings) and `idx`.

        Raises UserError if the file has another format, the two directions disagree, the ids are not 0..n-1, or the
        first four words are not the special ones.
        """
        check_data_file(path, MAX_BYTES)
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a vocabulary (JSON)") from error
        except ValueError as error:
            raise UserError(f"{path}: is not valid JSON ({error}); expected a vocabulary") from error
        try:
            return Vocabulary(_words(content))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error


def _words(content: object) -> tuple[str, ...]:
    """Return the words of a parsed vocabulary file in id order. Raises ValueError if it is malformed."""
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object with 'word2idx' and 'idx2word'")
    ids, words = content.get("word2idx"), content.get("idx2word")
    if not isinstance(ids, dict) or not isinstance(words, dict):
        raise ValueError("lacks the objects 'word2idx' and 'idx2word'")
    if not len(ids) == len(words) == content.get("idx", len(ids)):
        counts = f"'word2idx' has {len(ids)} words, 'idx2word' {len(words)}, 'idx' is {content.get('idx')}"
        raise ValueError(f"{counts}; all three must be equal")
    for number in range(len(words)):
        word = words.get(str(number))
        if not isinstance(word, str):
            raise ValueError(f"id {number} is missing in 'idx2word'; expected ids 0 to {len(words) - 1}")
        if ids.get(word) != number:
            raise ValueError(f"id {number} is {word!r} in 'idx2word', but 'word2idx' gives {word!r} id {ids.get(word)}")
    return tuple(words[str(number)] for number in range(len(words)))
