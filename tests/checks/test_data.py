"""Checks of datasets: shipped datasets pass, and every violation fails its own check."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import FIXTURES
from sources import Source

from ncbench import Captions, Dataset, ImageFeatures, Split, UserError
from ncbench.checks.data import CHECKS, check_source
from ncbench.checks.shapes import Shapes
from ncbench.cli import main
from ncbench.data.dataset import CaptionVectors
from ncbench.data.registry import check_dataset, dataset_names, load_dataset
from ncbench.data.scenes.source import Scenes

F30K = FIXTURES / "f30k"
GOOD = Shapes().load()
TEXT = '''
"""A dataset of one's own."""

from dataclasses import replace

from ncbench.checks.shapes import Shapes


class Mine:
    """Return the shapes dataset."""

    name = "mine"
    summary = "a few shapes"
    needs_root = False

    def load(self, root):
        return replace(Shapes().load(), name="mine")
'''


def with_split(name: str, **changes: Any) -> Dataset:
    return replace(GOOD, splits={**GOOD.splits, name: replace(GOOD.splits[name], **changes)})


def with_features(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Dataset:
    features = GOOD.splits[name].images.take(np.arange(len(GOOD.splits[name].images)))
    return with_split(name, images=ImageFeatures([change(features)]))


def with_captions(name: str, change: Callable[[list[int]], list[int]]) -> Dataset:
    captions = GOOD.splits[name].captions
    tokens = [captions.padded(np.array([n]))[0][0].tolist() for n in range(len(captions))]
    return with_split(name, captions=Captions(captions.texts, [change(one) for one in tokens]))


def poisoned(features: np.ndarray) -> np.ndarray:
    features[3, 0, 0] = np.nan
    return features


def one_file() -> Dataset:
    """Return the dataset with all features in one array."""
    parts = [split.images.take(np.arange(len(split.images))) for split in GOOD.splits.values()]
    stops = np.cumsum([0, *map(len, parts)])
    whole = np.concatenate(parts)
    splits = {
        name: Split(ImageFeatures([whole[start:stop]]), split.captions, split.true)
        for (name, split), start, stop in zip(GOOD.splits.items(), stops, stops[1:], strict=False)
    }
    return replace(GOOD, splits=splits)


def with_vectors(**changed: np.ndarray) -> Dataset:
    """Return the dataset with random caption vectors, other ones for the splits in `changed`."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, split in GOOD.splits.items():
        vectors = rng.normal(size=(len(split.captions), 6)).astype(np.float32)
        splits[name] = replace(split, captions=CaptionVectors(split.captions.texts, changed.get(name, vectors)))
    return replace(GOOD, splits=splits)


def test_captions_that_are_vectors_pass() -> None:
    found = {verdict.check: verdict for verdict in check_source(Source(with_vectors()), None)}
    assert {verdict.outcome for verdict in found.values()} <= {"pass", "skipped"}
    assert found["captions"].detail == "vectors of 6 numbers, all finite (checked up to 512 per split)"
    assert found["trains"].outcome == "pass"


@pytest.mark.parametrize(
    ("dataset", "detail"),
    [
        (with_vectors(dev=np.ones((64, 6), np.float32)), "all captions of dev have the same vector"),
        (with_vectors(test=np.full((128, 6), np.nan, np.float32)), "caption vectors of test: features, row 0: "),
        (
            with_vectors(dev=np.random.default_rng(1).normal(size=(64, 5)).astype(np.float32)),
            "splits differ in the dimension of caption vectors: train 6, dev 5, test 6 (0: words)",
        ),
    ],
)
def test_wrong_caption_vectors(dataset: Dataset, detail: str) -> None:
    found = {verdict.check: verdict for verdict in check_source(Source(dataset), None)}["captions"]
    assert found.outcome == "fail"
    assert found.detail.startswith(detail)
    assert found.remedy == "give every split one finite vector per caption, all of the dimension of train"


class Upside:
    """Inverted closeness."""

    def closeness(self, split: str, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
        assert GOOD.semantics is not None
        return 1 - GOOD.semantics.closeness(split, captions, images)


class Wide:
    def closeness(self, split: str, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.full(len(captions), 1.5)


def tenth() -> Dataset:
    test = GOOD.splits["test"]
    images = ImageFeatures([test.images.take(np.arange(10))])
    captions = Captions(test.captions.texts[:20], [[1, 4, 2]] * 20)
    return replace(GOOD, splits={**GOOD.splits, "test": Split(images, captions, test.true[:20])})


class Drifting(Source):
    """Loads different features every time."""

    def __init__(self, say: bool) -> None:
        super().__init__(GOOD)
        self.number, self.say = 0, say

    def load(self, root: Path | None) -> Dataset:
        self.number += 1
        drifted = with_features("dev", lambda features: features + 0.001 * self.number)
        return replace(drifted, digest=f"{self.number:012d}") if self.say else drifted


class Failing(Source):
    def load(self, root: Path | None) -> Dataset:
        raise ZeroDivisionError("nothing there")


BROKEN: dict[str, tuple[Any, str, str]] = {
    "name": (lambda: replace(GOOD, name="a b"), "named", "'a b' is not a valid name"),
    "summary": (
        lambda: Source(GOOD, "two\nlines"),
        "named",
        "summary must be one line of text, found 'two\\nlines'",
    ),
    "error": (lambda: Failing(GOOD), "loads", "ZeroDivisionError: nothing there (test_data.py, line "),
    "kind": (
        lambda: type("S", (Source,), {"load": lambda *_: 3})(GOOD),
        "loads",
        "must return an ncbench.Dataset, found int",
    ),
    "splits": (lambda: replace(GOOD, splits={"train": GOOD.splits["train"]}), "loads", "missing splits: dev, test"),
    "digest": (lambda: replace(GOOD, digest=""), "loads", "version and digest must identify the content"),
    "called": (
        lambda: type("S", (Source,), {"name": property(lambda _: "x", lambda *_: None)})(GOOD),
        "loads",
        "the source is named 'x', but it loads a dataset named 'shapes'",
    ),
    "true": (
        lambda: with_split("dev", true=GOOD.splits["dev"].true[:-1]),
        "pairs",
        "true of dev must be int64 of shape (64,)",
    ),
    "range": (
        lambda: with_split("dev", true=GOOD.splits["dev"].true + 1),
        "pairs",
        "must be in 0..31, found 1 to 32",
    ),
    "empty": (lambda: with_captions("train", lambda tokens: []), "captions", "caption 0 of train has no tokens"),
    "words": (
        lambda: with_captions("test", lambda tokens: [*tokens, 99]),
        "captions",
        "test has token 99; tokens of the vocabulary are 0 to 14",
    ),
    "nan": (
        lambda: with_features("test", poisoned),
        "features",
        "test: features, row 3: contains NaN or infinity, expected",
    ),
    "same": (lambda: with_features("dev", np.zeros_like), "features", "all images of dev have the same features"),
    "shapes": (
        lambda: with_features("dev", lambda f: f[:, :2].copy()),
        "features",
        "splits differ in (regions, dimensions)",
    ),
    "drift": (lambda: Drifting(False), "same-again", "the second load has a different dev split"),
    "digests": (lambda: Drifting(True), "same-again", "digest 000000000002, the first 000000000001"),
    "twice": (
        lambda: with_features("dev", lambda f: np.concatenate([GOOD.splits["train"].images.take(np.arange(3)), f[3:]])),
        "apart",
        "3 of the checked images are in both train and dev",
    ),
    "one file": (one_file, "apart", "features of dev can be reached from train features: images._chunks[0].base"),
    "bare": (
        lambda: with_split("test", true=np.maximum(GOOD.splits["test"].true, 2)),
        "queries",
        "2 images of test have no caption, for example image 0",
    ),
    "few": (tenth, "queries", "test has 10 images; R@10 needs at least 11"),
    "folds": (lambda: replace(GOOD, folds=5), "queries", "64 test images cannot be divided into 5 folds"),
    "closeness": (
        lambda: replace(GOOD, semantics=Upside()),
        "closeness",
        "captions of train are not closer to their own images",
    ),
    "wide": (
        lambda: replace(GOOD, semantics=Wide()),
        "closeness",
        "closeness must have shape (256,) and values in [0, 1]",
    ),
    "scale": (
        lambda: replace(GOOD, scale={"embd": 3}),
        "trains",
        "scale has unknown keys embd; expected dropout",
    ),
    "batch": (lambda: replace(GOOD, batch_size=1), "trains", "budget positive, found 1 and 4.0"),
}


def failed(source: Any) -> dict[str, str]:
    return {verdict.check: verdict.detail for verdict in check_source(source, None) if verdict.outcome == "fail"}


@pytest.fixture
def call() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCBENCH_PLUGINS", raising=False)
    (tmp_path / "datasets").mkdir()
    path = tmp_path / "datasets" / "some.py"
    path.write_text(TEXT)
    return path


def test_good_ones_pass() -> None:
    assert failed(Shapes()) == {}
    assert failed(Source(replace(GOOD, semantics=None))) == {}


def test_every_check_has_a_dataset_that_fails_it() -> None:
    assert {check for _, check, _ in BROKEN.values()} == {check.name for check in CHECKS}


@pytest.mark.parametrize("breach", BROKEN)
def test_a_breach_is_found_by_its_own_check(breach: str) -> None:
    make, check, words = BROKEN[breach]
    made = make()
    found = failed(Source(made) if isinstance(made, Dataset) else made)
    assert list(found) == [check], found
    assert words in found[check]


def test_scenes_conform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path))
    assert failed(Scenes("scenes", {"train": 40, "dev": 12, "test": 12})) == {}


def test_released_files_conform(call: Callable[..., Result]) -> None:
    result = call("data", "check", "f30k", "--data-root", F30K)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Checks of dataset f30k")
    assert result.stdout.endswith("9 passed, 0 failed, 1 skipped\n")


def test_files_that_are_missing_are_bad_input(call: Callable[..., Result], tmp_path: Path) -> None:
    result = call("data", "check", "f30k")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: dataset 'f30k' needs --data-root DIR, where DIR contains f30k_precomp/")
    result = call("data", "check", "f30k", "--data-root", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert call("data", "check", "scnes").stderr.startswith("Error: unknown dataset 'scnes'. Did you mean 'scenes'")
    assert call("data", "check", "no.py").stderr.startswith("Error: dataset file no.py: file not found")


def test_a_dataset_in_a_file(file: Path, call: Callable[..., Result]) -> None:
    for name in (file, "mine"):
        result = call("data", "check", name)
        assert result.exit_code == 0, result.output
        assert result.stdout.endswith("10 passed, 0 failed, 0 skipped\n")
    assert json.loads(call("data", "check", "mine", "--json").stdout)["failed"] == 0
    assert "a few shapes" in call("data", "list").stdout
    common = ["--method", "triplet", "--backbone", "vse", "--budget", "1", "--noise", "0.4", "--jobs", "1"]
    common += ["--set", "triplet.batch_size=32"]
    assert call("run", *common, "--dataset", "datasets/some.py").exit_code == 0
    assert "already done" in call("run", *common, "--dataset", "mine").stdout


def test_sources_that_are_made_in_a_file(file: Path) -> None:
    file.write_text(TEXT + '\nOther = Mine\nOther.name = "other"\nMADE = Mine()\n')
    with pytest.raises(UserError, match=r"dataset file .*some\.py: must define one dataset with a name, found other"):
        load_dataset("mine", None)
    file.write_text(
        'from ncbench.data.precomp import PrecompSource\nRELEASED = PrecompSource("flowers", "flowers", 8)\n'
    )
    assert "flowers" in dataset_names()
    check_dataset("flowers")
    with pytest.raises(UserError, match="dataset 'flowers' needs --data-root DIR"):
        load_dataset("flowers", None)
    assert "mine" not in dataset_names()


def test_a_method_is_no_dataset(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncbench.method.registry import method_names

    monkeypatch.setenv("NCBENCH_PLUGINS", str(file.parent))
    assert "mine" in dataset_names()
    assert "mine" not in method_names()
    file.write_text('class A:\n    name = "way"\n    def setup(self): ...\n')
    assert ("way" in method_names(), "way" in dataset_names()) == (True, False)


def test_broken_ones_do_not_hide_the_others(
    file: Path, call: Callable[..., Result], register: Callable[..., None]
) -> None:
    file.write_text("raise SystemExit('gone')\nclass A:\n    name = 'ended'\n    def load(self, root): ...\n")
    register("ncbench.datasets", "broken", ImportError("no such thing"))
    register("ncbench.datasets", "partial", object())
    register("ncbench.datasets", "kind", Source)
    result = call("data", "list")
    assert result.exit_code == 0
    assert "scenes-large" in result.stdout
    broken, kind, partial = result.stderr.splitlines()
    assert broken.endswith("dataset 'broken' (somewhere:Thing) cannot be loaded: ImportError: no such thing")
    assert "ended" in result.stdout  # a file that would fail is not run
    assert "dataset 'kind' is not an ncbench.data.dataset.DatasetSource: it is a class" in kind
    assert "it lacks name and summary and needs_root and load" in partial


def test_an_error_of_a_dataset_is_told_in_a_line(file: Path, call: Callable[..., Result]) -> None:
    file.write_text(TEXT.replace("return replace(", "1 / 0; return replace("))
    result = call("run", "--method", "triplet", "--dataset", file)
    expected = "Error: dataset 'mine' cannot be loaded: ZeroDivisionError: division by zero (some.py, line 17).\n"
    assert (result.exit_code, result.stderr) == (2, expected)
