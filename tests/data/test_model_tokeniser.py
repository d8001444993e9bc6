"""Captions split by the tokenizer of a model, for languages in which spaces do not separate words."""

from __future__ import annotations

import builtins
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ncbench.cli import main
from ncbench.data.model_tokeniser import MAX_BYTES, ModelTokeniser, tokenizer_file
from ncbench.data.registry import load_dataset
from ncbench.data.token_cache import token_ids
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError

pytest.importorskip("tokenizers")

LETTERS = "一二三只红蓝大小狗猫"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))


def write_tokenizer(path: Path, letters: str = LETTERS) -> Path:
    """Write a tokenizer of single letters, which would cut texts after 3 tokens and add [CLS] if it were let."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel

    ids = {token: number for number, token in enumerate(["[UNK]", "[CLS]", *letters])}
    tokenizer: Any = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9, pad_token="[CLS]", pad_id=1)
    tokenizer.save(str(path))
    return path


def write_pairs(path: Path) -> Path:
    """Write 30 images with a caption of six letters each."""
    rng = np.random.default_rng(0)
    captions = ["".join(rng.choice(list(LETTERS), 6)) for _ in range(30)]
    pq.write_table(pa.table({"f": rng.normal(size=(30, 4)).tolist(), "c": captions}), path)
    return path


def test_tokens_are_those_of_the_file_whatever_its_settings(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "tokenizer.json")
    tokeniser = ModelTokeniser(str(tmp_path))
    assert tokeniser("红狗二猫大") == ["红", "狗", "二", "猫", "大"]
    assert tokeniser("红x") == ["红", "<unk>"]
    assert (tokeniser.seen, tokeniser.doubtful, tokeniser.trained) == (2, 0, True)
    assert tokeniser.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    tokeniser.warn()


def test_a_dataset_with_a_tokenizer(tmp_path: Path) -> None:
    pairs, file = write_pairs(tmp_path / "pairs.parquet"), write_tokenizer(tmp_path / "tokenizer.json")
    request = f"hf:{pairs}?image-features=f&captions=c&min-count=1"
    with pytest.raises(UserError, match=r"unknown .*name a tokenizer \(tokenizer=FILE_OR_NAME for `hf:`, --tokenizer"):
        load_dataset(f"hf:{pairs}?image-features=f&captions=c", None)
    dataset = load_dataset(f"{request}&tokenizer={file}", None)
    assert set(dataset.vocabulary.words[4:]) == set(LETTERS)
    train = dataset.splits["train"]
    words = [dataset.vocabulary.words[token] for token in train.captions.tokens(0)]
    assert words == ["<start>", *train.captions.texts[0], "<end>"]
    before = dataset.digest
    write_tokenizer(file, LETTERS[::-1])  # the same tokens, from another file
    again = load_dataset(f"{request}&tokenizer={file}", None)
    assert again.vocabulary == dataset.vocabulary
    assert again.digest != before


def test_a_tokenizer_in_a_configuration_file_is_relative_to_it(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.parquet")
    write_tokenizer(tmp_path / "tokenizer.json")
    lines = (
        'source = "pairs.parquet"\nimage-features = "f"\ncaptions = "c"\nmin-count = 1\ntokenizer = "tokenizer.json"'
    )
    (tmp_path / "mine.toml").write_text(lines)
    assert len(load_dataset(str(tmp_path / "mine.toml"), None).vocabulary) == 4 + len(LETTERS)


def test_vocabularies(tmp_path: Path) -> None:
    file = write_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "captions.txt").write_text("红狗\n红猫x\n")
    words = ["data", "vocab", f"{tmp_path}/captions.txt", "--out", f"{tmp_path}/v.json", "--min-count", "1"]
    result = CliRunner().invoke(main, [*words, "--tokenizer", str(file)])
    assert result.exit_code == 0, result.output
    assert "wrote 7 words from 2 captions" in result.output
    assert Vocabulary.read(tmp_path / "v.json").words[4:] == tuple(sorted("红狗猫"))


def test_cached_words_are_those_of_the_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncbench.data.token_cache.MIN_CACHED_CAPTIONS", 1)
    vocabulary = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "红", "狗"))
    tokeniser = ModelTokeniser(str(write_tokenizer(tmp_path / "tokenizer.json")))
    for _ in range(2):
        assert token_ids(["红狗"], vocabulary, tokeniser)[0].tolist() == [1, 4, 5, 2]
        assert token_ids(["红狗"], vocabulary, Tokeniser())[0].tolist() == [1, 3, 2]
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"model": 3}', b"\xff"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(
        UserError, match=r"^tokenizer '.*tokenizer\.json': cannot be read \(.*\); expected a tokenizer"
    ) as caught:
        ModelTokeniser(str(tmp_path / "tokenizer.json"))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"has no tokenizer\.json; expected the folder of a fast tokenizer"):
        ModelTokeniser(str(tmp_path))
    for name in ("./x", "x.json", "/x/y", "a/b/c"):
        with pytest.raises(UserError, match="no such file or folder; expected a tokenizer"):
            ModelTokeniser(name)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="more than the limit"):
        ModelTokeniser(str(tmp_path))


def test_names_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_tokenizer(tmp_path / "tokenizer.json")
    asked = []

    def download(name: str, wanted: str) -> str:
        asked.append((name, wanted))
        if name == "none":
            raise OSError("offline\nnow")
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert tokenizer_file("org/model") is None
    assert ModelTokeniser("org/model")("红") == ["红"]
    with pytest.raises(UserError, match=r"tokenizer 'none': .* cannot be loaded from the hub \(offline now\)"):
        ModelTokeniser("none")
    assert asked == [("org/model", "tokenizer.json"), ("none", "tokenizer.json")]


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, load = write_tokenizer(tmp_path / "tokenizer.json"), builtins.__import__

    def without(name: str, *words: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return load(name, *words)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"needs the library tokenizers; run `pip install 'ncbench\[tokenizers\]'`"):
        ModelTokeniser(str(file))


def test_a_digest_is_kept_with_the_dataset(tmp_path: Path) -> None:
    pairs, file = write_pairs(tmp_path / "pairs.parquet"), write_tokenizer(tmp_path / "tokenizer.json")
    load_dataset(f"hf:{pairs}?image-features=f&captions=c&min-count=1&tokenizer={file}", None)
    (manifest,) = (tmp_path / "cache" / "imported").rglob("manifest.json")
    assert json.loads(manifest.read_text())["tokenizer_digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
