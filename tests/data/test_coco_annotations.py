"""Annotations of MS-COCO by rows of its test split: a small package of the same layout, and the real one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from coco_package import install_annotations

from ncbench import Captions, ImageFeatures, Split, UserError
from ncbench.data.coco_annotations import PACKAGE, CocoRows, coco_fitting
from ncbench.evaluation.fitting import evaluate_fitting

IMAGES = (70, 20, 90)
CAPTIONS = (101, 105, 33, 34, 7, 8)


def split_of(images: int, each: int) -> Split:
    captions = images * each
    features = ImageFeatures([np.zeros((images, 1, 1), np.float32)])
    return Split(features, Captions(["a"] * captions, [[1]] * captions), np.arange(captions) // each)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the data of a small package."""
    return install_annotations(
        tmp_path / "site",
        monkeypatch,
        CAPTIONS,
        np.repeat(IMAGES, 2).tolist(),
        eccv_image_to_caption={20: [33, 34, 101, 9999], 90: [7, 7]},
        eccv_caption_to_image={105: [70, 90]},
        cxc_image_to_caption={70: [101, 105]},
        cxc_caption_to_image={101: [70], 33: [20], 8: [90]},
    )


def test_pairs_are_rows(package: Path) -> None:
    rows = CocoRows.of_package()
    assert rows.captions.tolist() == list(CAPTIONS)
    assert rows.images.tolist() == [70, 70, 20, 20, 90, 90]
    for_images, for_captions = coco_fitting("eccv", rows)
    assert [*zip(for_images.captions, for_images.images, strict=True)] == [(0, 1), (2, 1), (3, 1), (4, 2)]
    assert [*zip(for_captions.captions, for_captions.images, strict=True)] == [(1, 0), (1, 2)]
    _, every = coco_fitting("cxc", rows)
    assert [*zip(every.captions, every.images, strict=True)] == [(0, 0), (2, 1), (5, 2)]


@pytest.mark.parametrize("ids", [IMAGES, np.repeat(IMAGES, 2), CAPTIONS])
def test_rows_with_these_ids(ids: object, package: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("".join(f"{each}\n" for each in np.asarray(ids)))
    CocoRows.of_package().check(split_of(3, 2), tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("ids", "images", "each", "complaint"),
    [
        ("70 90 20", 3, 2, "ids.txt, line 2: found id 90, but the image of this row in the annotations is 20 .2 of 3 "),
        ("70 70 20 20 90 91", 3, 2, "line 6: found id 91, but the image of this row in the annotations is 90 .1 of 6 "),
        ("105 101 33 34 7 8", 3, 2, "line 1: found id 105, but the image of this row in the annotations is 70 .6 of 6"),
        ("70 20", 3, 2, r"ids.txt: found 2 ids, expected one per image .3. or one per caption .6."),
        ("", 3, 2, "ids.txt: found 0 ids"),
        ("a", 3, 2, "ids.txt: expected one id of MS-COCO per line"),
        ("70 20 90", 2, 2, "the split has 2 images and 4 captions, but the annotations are of MS-COCO's test split"),
        ("70 20 90", 2, 3, "the split has 2 images and 6 captions, but the annotations are of MS-COCO's test split"),
    ],
)  # fmt: skip
def test_rows_of_another_split(ids: str, images: int, each: int, complaint: str, package: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(ids.split()))
    with pytest.raises(UserError, match=complaint):
        CocoRows.of_package().check(split_of(images, each), tmp_path / "ids.txt")


def test_damaged_packages(package: Path) -> None:
    rows = CocoRows.of_package()
    (package / "eccv_image_to_caption.json").write_text('{"1": [7]}')
    with pytest.raises(
        UserError, match=r"eccv_\*.json: cannot be read as annotations \(id 1 is not in the test split\)"
    ):
        coco_fitting("eccv", rows)
    (package / "eccv_image_to_caption.json").write_text('{"1": "x"}')
    with pytest.raises(UserError, match=r"image_to_caption.json: cannot be read as annotations \(Expected `array`"):
        coco_fitting("eccv", rows)
    (package / "original_caption_to_image.json").write_text("{}")
    with pytest.raises(UserError, match=r"original_caption_to_image.json: cannot be read as annotations \(101\)"):
        CocoRows.of_package()
    (package / "coco_test_ids.npy").unlink()
    with pytest.raises(UserError, match=r"coco_test_ids.npy: cannot be read as annotations .*install them again: pip"):
        CocoRows.of_package()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncbench.data.coco_annotations.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"need the package eccv_caption; install it with: pip install 'ncbench\[coco\]'"
    ):
        CocoRows.of_package()


@pytest.mark.filterwarnings("ignore:failed to import")
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="eccv_caption is not installed")
def test_as_the_package_scores() -> None:
    """Random scores, raised for some fitting pairs, on the real annotations."""
    rows = CocoRows.of_package()
    ours = [coco_fitting(name, rows) for name in ("eccv", "cxc")]
    rng = np.random.default_rng(0)
    scores = rng.random((5_000, 25_000), np.float32)
    for pairs in (pairs for both in ours for pairs in both):
        chosen = rng.random(len(pairs)) < 0.4
        scores[pairs.images[chosen], pairs.captions[chosen]] += 0.9995
    true = np.arange(25_000) // 5
    images = rows.images[::5]
    depth = 100  # no query of ECCV Caption has as many fitting items
    i2t = {int(image): rows.captions[_best(row, depth)].tolist() for image, row in zip(images, scores, strict=True)}
    t2i = {int(c): images[_best(column, depth)].tolist() for c, column in zip(rows.captions, scores.T, strict=True)}
    theirs = (
        import_module(PACKAGE)
        .Metrics()
        .compute_all_metrics(
            i2t, t2i, target_metrics=("eccv_r1", "eccv_map_at_r", "eccv_rprecision", "cxc_recalls"), Ks=(1,)
        )
    )
    for name, (for_images, for_captions) in zip(("eccv", "cxc"), ours, strict=True):
        for side, pairs in (("i2t", for_images), ("t2i", for_captions)):
            found = getattr(evaluate_fitting(scores, true, pairs.captions, pairs.images), side)
            assert found.r1 == pytest.approx(100 * theirs[f"{name}_r1"][side])
            if name == "eccv":
                near = 0.1 if side == "i2t" else 1e-9  # it counts two captions that are not in the split
                assert found.map_at_r == pytest.approx(100 * theirs["eccv_map_at_r"][side], abs=near)
                assert found.r_precision == pytest.approx(100 * theirs["eccv_rprecision"][side], abs=near)


def _best(scores: np.ndarray, depth: int) -> np.ndarray:
    best = np.argpartition(-scores, depth)[:depth]
    return best[np.argsort(-scores[best], kind="stable")]
