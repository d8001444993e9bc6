from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from places import FIXTURES

from ncbench.data.dataset import Dataset, Split
from ncbench.data.precomp import CC152K, COCO, F30K, DevRule, PrecompSource, open_features
from ncbench.data.tokenise import TokenisationWarning
from ncbench.data.vocabulary import SPECIAL, Vocabulary
from ncbench.errors import UserError

FIXTURE = FIXTURES / "f30k"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the small Flickr30K for tests to damage."""
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    return tmp_path


def write_split(folder: Path, name: str, n_images: int, *, captions: int = 5, repeat: int = 1) -> None:
    """Write a split in which image i has (2, 3) features of value i, with captions "a w0"."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.repeat(np.arange(n_images, dtype=np.float32), repeat)
    np.save(folder / f"{name}_ims.npy", np.broadcast_to(rows[:, None, None], (len(rows), 2, 3)))
    if captions == 1:
        (folder / f"{name}_caps.tsv").write_text("".join(f"{i}\ta w{i} .\n" for i in range(n_images)))
    else:
        (folder / f"{name}_caps.txt").write_text("a w0\n" * n_images * captions)


def write_vocabulary(root: Path, name: str) -> None:
    (root / "vocab").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FIXTURE / "vocab/f30k_precomp_vocab.json", root / "vocab" / f"{name}_precomp_vocab.json")


def repeat_rows(root: Path, split: str) -> None:
    path = root / f"f30k_precomp/{split}_ims.npy"
    np.save(path, np.repeat(np.load(path), 5, axis=0))


def assert_equal(one: Split, other: Split) -> None:
    assert len(one.images) == len(other.images)
    everything = np.arange(len(one.images))
    np.testing.assert_array_equal(one.images.take(everything), other.images.take(everything))
    assert one.captions.texts == other.captions.texts
    np.testing.assert_array_equal(one.true, other.true)


def error(root: Path | None, source: PrecompSource = F30K) -> str:
    """Return the message of the one-line error that loading raises."""
    with pytest.raises(UserError) as caught:
        source.load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_released_format_is_read() -> None:
    dataset = F30K.load(FIXTURE)
    assert (dataset.name, dataset.version, dataset.batch_size, dataset.folds) == ("f30k", "1", 128, 1)
    assert dataset.scale == {"embed": 1024, "similarity": 256, "word": 300}
    assert dataset.truth_known
    assert (dataset.n_regions, dataset.image_dim) == (36, 24)
    for name, n_images in {"train": 40, "dev": 12, "test": 12}.items():
        split = dataset.splits[name]
        assert len(split.images) == n_images
        assert split.true.tolist() == [image for image in range(n_images) for _ in range(5)]
        lines = (FIXTURE / f"f30k_precomp/{name}_caps.txt").read_text().splitlines()
        assert split.captions.texts == lines
        words, lengths = split.captions.padded(np.array([3, 0]))
        spoken = [["<start>", *lines[c].split(), "<end>"] for c in (3, 0)]
        assert lengths.tolist() == [len(tokens) for tokens in spoken]
        for row, tokens in zip(words, spoken, strict=True):
            assert [dataset.vocabulary.words[word] for word in row[: len(tokens)]] == tokens
            assert not row[len(tokens) :].any()


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_split_can_be_read_without_the_others(split: str, root: Path) -> None:
    whole = F30K.load(root)
    for path in (root / "f30k_precomp").iterdir():
        if not path.name.startswith(f"{split}_"):
            path.unlink()
    alone = F30K.load_split(root, split)
    assert list(alone.splits) == [split]
    assert_equal(alone.splits[split], whole.splits[split])
    assert (alone.vocabulary, alone.image_dim, alone.n_regions) == (whole.vocabulary, whole.image_dim, whole.n_regions)
    assert alone.digest != whole.digest
    assert_equal(F30K.load_split(root / "f30k_precomp", split).splits[split], whole.splits[split])


def test_a_split_that_lacks_a_file_says_what_it_needs(root: Path) -> None:
    (root / "f30k_precomp" / "test_caps.txt").unlink()
    needed = "f30k_precomp/test_ims.npy, f30k_precomp/test_caps.txt and vocab/f30k_precomp_vocab.json"
    with pytest.raises(UserError, match=f"lacks test_caps.txt; dataset 'f30k' needs {needed}$"):
        F30K.load_split(root, "test")


