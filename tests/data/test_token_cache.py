"""Cached word ids equal new ones, and are not used if new ones would differ."""

from __future__ import annotations

from pathlib import Path

import nltk.tokenize
import numpy as np
import pytest

from ncbench.data import token_cache
from ncbench.data.token_cache import token_ids
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary

TEXTS = ["a dog runs", "Two dogs. They run", "a cat"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(token_cache, "MIN_CACHED_CAPTIONS", 2)
    punkt(monkeypatch, False)
    return tmp_path / "tokens"


def punkt(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Make NLTK's Punkt data appear installed or not."""

    def sentences(text: str, language: str = "english") -> list[str]:
        if not there:
            raise LookupError
        return text.split(". ")

    monkeypatch.setattr(nltk.tokenize, "sent_tokenize", sentences)
    monkeypatch.setattr(nltk.tokenize, "word_tokenize", lambda line: line.replace(".", "").split())


VOCABULARY = Vocabulary.build([["a", "dog", "dogs", "runs", "run", "two", "they", "cat", "."]], 1)


def ids(tokeniser: Tokeniser, texts: list[str] = TEXTS) -> list[list[int]]:
    tokens, lengths = token_ids(texts, VOCABULARY, tokeniser)
    assert tokens.dtype == lengths.dtype == np.int64
    return [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "_tokenise", None)


def test_cached_ids_equal_new_ones(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Tokeniser(), Tokeniser()
    made = ids(first)
    assert made == [VOCABULARY.encode(Tokeniser()(text)) for text in TEXTS]
    forbid(monkeypatch)
    assert ids(second) == made
    assert (first.seen, first.asked, first.doubtful) == (second.seen, second.asked, second.doubtful) == (3, 1, 1)
    assert len(list(cache.iterdir())) == 1


def test_ids_that_would_differ_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(Tokeniser())
    punkt(monkeypatch, True)
    tokeniser = Tokeniser()
    assert ids(tokeniser) != before
    assert (tokeniser.asked, tokeniser.doubtful) == (1, 0)
    punkt(monkeypatch, False)
    assert ids(Tokeniser()) == before


def test_captions_without_inner_stops_need_no_punkt(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(Tokeniser(), ["a dog", "a cat ."])
    punkt(monkeypatch, True)
    forbid(monkeypatch)
    assert ids(Tokeniser(), ["a dog", "a cat ."]) == before


def test_damaged_caches_are_replaced(cache: Path) -> None:
    made = ids(Tokeniser())
    (path,) = cache.iterdir()
    for content in (path.read_bytes()[:-40], b"", b"no archive"):
        path.write_bytes(content)
        assert ids(Tokeniser()) == made
    content = {name: np.zeros(3, "<i4") for name in ("tokens", "lengths")}
    np.savez(path, **content, asked=np.array(0), trained=np.array(False))
    assert ids(Tokeniser()) == made


def test_few_captions_are_not_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "MIN_CACHED_CAPTIONS", 4)
    ids(Tokeniser())
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_costs_time_only(cache: Path) -> None:
    cache.write_text("no folder")
    assert len(ids(Tokeniser())) == 3
