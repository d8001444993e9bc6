"""Captions to words, as the field's published code does it: NLTK's `word_tokenize` of the lower-cased line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property

# Words, with commas between them and a full stop at the end: on such a line NLTK does no more than set apart
# commas, the stop and the 's. It takes some 0.2 ms per line for that, minutes on MS-COCO.
_PLAIN_WORD = r"[a-z0-9-]+(?:'s)?(?: *,)?"
_PLAIN = re.compile(rf"{_PLAIN_WORD}(?: +{_PLAIN_WORD})*(?: *\.)?")
# Plain to the eye, yet NLTK splits them.
_SPLIT_BY_NLTK = re.compile(r"--|\b(?:cannot|gimme|gonna|gotta|lemme|wanna)\b")
# Punkt asks its trained model only about a full stop behind a word that stands before a space or a mark no word
# contains. It does not matter if nothing but closing marks follows: they are put back to the sentence.
_INNER_STOP = re.compile(
    r"(?<=[^\s.])\.(?=[\s)\";}\]*:@'({\[!?\u2018\u2019\u201c\u201d\xab\xbb])"
    r".*[^\s\"')\]}\u2018\u2019\u201c\u201d\xab\xbb]",
    re.DOTALL,
)


class TokenisationWarning(UserWarning):
    """Captions may have been split otherwise than by the published code; a category of its own to filter or count."""


class Tokeniser:
    """Splits captions into words, and counts those on which it may differ from the published code.

    The published code first splits sentences with the trained Punkt model of NLTK, whose data are a separate download.
    Where they are absent, the same algorithm runs without the model's knowledge, on `abbreviations` alone (lower-case,
    without the last full stop: "mr"). A caption of one sentence gets the same words either way.

    `seen` counts the captions split so far, `asked` those with a full stop within, which may or may not end a sentence,
    `doubtful` those of them without a certain answer, as the data are absent.
    """

    def __init__(self, abbreviations: Iterable[str] = ()) -> None:
        self._abbreviations = frozenset(abbreviations)
        self.seen = 0
        self.asked = 0
        self.doubtful = 0

    def __call__(self, caption: str) -> list[str]:
        """Return the words of `caption`."""
        self.seen += 1
        line = caption.lower().strip()
        words = _plain_words(line)
        if words is not None:
            return words
        split, trained = self._nltk
        if _INNER_STOP.search(line):
            self.asked += 1
            self.doubtful += not trained
        return split(line)

    @property
    def trained(self) -> bool:
        """Whether the trained model is installed; loads NLTK."""
        return self._nltk[1]

    def warn(self) -> None:
        """Warn once (TokenisationWarning) of how many captions may differ from the published tokens, if any do."""
        if self.doubtful:
            share = f"{self.doubtful:,} of {self.seen:,} captions ({self.doubtful / self.seen:.1%})"
            warnings.warn(
                f"{share} have a full stop inside and may be split into words otherwise than in published work, "
                "because NLTK's Punkt data are not installed; `python -m nltk.downloader punkt_tab` installs them",
                TokenisationWarning,
                stacklevel=2,
            )

    @cached_property
    def _nltk(self) -> tuple[Callable[[str], list[str]], bool]:
        """NLTK's splitter into words, and whether it knows the trained model. Imported late: it takes seconds."""
        from nltk.tokenize import NLTKWordTokenizer, sent_tokenize, word_tokenize
        from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

        try:
            sent_tokenize("a")
        except LookupError:
            parameters = PunktParameters()
            parameters.abbrev_types = set(self._abbreviations)
            sentences, words = PunktSentenceTokenizer(parameters).tokenize, NLTKWordTokenizer().tokenize
            return lambda line: [word for sentence in sentences(line) for word in words(sentence)], False
        return word_tokenize, True


def _plain_words(line: str) -> list[str] | None:
    """Return what NLTK makes of the lower-case, stripped `line` if that is evident, else None."""
    if not _PLAIN.fullmatch(line) or _SPLIT_BY_NLTK.search(line):
        return None
    return line.replace("'s", " 's").replace(",", " , ").replace(".", " .").split()