def test_folds_of_coco_come_with_its_test_split_alone(tmp_path: Path) -> None:
    coco(tmp_path, testall=10)
    assert COCO.load_split(tmp_path, "test").folds == 5
    assert COCO.load_split(tmp_path, "dev").folds == 1


def test_features_stay_on_disk() -> None:
    path = FIXTURE / "f30k_precomp/train_ims.npy"
    assert isinstance(open_features(path), np.memmap)
    (chunk,) = F30K.load(FIXTURE).splits["train"].images._chunks
    assert isinstance(chunk, np.memmap)
    assert str(chunk.filename) == str(path)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_repeated_rows_give_the_same_split(root: Path, split: str) -> None:
    repeat_rows(root, split)
    assert_equal(F30K.load(root).splits[split], F30K.load(FIXTURE).splits[split])


def test_the_root_may_be_the_folder_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = F30K.load(root).digest
    assert F30K.load(root / "f30k_precomp").digest == digest
    monkeypatch.chdir(root / "f30k_precomp")
    assert F30K.load(Path()).digest == digest
    (root / "vocab").rename(root / "f30k_precomp/vocab")
    assert F30K.load(root).digest == digest


def test_folders_as_the_code_of_scan_has_them(root: Path) -> None:
    digest = F30K.load(root).digest
    (root / "data").mkdir()
    (root / "f30k_precomp").rename(root / "data" / "f30k_precomp")
    for place in (root, root / "data", root / "data" / "f30k_precomp"):
        assert F30K.load(place).digest == digest


@pytest.mark.parametrize("repeat", [1, 5])
@pytest.mark.parametrize(("rule", "present", "kept"), [("standard", 1014, 1000), ("ncr", 1014, None), ("ncr", 7, 7)])
def test_dev_rules(root: Path, rule: DevRule, present: int, kept: int | None, repeat: int) -> None:
    for split in ("train", "dev", "test"):
        write_split(root / "f30k_precomp", split, present if split == "dev" else 2, repeat=repeat)
    expected = kept or (200 if repeat == 5 else 1000)
    dev = dataclasses.replace(F30K, dev_rule=rule).load(root).splits["dev"]
    assert (len(dev.images), len(dev.captions), len(dev.true)) == (expected, expected * 5, expected * 5)
    assert dev.images.take(np.array([expected - 1]))[0, 0, 0] == expected - 1


def test_unknown_dev_rule_is_refused() -> None:
    with pytest.raises(UserError, match="unknown dev rule 'nrc'"):
        dataclasses.replace(F30K, dev_rule="nrc")  # type: ignore[arg-type]


def coco(root: Path, *, testall: int | None) -> Dataset:
    write_vocabulary(root, "coco")
    for split in ("train", "dev", "test"):
        write_split(root / "coco_precomp", split, 4)
    if testall is not None:
        write_split(root / "coco_precomp", "testall", testall, repeat=5)
    return COCO.load(root)


def test_coco_takes_testall_in_folds_if_it_is_there(tmp_path: Path) -> None:
    without = coco(tmp_path, testall=None)
    assert (len(without.splits["test"].images), without.folds) == (4, 1)
    dataset = coco(tmp_path, testall=10)
    assert (len(dataset.splits["test"].images), len(dataset.splits["test"].captions), dataset.folds) == (10, 50, 5)


def test_coco_names_missing_testall_files(tmp_path: Path) -> None:
    coco(tmp_path, testall=10)
    (tmp_path / "coco_precomp/testall_caps.txt").unlink()
    assert "lacks testall_caps.txt" in error(tmp_path, COCO)


def test_coco_testall_must_make_folds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"testall_ims\.npy: 12 images cannot be split into 5 folds"):
        coco(tmp_path, testall=12)


@pytest.fixture
def cc152k(tmp_path: Path) -> Path:
    write_vocabulary(tmp_path, "cc152k")
    for split in ("train", "dev", "test"):
        write_split(tmp_path / "cc152k_precomp", split, 6, captions=1)
    return tmp_path


