"""`ncbench data vocab` and `ncbench data featurize`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from places import SHARED

from ncbench.data.registry import load_dataset
from ncbench.data.vocabulary import SPECIAL, Vocabulary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_vocab(cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A dog runs.\nA cat.\n")
    (tmp_path / "b.tsv").write_text("7\tThe dog sleeps .\n")
    result = cli(
        "data", "vocab", tmp_path / "a.txt", tmp_path / "b.tsv", "--out", tmp_path / "v.json", "--min-count", 2
    )
    assert result.exit_code == 0, result.output
    assert Vocabulary.read(tmp_path / "v.json").words == (*SPECIAL, ".", "a", "dog")
    assert result.stdout == f"wrote 7 words from 3 captions to {tmp_path / 'v.json'}; 36.4% of all words are unknown\n"


def test_vocab_refuses_bad_captions(cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A dog.\n\n")
    result = cli("data", "vocab", tmp_path / "a.txt", "--out", tmp_path / "v.json")
    assert result.exit_code == 2
    assert f"{tmp_path / 'a.txt'}:2: empty caption" in result.stderr
    assert not (tmp_path / "v.json").exists()


def test_vocab_writes_over_nothing(cli: Callable[..., Result], tmp_path: Path) -> None:
    captions, empty, out = tmp_path / "a.txt", tmp_path / "empty.txt", tmp_path / "v.json"
    captions.write_text("A dog.\n")
    empty.write_text("")
    for words, complaint in (
        (
            (captions, "--out", captions, "--force"),
            f"--out {captions} is one of the caption files; choose another path.",
        ),
        ((empty, "--out", out), f"{empty}: no captions found; expected one per line."),
    ):
        result = cli("data", "vocab", *words)
        assert (result.exit_code, result.stderr) == (2, f"Error: {complaint}\n")
    assert captions.read_text() == "A dog.\n"
    out.write_text("mine")
    result = cli("data", "vocab", captions, "--out", out)
    complaint = f"{out} already exists; choose another path, or overwrite it with --force."
    assert (result.exit_code, result.stderr, out.read_text()) == (2, f"Error: {complaint}\n", "mine")
    assert cli("data", "vocab", captions, "--out", out, "--force").exit_code == 0
    assert Vocabulary.read(out).words == SPECIAL


@pytest.mark.skipif(
    not (SHARED / "data" / "vocab").is_dir(),
    reason="vocabularies not found; set NCBENCH_SHARED to the folder with data/",
)
@pytest.mark.parametrize(("name", "words"), [("f30k", 8_481), ("cc152k", 12_072)])
def test_published_vocabularies(name: str, words: int) -> None:
    vocabulary = Vocabulary.read(SHARED / "data" / "vocab" / f"{name}_precomp_vocab.json")
    assert len(vocabulary) == words


def test_featurize(cli: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    captions = tmp_path / "captions.tsv"
    captions.write_text("".join(f"{number}.png\ta picture\n" for number in range(12)))
    result = cli("data", "featurize", "--images", folder, "--captions", captions)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "my-pictures: 10 train, 1 dev, 1 test images, 8 regions of 64 dimensions. "
        "Use it with: ncbench run --dataset my-pictures\n"
    )
    shown = cli("data", "featurize", "--images", folder, "--captions", captions, "--name", "mine", "--json")
    content = json.loads(shown.stdout)
    assert (content["name"], content["images"]) == ("mine", {"train": 10, "dev": 1, "test": 1})
    refused = cli("data", "featurize", "--images", folder, "--captions", captions, "--model", "resnet")
    assert refused.exit_code == 2
    assert refused.stderr == ("Error: unknown features 'resnet'; expected builtin, timm:NAME or transformers:NAME.\n")


def test_featurize_without_bad_pictures(cli: Callable[..., Result], tmp_path: Path) -> None:
    folder, captions = tmp_path / "shop", tmp_path / "captions.tsv"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), (6 * number, 0, 0)).save(folder / f"{number}.png")
        if number >= 20:
            (folder / f"{number}.png").write_bytes(b"no picture")
    splits = ["train", "dev", "test"]
    captions.write_text("".join(f"{n}.png\ta picture\t{splits[n % 3]}\n" for n in range(40)))
    words = ("data", "featurize", "--images", folder, "--captions", captions)
    refused = cli(*words)
    assert refused.exit_code == 2
    assert refused.stderr.endswith("or leave such pictures out with --skip-bad.\n")
    for _ in range(2):  # the second time it is in the store
        result = cli(*words, "--skip-bad")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("shop: 7 train, 7 dev, 6 test images")
        first, *lines, last = result.stderr.splitlines()
        assert first.startswith("20 pictures were left out; see ")
        assert len(lines) == 10
        assert all("no known format" in line for line in lines)
        assert last == "  and 10 more"
    content = json.loads(cli(*words, "--skip-bad", "--json").stdout)
    assert len(content["skipped"]) == 20
    assert Path(content["skipped_file"]).read_text().splitlines() == content["skipped"]


def test_featurize_pairs_that_may_be_wrong(cli: Callable[..., Result], tmp_path: Path) -> None:
    folder, captions = tmp_path / "found", tmp_path / "captions.tsv"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(folder / f"{number}.png")
    captions.write_text("".join(f"{number}.png\ta picture\n" for number in range(12)))
    result = cli("data", "featurize", "--images", folder, "--captions", captions, "--truth", "unknown")
    assert result.stdout.endswith("Use it with: ncbench run --dataset found --noise natural\n")
    dataset = load_dataset("found", None)
    assert not dataset.truth_known
    assert dataset.origins is not None
    files = {(one.file, one.row, one.picture) for one in map(partial(dataset.origins.origin, "train"), range(10))}
    assert files <= {(str(captions), number + 1, f"{number}.png") for number in range(12)}
    assert len(files) == 10
