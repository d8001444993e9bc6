"""Examples and the gallery: which runs and items they show, correct or not, and why there may be none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import Painted
from runs import prepare_run
from sources import Source
from toy_methods import Toy

from ncbench import Plan, Rematches, UserError
from ncbench.data.dataset import Dataset
from ncbench.evaluation.top_k import Retrieved
from ncbench.noise.drawing import draw
from ncbench.noise.storage import save_noise
from ncbench.records.arrays import load_retrieved
from ncbench.records.audit import load_audit
from ncbench.records.record import noise_path
from ncbench.records.store import Store
from ncbench.records.table import load_runs
from ncbench.report import write_report
from ncbench.report.figures import examples
from ncbench.report.figures.examples import (
    best_rematching,
    best_retrieving,
    draw_rematched,
    draw_retrieved,
    middle_tables,
)
from ncbench.report.figures.gallery import file_names
from ncbench.report.tables.comparisons import comparisons
from ncbench.report.tables.leaderboard import leaderboards

Record = Callable[..., Path]


class Believer(Toy):
    """Believes that every other pair is mismatched, and rematches all of these to the image of their number."""

    name = "believer"

    def pair_scores(self) -> np.ndarray:
        return np.arange(len(self.task.data)) % 2 * 0.9

    def rematches(self) -> Rematches:
        captions = np.arange(0, len(self.task.data), 2)
        return Rematches(captions, captions // 2, np.ones(len(captions)))

    def transport_plan(self) -> Plan:
        return Plan(np.arange(4), np.arange(6), np.ones((6, 4)))


@pytest.fixture
def execute(
    make_dataset: Callable[..., Dataset], register: Callable[..., None], tmp_path: Path
) -> Callable[..., tuple[Path, Dataset]]:
    """Return a function that records a run on the tiny dataset with pictures and returns its folder and the dataset."""

    def executed(kind: type[Toy] = Believer, **words: Any) -> tuple[Path, Dataset]:
        dataset = make_dataset(**{"pictures": Painted(), **words})
        register("ncbench.datasets", "tiny", Source(dataset))
        store, spec = Store(tmp_path / "runs"), prepare_run(dataset, tmp_path / "unused", kind).spec
        run = prepare_run(dataset, store.start(spec), kind, budget=2.0)
        save_noise(run.noise, noise_path(store.root, spec))
        run.execute()
        return run.folder, dataset

    return executed


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that are saved from now on."""
    seen: list[Any] = []
    monkeypatch.setattr(examples, "save", lambda figure, *_: seen.append(figure) or [])
    return seen


def look(panel: Any) -> tuple[int, str, bool]:
    """Return the image that a panel shows, what is written below it, and whether its frame is thick."""
    (image,) = panel.get_images()
    return int(image.get_array()[0, 0, 0]), panel.get_xlabel(), panel.spines["top"].get_linewidth() > 2


def test_what_was_retrieved(execute: Callable[..., tuple[Path, Dataset]], figures: list[Any], tmp_path: Path) -> None:
    folder, dataset = execute()
    found, test = load_retrieved(folder / "retrieved.npz"), dataset.splits["test"]
    draw_retrieved(found, dataset, "a run", tmp_path / "x")
    panels = figures[0].axes
    for row in range(examples.CAPTION_QUERIES):
        text, *pictures = panels[6 * row : 6 * row + 6]
        said = text.texts[0].get_text().replace("\n", " ")
        caption = test.captions.texts.index(said)
        for panel, image in zip(pictures, found.t2i[caption], strict=True):
            right = int(image) == test.true[caption]
            assert look(panel) == (image, "✓" if right else "✗", right)
    for picture, texts in zip(panels[24::2], panels[25::2], strict=True):
        image = look(picture)[0]
        assert look(picture)[1:] == ("", False)
        for text, caption in zip(texts.texts, found.i2t[image], strict=True):
            right = bool(test.true[caption] == image)
            assert text.get_text() == f"{'✓' if right else '✗'} {test.captions.texts[caption]}"
            assert (text.get_color() == examples.MATCH_COLOUR) == right
    assert len(panels) == 24 + 2 * examples.IMAGE_QUERIES
    with pytest.raises(ValueError, match="not of the test split of tiny"):
        draw_retrieved(Retrieved(found.i2t[:3], found.t2i, found.true % 3), dataset, "a run", tmp_path / "x")