def test_cc152k_reads_rows_of_id_and_caption(cc152k: Path) -> None:
    (cc152k / "cc152k_precomp/train_caps.tsv").write_text('9\ta w0\n7\t"a ""w1"""\n8\ta w2\tx\n' + "1\ta\n" * 3)
    dataset = CC152K.load(cc152k)
    assert not dataset.truth_known
    train = dataset.splits["train"]
    assert train.captions.texts == ["a w0", 'a "w1"', "a w2", "a", "a", "a"]
    assert train.true.tolist() == list(range(6))
    assert train.images.take(np.array([5]))[0, 0, 0] == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\ta\n2 a\n", "train_caps.tsv:2: found 1 columns, expected image id, tab, caption"),
        ("1\ta\n\n", "train_caps.tsv:2: found 0 columns"),
        ("1\ta\n2\t \n", "train_caps.tsv:2: empty caption"),
        ("1\ta\n2\t" + "a" * 20_000 + "\n", "train_caps.tsv:2: the caption has more than 10,000 characters"),
        ('1\ta\n2\t"b\n3\tc\n4\t"d\n5\te\n', "tsv:2: a quote opens in this line and closes in line 4"),
        ('1\ta\n2\tb\n3\t"c\n4\td\n', "tsv:3: a quote opens in this line and closes in line 4"),
        ("1\ta\n" * 5, "train_ims.npy: found 6 rows for 5 captions in train_caps.tsv, expected 5"),
    ],
)
def test_cc152k_errors(cc152k: Path, content: str, message: str) -> None:
    (cc152k / "cc152k_precomp/train_caps.tsv").write_text(content)
    assert message in error(cc152k, CC152K)


def test_no_root_names_the_needed_files() -> None:
    assert error(None) == (
        "dataset 'f30k' needs --data-root DIR, where DIR contains f30k_precomp/{train,dev,test}_ims.npy, "
        "f30k_precomp/{train,dev,test}_caps.txt and vocab/f30k_precomp_vocab.json"
    )


def test_missing_folder_and_files_are_named(root: Path) -> None:
    assert error(root / "nowhere").startswith(f"{root / 'nowhere/f30k_precomp'} is not a folder; dataset 'f30k' needs")
    (root / "f30k_precomp/dev_ims.npy").unlink()
    (root / "f30k_precomp/test_caps.txt").unlink()
    (root / "vocab/f30k_precomp_vocab.json").unlink()
    said = error(root)
    assert f"{root / 'f30k_precomp'} lacks dev_ims.npy, test_caps.txt, vocab/f30k_precomp_vocab.json (in" in said
    assert "dataset 'f30k' needs f30k_precomp/{train,dev,test}_ims.npy" in said


