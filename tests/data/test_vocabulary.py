from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import SHARED

from ncbench.data.vocabulary import SPECIAL, Vocabulary
from ncbench.errors import UserError

REAL = SHARED / "data" / "vocab"
WORDS = [*SPECIAL, "a", "dog"]


def released(words: list[str]) -> dict[str, Any]:
    """The released format of a vocabulary."""
    return {
        "word2idx": {word: number for number, word in enumerate(words)},
        "idx2word": {str(number): word for number, word in enumerate(words)},
        "idx": len(words),
    }


def test_encode_marks_start_end_and_unknown_words() -> None:
    assert Vocabulary(tuple(WORDS)).encode(["a", "cat", "dog"]) == [1, 4, 3, 5, 2]


def test_build_keeps_frequent_words_in_alphabetical_order() -> None:
    captions = [["b", "a"], ["a", "b", "c"]]
    assert Vocabulary.build(captions, threshold=2).words == (*SPECIAL, "a", "b")


@pytest.mark.parametrize(
    ("words", "message"), [(["a", *SPECIAL], "first words to be"), ([*SPECIAL, "a", "a"], "duplicate word")]
)
def test_malformed_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(tuple(words))


@pytest.mark.parametrize(("name", "size"), [("f30k", 8_481), ("coco", 11_353), ("cc152k", 12_072)])
def test_released_vocabularies_are_read_whole(name: str, size: int) -> None:
    path = REAL / f"{name}_precomp_vocab.json"
    if not path.is_file():
        pytest.skip(f"the released vocabulary {path.name} is not here")
    vocabulary = Vocabulary.read(path)
    assert len(vocabulary) == size
    assert released(list(vocabulary.words)) == json.loads(path.read_bytes())
    assert vocabulary.encode(vocabulary.words)[1:-1] == list(range(size))


def changed(key: str, **changes: Any) -> dict[str, Any]:
    content = released(WORDS)
    content[key] = {word: value for word, value in {**content[key], **changes}.items() if value is not None}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "expected a JSON object"),
        ({"word2idx": {}}, "lacks the objects"),
        ({**released(WORDS), "idx": 7}, "'idx' is 7; all three must be equal"),
        (changed("word2idx", dog=None), "'word2idx' has 5 words, 'idx2word' 6"),
        (changed("word2idx", dog=4), "id 5 is 'dog' in 'idx2word', but 'word2idx' gives 'dog' id 4"),
        (changed("idx2word", **{"5": None, "6": "dog"}), "id 5 is missing in 'idx2word'; expected ids 0 to 5"),
        (changed("idx2word", **{"5": 5}), "id 5 is missing"),
        (released(["a", *SPECIAL]), "the first words to be <pad>, <start>, <end>, <unk>"),
    ],
)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        Vocabulary.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\xff"])
def test_files_that_are_not_json_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocab.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not valid JSON"):
        Vocabulary.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vocab\.json: cannot be read \(No such file"):
        Vocabulary.read(tmp_path / "vocab.json")