def test_what_was_rematched(execute: Callable[..., tuple[Path, Dataset]], figures: list[Any], tmp_path: Path) -> None:
    folder, dataset = execute()
    audit, train = load_audit(folder, None), dataset.splits["train"]
    draw_rematched(audit, "a run", tmp_path / "x")
    panels = figures[0].axes
    assert len(panels) == 3 * examples.REMATCHED_PAIRS
    assert dataset.semantics is not None
    labels = set()
    for text, claimed, rematched in zip(panels[::3], panels[1::3], panels[2::3], strict=True):
        image, words, framed = look(rematched)
        said = text.texts[0].get_text().replace("\n", " ")
        pairs = [pair for pair in np.flatnonzero(audit.rematched == image) if train.captions.texts[pair] == said]
        (pair,) = pairs  # the method rematches one caption to an image
        was = int(audit.noise.claimed[pair])
        clean = was == train.true[pair]
        assert look(claimed) == (was, f"claimed {'✓' if clean else '✗'}", clean)
        right = image == train.true[pair]
        closeness = dataset.semantics.closeness("train", np.array([pair, pair]), np.array([image, was]))
        side = "" if right else ", closer" if closeness[0] > closeness[1] else ", less close"
        if not right and closeness[0] == closeness[1]:
            side = ", as close"
        assert (words, framed) == (f"rematched {'✓' if right else '✗'}{side}", right)
        labels.add(words)
    assert labels