def save(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


def with_nan(row: int, shape: tuple[int, ...]) -> np.ndarray:
    features = np.zeros(shape, np.float32)
    features[row, -1, -1] = np.nan
    return features


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"no array"), "cannot be mapped into memory (the magic string is not correct"),
        (lambda path: path.write_bytes(b""), "cannot be mapped into memory (EOF"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x02\x00{("), "cannot be mapped into memory ("),
        (loop, "lacks train_ims.npy"),
        (truncate, "cannot be mapped into memory (mmap length is greater than file size)"),
        (save(np.array([[[{}]]], dtype=object)), "Python objects in dtype"),
        (save(np.array([np.zeros((2, 3)), np.zeros((4, 3))], object)), "if regions vary in number, cut those of each"),
        (save(np.zeros((40, 24), np.float32)), "float32 of shape (40, 24), expected a .npy file of float32"),
        (save(np.zeros((40, 36, 24))), "float64 of shape (40, 36, 24), expected"),
        (save(np.zeros((40, 36, 24), ">f4")), ">f4 of shape (40, 36, 24), expected"),
        (
            save(with_nan(29, (40, 36, 24))),
            "train_ims.npy: row 29 contains NaN or infinity",
        ),
        (
            save(np.full((40, 36, 24), np.inf, np.float32)),
            "train_ims.npy: row 0 contains NaN or infinity",
        ),
        (
            save(np.full((40, 36, 24), 1e20, np.float32)),
            "train_ims.npy: row 0 contains a number of size 1e+20, expected finite numbers up to 1e+06; download",
        ),
        (save(np.zeros((39, 36, 24), np.float32)), "expected 40 (one per image) or 200 (one per caption)"),
        (save(np.arange(200, dtype=np.float32).reshape(200, 1, 1)), "rows 0 to 4 must be the same image"),
        (save(np.zeros((40, 36, 23), np.float32)), "found train_ims.npy (36, 23), dev_ims.npy (36, 24)"),
    ],
)
def test_damaged_features(root: Path, damage: Callable[[Path], object], message: str) -> None:
    path = root / "f30k_precomp/train_ims.npy"
    damage(path)
    assert message in error(root)
    assert str(path.parent) in error(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a w0\n" * 3 + b"a \xe9\n" + b"a\n", "train_caps.txt:4: not UTF-8 (byte 0xe9)"),
        (b"a w0\n" * 3 + b" \n" + b"a\n", "train_caps.txt:4: empty caption"),
        (b"a w0\n" * 199, "train_caps.txt: found 199 captions, expected a multiple of 5"),
        (b"", "train_caps.txt: found 0 captions"),
        (
            b"a w0\n" * 100,
            "train_ims.npy: found 40 rows for 100 captions in train_caps.txt, expected 20 (one per image)",
        ),
    ],
)
def test_damaged_captions(root: Path, content: bytes, message: str) -> None:
    (root / "f30k_precomp/train_caps.txt").write_bytes(content)
    assert message in error(root)


def test_some_rows_of_large_files_are_checked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncbench.data.precomp.MAX_FULL_CHECK_BYTES", 0)
    monkeypatch.setattr("ncbench.data.precomp.N_SAMPLED_ROWS", 4)
    path = root / "f30k_precomp/train_ims.npy"
    np.save(path, with_nan(39, (40, 36, 24)))
    assert "train_ims.npy: row 39 contains NaN or infinity" in error(root)
    np.save(path, with_nan(38, (40, 36, 24)))
    F30K.load(root)


def test_line_ends_and_accents_are_read_as_published(root: Path) -> None:
    path = root / "f30k_precomp/train_caps.txt"
    lines = ["a w0\u2028w1 .", *path.read_text().splitlines()[1:]]
    path.write_bytes("\r\n".join(lines).encode())
    assert F30K.load(root).splits["train"].captions.texts == lines


def test_a_damaged_vocabulary_is_named(root: Path) -> None:
    path = root / "vocab/f30k_precomp_vocab.json"
    path.write_text(json.dumps({}))
    assert error(root).startswith(f"{path}: lacks the objects")


def test_the_digest_follows_the_content(root: Path) -> None:
    seen = {F30K.load(root).digest, F30K.load(FIXTURE).digest}
    assert len(seen) == 1
    captions = root / "f30k_precomp/dev_caps.txt"
    captions.write_text(captions.read_text().replace("a ", "w1 ", 1))
    seen.add(F30K.load(root).digest)
    features = np.lib.format.open_memmap(root / "f30k_precomp/test_ims.npy", mode="r+")
    features[-1, -1, -1] += 1
    features.flush()
    seen.add(F30K.load(root).digest)
    assert len(seen) == 3


def test_the_digest_follows_the_dev_rule(root: Path) -> None:
    for split in ("train", "dev", "test"):
        write_split(root / "f30k_precomp", split, 201, repeat=5)
    assert F30K.load(root).digest != dataclasses.replace(F30K, dev_rule="ncr").load(root).digest


def test_abbreviations_of_the_vocabulary_keep_their_stop(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk.tokenize

    def absent(text: str, language: str = "english") -> list[str]:
        raise LookupError

    monkeypatch.setattr(nltk.tokenize, "sent_tokenize", absent)
    words = [*SPECIAL, "mr.", "w1", "w2", "."]
    ids = {word: number for number, word in enumerate(words)}
    (root / "vocab/f30k_precomp_vocab.json").write_text(
        json.dumps({"word2idx": ids, "idx2word": {str(n): w for w, n in ids.items()}, "idx": len(ids)})
    )
    for split in ("train", "dev", "test"):
        write_split(root / "f30k_precomp", split, 1)
    (root / "f30k_precomp/train_caps.txt").write_text("Mr. w1. w2.\n" + "w1\n" * 4)
    with pytest.warns(TokenisationWarning, match="1 of 15 captions") as caught:
        dataset = F30K.load(root)
    assert len(caught) == 1
    tokens, _ = dataset.splits["train"].captions.padded(np.array([0]))
    assert [Vocabulary(tuple(words)).words[t] for t in tokens[0]] == ["<start>", "mr.", "w1", ".", "w2", ".", "<end>"]
