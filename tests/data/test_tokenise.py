from __future__ import annotations

import subprocess
import sys
import warnings

import nltk.tokenize
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize.punkt import PunktSentenceTokenizer

from ncbench.data.tokenise import TokenisationWarning, Tokeniser, _plain_words

nltk_words = nltk.tokenize.NLTKWordTokenizer().tokenize
nltk_sentences = PunktSentenceTokenizer().tokenize

# The parts of plain lines, and of the words that NLTK splits anyway.
PLAIN = ["a", "s", "d", "t", "7", "20", " ", "  ", "-", "--", ",", " , ", "'s", " .", ".", "man"]
PIECES = [*PLAIN, "can", "not", "cannot", "gim", "me", "gonna", "got", "ta", "lemme", "wan", "na", "more", "'"]


@pytest.fixture
def no_punkt(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(text: str, language: str = "english") -> list[str]:
        raise LookupError("no data")

    monkeypatch.setattr(nltk.tokenize, "sent_tokenize", absent)


def test_imports_neither_nltk_nor_torch() -> None:
    check = "import sys, ncbench.data.precomp; print({'nltk', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "set()"


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(lambda pieces: "".join(pieces).strip()))
def test_plain_lines_get_the_words_of_nltk(line: str) -> None:
    words = _plain_words(line)
    if words is not None:
        assert words == nltk_words(line)
        assert nltk_sentences(line) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "a w41 w58 .",
        "a dog runs.",
        "two men, one old, play chess .",
        "a black-and-white dog in the man's car , at 5",
    ],
)
def test_common_captions_are_plain(line: str) -> None:
    assert _plain_words(line) == nltk_words(line)


def test_a_full_stop_is_a_word() -> None:
    assert Tokeniser()("A w41 w58 .\n") == ["a", "w41", "w58", "."]


@pytest.mark.parametrize(
    "line",
    [
        "I cannot swim",
        'The sign says "stop."',
        "it's the dogs' ball & a (red) kite!",
        "20,000 people; 3.5 m",
        "wait... what?",
        "Déjà vu at the café.",
    ],
)
def test_other_captions_of_one_sentence_get_the_words_of_nltk(no_punkt: None, line: str) -> None:
    tokeniser = Tokeniser()
    assert tokeniser(line) == nltk_words(line.lower())
    assert (tokeniser.seen, tokeniser.doubtful) == (1, 0)


@pytest.mark.parametrize(
    ("line", "words", "doubtful"),
    [
        ("A man sits. A dog runs.", "a man sits . a dog runs .", 1),
        ("A man sits . A dog runs .", "a man sits . a dog runs .", 0),
        ("Who is it? A dog.", "who is it ? a dog .", 0),
        ("Mr. Smith and dr. Who", "mr. smith and dr . who", 1),
        ("plan b. and no. 5. more", "plan b. and no . 5. more", 1),
    ],
)
def test_sentences_are_split_without_punkt(no_punkt: None, line: str, words: str, doubtful: int) -> None:
    tokeniser = Tokeniser(abbreviations=["mr"])
    assert tokeniser(line) == words.split()
    assert tokeniser.doubtful == doubtful


def test_one_warning_gives_the_share_of_doubtful_captions(no_punkt: None) -> None:
    tokeniser = Tokeniser()
    for line in ["a dog .", "sits. and runs", "a cat .", "stop!"]:
        tokeniser(line)
    with pytest.warns(TokenisationWarning, match=r"^1 of 4 captions \(25\.0%\) have an inner full stop") as caught:
        tokeniser.warn()
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


def test_the_published_function_is_used_where_punkt_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.tokenize, "sent_tokenize", lambda text, language="english": text.split("|"))
    tokeniser = Tokeniser()
    assert tokeniser("a man. sits.|a dog runs.") == ["a", "man.", "sits", ".", "a", "dog", "runs", "."]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokeniser.warn()
