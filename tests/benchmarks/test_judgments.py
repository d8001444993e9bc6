"""What runs on photos learnt, against what people said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from judgments import IMAGES, Wording, as_markdown, auc, chosen, judge, main, read_judgments, score_of
from rows import make_rows, write_folder

import ncbench
from ncbench import Rematches, UserError
from ncbench.records.arrays import BELIEFS_FILE, load_beliefs, save_beliefs

HEADER = "kind,image_id,caption_id,caption,own,scores\n"


def rows(*values: tuple[str, int, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["kind", "image", "caption", "score", "similarity"])


def test_scores_of_people_lie_in_0_to_1() -> None:
    assert score_of("crowd", "0.333333 1 2") == 0.333333
    assert [score_of("expert", text) for text in ("1 1 1", "4 4 4", "1 2 4")] == [0.0, 1.0, pytest.approx(4 / 9)]


def test_auc_counts_pairs() -> None:
    values, right = pd.Series([0.9, 0.1, 0.5, 0.5, -3.0]), pd.Series([True, False, True, False, False])
    won = sum((a > b) + (a == b) / 2 for a in values[right] for b in values[~right])
    assert auc(values, right) == pytest.approx(won / 6)
    assert np.isnan(auc(values, pd.Series([True] * 5)))


def test_choices_lie_between_blind_and_best() -> None:
    judged = [("crowd", 0, 0, 0.0), ("crowd", 1, 0, 1.0), ("crowd", 2, 1, 0.5), ("crowd", 3, 1, 0.5)]
    assert chosen(rows(*((*one, similarity) for one, similarity in zip(judged, (1, 2, 1, 2), strict=True)))) == 1.0
    assert chosen(rows(*((*one, similarity) for one, similarity in zip(judged, (2, 1, 1, 2), strict=True)))) == -1.0
    assert np.isnan(chosen(rows(*((*one, 1.0) for one in judged[2:]))))
    apart = rows(("crowd", 0, 0, 0.0, 1.0), ("expert", 0, 0, 1.0, 1.0))  # of two kinds: nothing to choose from
    assert np.isnan(chosen(apart))


def test_correlation_with_experts_counts_pairs() -> None:
    judged = rows(*(("expert", n, n, score, like) for n, (score, like) in enumerate([(0, 1), (0.5, 3), (1, 2)])))
    assert judge(judged)["expert"] == pytest.approx(1 / 3)  # two pairs agree, one does not
    assert np.isnan(judge(judged)["crowd"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "photos")
    for split, (count, seed) in {"train": (30, 0), "dev": (8, 1), "test": (10, 2)}.items():
        columns = make_rows(count, seed)
        columns["image_id"] = [f"{split}-{number}" for number in range(count)]
        pd.DataFrame(columns).to_parquet(folder / f"{split}.parquet")
    texts = pd.read_parquet(folder / "train.parquet")["captions"].map(lambda some: some[0])
    lines = [f"crowd,test-{n},c,{texts[m]},0,{(n + m) % 2} {(n + m) % 2} 3" for n in range(10) for m in range(3)]
    lines += [f"expert,dev-{n},c,{texts[n]},0,1 {1 + n % 4} {1 + n % 3}" for n in range(8)]
    lines += [f"crowd,train-{n},c,{texts[m]},0,1 3 0" for n in range(30) for m in range(30) if n != m]
    lines += ["crowd,test-0,c,mine,1,1 3 0", "crowd,elsewhere,c,theirs,0,0 0 3"]
    (folder / "human_judgments.csv").write_text(HEADER + "\n".join(lines) + "\n")
    return folder


def test_own_captions_and_other_images_are_left_out(photos: Path) -> None:
    found = read_judgments(photos)
    assert found.rows.groupby(["split", "kind"]).size().to_dict() == {
        ("dev", "expert"): 8,
        ("test", "crowd"): 30,
        ("train", "crowd"): 870,
    }
    assert not {"mine", "theirs"} & {found.texts[caption] for caption in found.rows["caption"]}


def test_a_folder_without_judgments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no judgments can be read .*; give the folder of photos"):
        read_judgments(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_runs_are_judged(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "photos.toml"
    config.write_text('source = "photos"\nimage-features = "vector"\ncaptions = "captions"\nids = "image_id"\n')
    small = {"backbone.embed": 8, "backbone.word": 8}
    data = {"dataset": str(config), "backbone": "vse", "budget": 1, "set": small}
    runs = ncbench.run(["triplet", "rce"], 0.4, out=tmp_path / "runs", **data)
    path = (
        Path(runs.set_index("method")["folder"]["rce"]) / BELIEFS_FILE
    )  # as if it had rematched captions with other images
    rematches = Rematches(np.array([0, 4]), np.array([1, 1]), np.ones(2))
    save_beliefs(path, replace(load_beliefs(path), rematches=rematches))
    for images in IMAGES:
        given = ["--runs", str(tmp_path / "runs"), "--photos", str(photos), "--images", images]
        result = CliRunner().invoke(main, [*given, "--json", str(tmp_path / "out.json")])
        assert result.exit_code == 0, result.output
    facts = {row["method"]: row for row in json.loads((tmp_path / "out.json").read_text())}
    assert "**0.4**" in result.output
    assert "Kendall's tau with rSum" in result.output
    assert facts["rce"]["judged"] == 2
    assert 0 <= facts["rce"]["by chance"] <= 1
    assert [facts["triplet"][key] for key in ("judged", "closer", "by chance")] == [None] * 3
    assert 0 < facts["rce"]["crowd"] < 1 if images == "unseen" else facts["rce"]["crowd"] is None


def test_orders_of_methods_are_compared_without_those_that_see_ground_truth() -> None:
    columns = dict.fromkeys(("closer", "by chance", "judged"), 0.5) | {"noise": 0.4}
    facts = [
        {"method": "a", "sees_truth": False, "rsum": 1.0, "expert": 0.1, "crowd": 0.3, "chosen": 0.1, **columns},
        {"method": "b", "sees_truth": False, "rsum": 2.0, "expert": 0.2, "crowd": 0.2, "chosen": 0.3, **columns},
        {"method": "c", "sees_truth": False, "rsum": 3.0, "expert": 0.3, "crowd": 0.1, "chosen": 0.2, **columns},
        {"method": "o", "sees_truth": True, "rsum": 4.0, "expert": 0.0, "crowd": 0.4, "chosen": 0.0, **columns},
    ]
    assert as_markdown(pd.DataFrame(facts)).rstrip().endswith("ground truth: expert 1.00, crowd -1.00, chosen 0.33.")


def test_wording_is_the_cosine_of_rare_words() -> None:
    close = Wording([["a dog", "the dog runs"], ["a cat"]]).of(["dog", "cat", "bird", "a cat"])
    assert close[1].tolist() == [0.0, pytest.approx(1.0), 0.0, pytest.approx(1.0)]  # one letter is no word
    assert 0.5 < close[0, 0] < 1
    assert close[0, 1] == 0.0
