"""Tokenisation as in the published code: NLTK's `word_tokenize` of the lower-cased caption."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property

# Words, with commas between them and a full stop at the end. On such a line, NLTK only splits off commas, the full stop
# and 's, but takes about 0.2 ms, which is minutes for MS-COCO.
_PLAIN_WORD = r"[a-z0-9-]+(?:'s)?(?: *,)?"
_PLAIN = re.compile(rf"{_PLAIN_WORD}(?: +{_PLAIN_WORD})*(?: *\.)?")
# These look plain, but NLTK splits them.
_SPLIT_BY_NLTK = re.compile(r"--|\b(?:cannot|gimme|gonna|gotta|lemme|wanna)\b")
# Punkt uses its trained model only for a full stop after a word that is followed by a space or by punctuation. If only
# closing marks follow, the model does not matter: they are joined to the sentence.
_INNER_STOP = re.compile(
    r"(?<=[^\s.])\.(?=[\s)\";}\]*:@'({\[!?\u2018\u2019\u201c\u201d\xab\xbb])"
    r".*[^\s\"')\]}\u2018\u2019\u201c\u201d\xab\xbb]",
    re.DOTALL,
)


class TokenisationWarning(UserWarning):
    """Captions may be tokenised differently from the published code. A separate category, to filter or count."""


class Tokeniser:
    """Splits captions into words, and counts those that may differ from the published code.

    The published code first splits sentences with NLTK's trained Punkt model, whose data are a separate download. If
    they are not installed, the same algorithm runs with only the `abbreviations` (lower case, without the last full
    stop: "mr"). A caption of one sentence gets the same words either way.

    `seen` counts all captions so far, `asked` those with an inner full stop, which may or may not end a sentence, and
    `doubtful` those of the latter for which the trained model was missing. `digest` identifies what else decides about
    words; "" here.
    """

    digest = ""

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
        """Whether the trained model is installed. Loads NLTK."""
        return self._nltk[1]

    def warn(self) -> None:
        """Issue a TokenisationWarning with the number of captions that may differ from published work, if any."""
        if self.doubtful:
            share = f"{self.doubtful:,} of {self.seen:,} captions ({self.doubtful / self.seen:.1%})"
            warnings.warn(
                f"{share} have an inner full stop and may be tokenised differently from published work, because NLTK's "
                "Punkt data are not installed; install them with `python -m nltk.downloader punkt_tab`",
                TokenisationWarning,
                stacklevel=2,
            )

    @cached_property
    def _nltk(self) -> tuple[Callable[[str], list[str]], bool]:
        """NLTK's word tokeniser, and whether it has the trained model. Imported here because it takes seconds."""
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
    """Return NLTK's tokens of the lower-case, stripped `line` if they are obvious, else None."""
    if not _PLAIN.fullmatch(line) or _SPLIT_BY_NLTK.search(line):
        return None
    return line.replace("'s", " 's").replace(",", " , ").replace(".", " .").split()