def test_captions_with_changed_words_have_no_known_meaning(
    execute: Callable[..., tuple[Path, Dataset]], figures: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, dataset = execute()
    audit = replace(load_audit(folder, None), noise=draw(dataset, "harvested", 0.6, 0))
    monkeypatch.setattr(examples, "REMATCHED_PAIRS", 40)
    draw_rematched(audit, "a run", tmp_path / "x")
    texts, changes = np.array(audit.captions.texts), audit.changes()
    noted = set()
    for text, rematched in zip(figures[0].axes[::3], figures[0].axes[2::3], strict=True):
        image, words, right = look(rematched)
        said = text.texts[0].get_text().replace("\n", " ")
        pairs = np.flatnonzero((audit.rematched == image) & (texts == said))
        kinds = {str(change) for change in changes[pairs]}
        if not right and len(kinds) == 1:
            noted |= {(change, "close" in words) for change in kinds}
    assert noted == {("", True), ("image", True), ("words", False), ("shortened", False), ("unknown", False)}


def test_nothing_to_draw(execute: Callable[..., tuple[Path, Dataset]], tmp_path: Path) -> None:
    folder, dataset = execute(pictures=None)
    with pytest.raises(ValueError, match="tiny has no pictures"):
        draw_retrieved(load_retrieved(folder / "retrieved.npz"), dataset, "a run", tmp_path / "x")


def test_a_whole_report_with_examples(execute: Callable[..., tuple[Path, Dataset]], tmp_path: Path) -> None:
    execute()
    frame = load_runs(tmp_path / "runs")
    stem = "shuffle-captions-0.4-unit-captions-vse-budget-2"
    written = [write_report(leaderboards(frame), tmp_path / name, warn=pytest.fail) for name in "ab"]
    kinds = ("rsum", f"beliefs-{stem}", "transport-plans", f"retrieved-{stem}", f"rematched-{stem}")
    assert [path.name for path in written[0]] == [
        "README.md",
        "runs.csv",
        *(f"{kind}.{end}" for kind in kinds for end in ("svg", "png")),
    ]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    page = (tmp_path / "a" / "tiny" / "README.md").read_text()
    assert page.index("## tiny: shuffle-captions") < page.index("## Which training pairs") < page.index("## Examples")
    for kind in kinds:
        assert f"(<figures/{kind}.svg>)" in page


def test_a_report_without_the_data(
    execute: Callable[..., tuple[Path, Dataset]],
    register: Callable[..., None],
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    execute()
    boards = leaderboards(load_runs(tmp_path / "runs"))
    register("ncbench.datasets", "tiny", Source(make_dataset(pictures=Painted(), digest="e" * 64)))
    said: list[str] = []
    written = write_report(boards, tmp_path / "other", warn=said.append)
    assert not any("retrieved" in path.name for path in written)
    kinds = [text.partition(" examples for tiny: shuffle-captions 0.4 ")[0] for text in said]
    assert kinds == ["no retrieved", "no rematched"]
    assert all("found version 1" in text for text in said)
    source = Source(make_dataset(pictures=Painted()))
    source.needs_root = True
    register("ncbench.datasets", "tiny", source)
    for root, count in ((None, 0), (tmp_path, 4)):
        written = write_report(boards, tmp_path / "rooted", data_root=root, warn=pytest.fail)
        assert sum("retrieved" in path.name or "rematched" in path.name for path in written) == count
    register("ncbench.datasets", "tiny", Source(make_dataset()))  # no pictures
    written = write_report(boards, tmp_path / "bare", warn=pytest.fail)
    assert not any("retrieved" in path.name for path in written)


def test_the_middle_ratio_of_every_protocol(record: Record, tmp_path: Path) -> None:
    record(noise=0.0, protocol="clean", unit="clean")
    for noise in (0.2, 0.4, 0.6, 0.8):
        record(noise=noise)
    for noise in (0.1, 0.3, 0.5):
        record(noise=noise, protocol="shuffle-captions", unit="captions")
    found = middle_tables(comparisons(load_runs(tmp_path)))
    assert sorted(table.noise for table in found) == ["shuffle-captions 0.3", "shuffle-images 0.4"]


def test_the_best_contestant_with_the_lowest_seed(record: Record, tmp_path: Path) -> None:
    def put(folder: Path) -> None:
        (folder / "retrieved.npz").touch()

    put(record(9.0, 9.0, 9.0, 9.0, 9.0, 9.0, method="l2rm"))
    record(10.0, 10.0, 10.0, 10.0, 10.0, 10.0, method="rcl", seed=0)  # an older record
    for seed in (2, 1):
        put(record(10.0, 10.0, 10.0, 10.0, 10.0, 10.0, method="rcl", seed=seed))
    put(record(50.0, 50.0, 50.0, 50.0, 50.0, 50.0, method="oracle", told_truth=True))
    record(20.0, 20.0, 20.0, 20.0, 20.0, 20.0, method="rce")  # an older record
    (table,) = comparisons(load_runs(tmp_path))
    found = best_retrieving(table)
    assert found is not None
    assert (found.title, "rcl" in found.folder.parts) == ("rcl, shuffle-images 0.4", True)
    assert '"seed": 1' in (found.folder / "spec.json").read_text()
    assert best_rematching(table) is None


def test_damaged_beliefs(record: Record, tmp_path: Path) -> None:
    (record() / "beliefs.npz").touch()
    (table,) = comparisons(load_runs(tmp_path))
    with pytest.raises(UserError, match="cannot be read as beliefs"):
        best_rematching(table)


def test_names_of_files(record: Record, tmp_path: Path) -> None:
    record(protocol="file:../../x y.npy")
    record(protocol="file:..//..x y.npy")
    names = list(file_names(comparisons(load_runs(tmp_path))).values())
    assert names == [
        "file-..-..-x-y.npy-0.4-unit-images-sgr-budget-4",
        "file-..-..x-y.npy-0.4-unit-images-sgr-budget-4",
    ]
    assert not any("/" in name for name in names)
    for protocol in ("file:a b", "file:a:b", "file:a b c"):
        record(protocol=protocol, noise=0.3)
    names = [name for name in file_names(comparisons(load_runs(tmp_path))).values() if "0.3" in name]
    end = "0.3-unit-images-sgr-budget-4"
    assert sorted(names) == [f"file-a-b-{end}", f"file-a-b-{end}--2", f"file-a-b-c-{end}"]
