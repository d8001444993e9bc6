"""Noise audits of beliefs made by hand: order, proposals, cells and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import Painted
from PIL import Image
from runs import prepare_run
from sources import Source
from toy_methods import Toy

from ncbench import Rematches, UserError
from ncbench.data.dataset import Captions, Dataset, Split
from ncbench.evaluation.beliefs import Beliefs
from ncbench.noise.base import Noise, noise_digest
from ncbench.noise.storage import load_noise, save_noise
from ncbench.records.arrays import save_beliefs
from ncbench.records.audit import Audit, Shown, load_audit, write_audit, write_pictures
from ncbench.records.record import Record, noise_path
from ncbench.records.store import Store
from ncbench.runtime.files import write_json

COLUMNS = [
    "rank", "pair", "caption", "claimed_image", "p_mismatched", "soft_label", "rematched_image", "weight", "told_clean",
]  # fmt: skip
P_CLEAN = np.random.default_rng(1).integers(0, 9, 48) / 8  # with ties, 0 and 1 among them
Make = Callable[..., Path]


def rematches(*triples: tuple[int, int, float]) -> Rematches:
    captions, images, weights = zip(*triples, strict=True)
    return Rematches(np.array(captions), np.array(images), np.array(weights))


@pytest.fixture
def make(make_dataset: Callable[..., Dataset], register: Callable[..., None], tmp_path: Path) -> Make:
    """Return a function that records a run with beliefs on a dataset like `tiny`, and returns its folder."""

    def made(
        p_clean: np.ndarray | None = P_CLEAN,
        labels: np.ndarray | None = None,
        found: Rematches | None = None,
        told: Sequence[int] = (),
        **changes: Any,
    ) -> Path:
        dataset = make_dataset(**changes)
        register("ncbench.datasets", "tiny", Source(dataset))
        run = prepare_run(dataset, tmp_path / "unused", Toy)
        folder = Store(tmp_path / "runs").start(run.spec)
        save_noise(run.noise, noise_path(tmp_path / "runs", run.spec))
        save_beliefs(folder / "beliefs.npz", Beliefs(p_clean, labels, found, np.array(told, np.int64)))
        (folder / "result.json").write_text("{}")
        return folder

    return made


def cells(audit: Audit, path: Path, *options: Any, **more: Any) -> list[dict[str, str]]:
    """Write an audit and read it back."""
    count = write_audit(audit, path, *options, **more)
    found = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    assert len(found) == count
    return found


def test_rows(make: Make, tmp_path: Path) -> None:
    labels = np.linspace(0, 1, 48)
    audit = load_audit(make(labels=labels, found=rematches((3, 7, 0.5)), told=[3, 9]), None)
    rows = cells(audit, tmp_path / "a.csv")
    assert list(rows[0]) == COLUMNS
    expected = sorted(range(48), key=lambda pair: (P_CLEAN[pair], pair))
    assert [int(row["pair"]) for row in rows] == expected
    assert [int(row["rank"]) for row in rows] == list(range(1, 49))
    for row in rows:
        pair = int(row["pair"])
        assert row["caption"] == audit.dataset.splits["train"].captions.texts[pair]
        assert int(row["claimed_image"]) == audit.noise.claimed[pair]
        assert float(row["p_mismatched"]) == 1 - P_CLEAN[pair]
        assert float(row["soft_label"]) == pytest.approx(labels[pair], abs=1e-6)
        assert (row["rematched_image"], row["weight"]) == (("7", "0.500000") if pair == 3 else ("", ""))
        assert row["told_clean"] == str(pair in (3, 9))
    assert audit.flagged == np.count_nonzero(P_CLEAN < 0.5)
    assert audit.judged.tolist() == [pair for pair in range(48) if pair not in (3, 9)]


def test_what_there_is_not_is_empty(make: Make, tmp_path: Path) -> None:
    for row in cells(load_audit(make(), None), tmp_path / "a.csv"):
        assert (row["soft_label"], row["rematched_image"], row["weight"]) == ("", "", "")


def test_the_strongest_proposal_of_each_caption(make: Make) -> None:
    rng = np.random.default_rng(0)
    triples = [(int(c), int(i), w / 4) for c, i, w in zip(*rng.integers(0, [[48], [24], [5]], (3, 90)), strict=True)]
    audit = load_audit(make(found=rematches(*triples)), None)
    for pair in range(48):
        believed = [(-weight, image) for caption, image, weight in triples if caption == pair and weight > 0]
        weight, image = min(believed, default=(0.0, -1))
        assert (audit.rematched[pair], audit.weights[pair]) == (image, -weight)
    assert (audit.rematched == -1).any()


def test_some_of_the_rows(make: Make, tmp_path: Path) -> None:
    audit = load_audit(make(), None)
    rows = cells(audit, tmp_path / "a.csv")
    assert cells(audit, tmp_path / "b.csv", 5) == rows[:5]
    assert cells(audit, tmp_path / "b.csv", 500) == rows


def test_the_truth_is_told_on_request_only(make: Make, tmp_path: Path) -> None:
    audit = load_audit(make(), None)
    assert "mismatched" not in cells(audit, tmp_path / "a.csv")[0]
    rows = cells(audit, tmp_path / "b.csv", with_truth=True)
    assert list(rows[0]) == [*COLUMNS, "mismatched", "change"]
    true = audit.dataset.splits["train"].true
    told = {int(row["pair"]): row["mismatched"] for row in rows}
    assert told == {pair: str(bool(audit.noise.claimed[pair] != true[pair])) for pair in range(48)}
    assert set(told.values()) == {"True", "False"}
    assert {(row["mismatched"], row["change"]) for row in rows} == {("True", "image"), ("False", "")}


def test_nobody_knows_the_truth(make: Make, tmp_path: Path) -> None:
    audit = load_audit(make(truth_known=False), None)
    assert len(cells(audit, tmp_path / "a.csv")) == 48
    with pytest.raises(UserError, match="tiny has no ground truth"):
        write_audit(audit, tmp_path / "b.csv", with_truth=True)
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize("beginning", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_formulas_are_defused(beginning: str, make: Make, tiny: Dataset, tmp_path: Path) -> None:
    texts = [beginning, 'a, "b" = c\nd', "x\r\n=1\ry", "<script>", *tiny.splits["train"].captions.texts[4:]]
    train = tiny.splits["train"]
    captions = Captions(texts, [[1]] * len(texts))
    splits = {**tiny.splits, "train": Split(train.images, captions, train.true)}
    audit = load_audit(make(splits=splits), None)
    write_audit(audit, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        found = {int(row["pair"]): row["caption"] for row in csv.DictReader(file)}
    expected = [text.replace("\r\n", "\n").replace("\r", "\n") for text in texts]
    assert found == {pair: f"'{text}" if pair == 0 else text for pair, text in enumerate(expected)}


def test_pictures(make: Make, tmp_path: Path) -> None:
    painted = Painted()
    audit = load_audit(make(found=rematches((0, 7, 0.5), (1, 7, 0.5)), pictures=painted), None)
    first = audit.order[:48].tolist().index(1) + 1  # so many rows that one has a proposal
    shown = write_pictures(audit, first, tmp_path / "deep/er")
    rows = cells(audit, tmp_path / "deep/a.csv", shown=shown)
    assert list(rows[0]) == [*COLUMNS, "claimed_picture", "rematched_picture"]
    for number, row in enumerate(rows):
        for kind in ("claimed", "rematched"):
            image = row[f"{kind}_image"]
            expected = f"er/image-{int(image):06d}.png" if image and number < first else ""
            assert row[f"{kind}_picture"] == expected
            if expected:
                pixels = np.asarray(Image.open(tmp_path / "deep" / expected))
                np.testing.assert_array_equal(pixels, np.full((4, 5, 3), int(image)))
    assert shown[-1].rematched == tmp_path / "deep/er/image-000007.png"
    assert len(painted.asked) == len(set(painted.asked)) == len(list((tmp_path / "deep/er").iterdir()))
    assert {split for split, _ in painted.asked} == {"train"}


def test_paths_of_pictures_are_as_seen_from_the_table(make: Make, tmp_path: Path) -> None:
    audit = load_audit(make(), None)
    shown = [Shown(tmp_path / "p/=x.png", None), Shown(tmp_path / "a/=y.png", None)]
    rows = cells(audit, tmp_path / "a/b.csv", shown=shown)
    assert [row["claimed_picture"] for row in rows[:3]] == ["../p/=x.png", "'=y.png", ""]


def test_pictures_are_not_written_over(make: Make, tmp_path: Path) -> None:
    audit = load_audit(make(pictures=Painted()), None)
    shown = write_pictures(audit, 2, tmp_path)
    assert write_pictures(audit, 2, tmp_path) == shown  # the same pictures are no conflict
    shown[1].claimed.write_bytes(b"mine")
    with pytest.raises(UserError) as caught:
        write_pictures(audit, 2, tmp_path)
    assert str(caught.value).startswith(f"{shown[1].claimed} already exists")
    assert shown[1].claimed.read_bytes() == b"mine"
    write_pictures(audit, 2, tmp_path, replace=True)
    assert shown[1].claimed.read_bytes().startswith(b"\x89PNG")


def test_no_pictures(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tiny has features, but no pictures"):
        write_pictures(load_audit(make(), None), 2, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_the_same_bytes(make: Make, tmp_path: Path) -> None:
    audit = load_audit(make(found=rematches((0, 7, 0.5)), pictures=Painted()), None)
    for name in "ab":
        write_audit(audit, tmp_path / name / "x.csv", shown=write_pictures(audit, 3, tmp_path / name))
    ours, theirs = (sorted((tmp_path / name).iterdir()) for name in "ab")
    assert [(path.name, path.read_bytes()) for path in ours] == [(path.name, path.read_bytes()) for path in theirs]
    assert len(ours) > 1


def test_a_run_is_found_from_wherever_it_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    monkeypatch.chdir(folder)
    assert load_audit(Path(), None).noise == load_audit(folder, None).noise
    (tmp_path / "link").symlink_to(folder)
    assert load_audit(tmp_path / "link", None).noise == load_audit(folder, None).noise


def test_an_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a finished run"):
        load_audit(tmp_path, None)


def test_older_records_lack_beliefs(make: Make) -> None:
    folder = make()
    (folder / "beliefs.npz").unlink()
    with pytest.raises(UserError, match=r"beliefs\.npz is missing.*run it again"):
        load_audit(folder, None)


def test_methods_without_such_beliefs(make: Make) -> None:
    folder = make(p_clean=None, labels=P_CLEAN)
    with pytest.raises(UserError, match="toy stated no probability that pairs are mismatched"):
        load_audit(folder, None)


@pytest.mark.parametrize(
    ("beliefs", "said"),
    [
        ({"p_clean": P_CLEAN[1:]}, "p_clean must be 48 numbers in [0, 1], one per training pair; restore it"),
        ({"p_clean": P_CLEAN * 2}, "p_clean must be 48 numbers in [0, 1], one per training pair; restore it"),
        ({"labels": P_CLEAN * 2}, "soft_labels must be 48 numbers in [0, 1], one per training pair; restore it"),
        ({"told": [48]}, "has pairs or images beyond the 48 and 24 of the training set; restore it"),
        ({"found": rematches((48, 0, 0.5))}, "has pairs or images beyond the 48 and 24 of the training set; rest"),
        ({"found": rematches((0, 24, 0.5))}, "has pairs or images beyond the 48 and 24 of the training set; rest"),
    ],
)
def test_beliefs_of_something_else(beliefs: dict[str, Any], said: str, make: Make) -> None:
    folder = make(**beliefs)
    with pytest.raises(UserError) as caught:
        load_audit(folder, None)
    assert str(caught.value).startswith(f"{folder / 'beliefs.npz'}: {said}")


def test_noise_that_was_exchanged_or_lost(make: Make, tmp_path: Path) -> None:
    folder = make()
    (kept,) = (tmp_path / "runs/tiny/noise").glob("*.npy")
    sidecar, claimed = kept.with_suffix(".json"), np.load(kept)
    good, text = kept.read_bytes(), sidecar.read_text()
    digest = load_audit(folder, None).noise.digest
    np.save(kept, claimed[::-1].copy())
    with pytest.raises(UserError, match="has digest"):
        load_audit(folder, None)
    other = noise_digest(claimed[::-1])
    sidecar.write_text(text.replace(digest, other))
    with pytest.raises(UserError, match=f"has digest {other[:12]}, but the run used {digest[:12]}"):
        load_audit(folder, None)
    kept.write_bytes(good)
    sidecar.unlink()
    with pytest.raises(UserError, match="cannot read"):
        load_audit(folder, None)


@pytest.mark.parametrize(
    "change", [lambda claimed: claimed[:-1], lambda claimed: claimed + 1, lambda claimed: claimed - 1]
)
def test_noise_that_is_not_of_these_pairs(change: Callable[[np.ndarray], np.ndarray], make: Make) -> None:
    folder = make()
    records, spec = folder.parents[2], Record(folder).spec
    claimed = change(load_noise(noise_path(records, spec)).claimed)
    digest = noise_digest(claimed)
    write_json(folder / "spec.json", {**spec.to_dict(), "noise_digest": digest})
    noise = Noise(spec.protocol, "1", "captions", 0.4, 0, claimed, digest)
    save_noise(noise, Record(folder).noise_path)
    with pytest.raises(UserError, match="does not fit the training pairs of tiny"):
        load_audit(folder, None)
