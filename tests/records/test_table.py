"""Run records as one tidy table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ncbench
from ncbench import UserError
from ncbench.method.registry import load_method, settings_of
from ncbench.records.table import load_runs, with_recorded_ratios

Record = Callable[..., Path]


def test_the_ratio_of_natural_noise_is_not_a_number(record: Record, tmp_path: Path) -> None:
    record(noise=0.2)
    record(noise=0.0, protocol="natural", unit="natural")
    assert sorted(ncbench.load_runs(tmp_path)["noise"].fillna(-1)) == [-1, 0.2]
    assert sorted(with_recorded_ratios(load_runs(tmp_path))["noise"]) == [0.0, 0.2]


def test_every_column_of_a_run(record: Record, tmp_path: Path) -> None:
    folder = record(
        1.0, 2.0, 3.0, 4.0, 5.0, 6.0,
        seed=7, used=0.25, peaks={"host": 100, "device": 300},
        beliefs={
            "detection": {"auc": 0.9},
            "soft_labels": {"auc": 0.7, "closeness_correlation": 0.1},
            "rematches": {"closer": 0.6, "chance": 0.4},
        },
    )  # fmt: skip
    (row,) = load_runs(tmp_path).to_dict(orient="records")
    expected = {
        "id": folder.name,
        "dataset": "toy",
        "protocol": "shuffle-images",
        "unit": "images",
        "noise": 0.4,
        "method": "triplet",
        "backbone": "sgr",
        "budget": 4.0,
        "seed": 7,
        "i2t_r1": 1.0,
        "i2t_r5": 2.0,
        "i2t_r10": 3.0,
        "i2t_medr": 3.0,
        "i2t_meanr": 4.5,
        "t2i_r1": 4.0,
        "t2i_r5": 5.0,
        "t2i_r10": 6.0,
        "t2i_medr": 3.0,
        "t2i_meanr": 4.5,
        "rsum": 21.0,
        "dev_rsum": 22.0,
        "used": 1.0,  # a quarter of four epochs
        "flops": 250,
        "updates": 12,
        "seconds": 30.0,
        "peak_bytes": 300,
        "auc": 0.9,
        "label_auc": 0.7,
        "rematched_closer": 0.6,
        "rematched_chance": 0.4,
        "variant": "triplet",
        "sees_truth": False,
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [({"host": 5, "device": None}, 5), ({"host": 5, "device": 3}, 5), ({"host": None, "device": None}, None)],
)
def test_peak_is_the_largest_known(peaks: dict[str, Any], expected: int | None, record: Record, tmp_path: Path) -> None:
    record(peaks=peaks)
    assert load_runs(tmp_path)["peak_bytes"].tolist() == [expected]


def test_what_is_not_known_is_missing(record: Record, tmp_path: Path) -> None:
    record(seconds=None)
    record(seed=1, beliefs={"detection": None})
    frame = load_runs(tmp_path).set_index("seed")
    assert frame["seconds"].isna().to_dict() == {0: True, 1: False}
    assert frame["peak_bytes"].isna().to_dict() == {0: True, 1: False}
    assert frame["auc"].isna().all()
    assert frame[["label_auc", "rematched_closer", "rematched_chance"]].isna().all(axis=None)


def test_a_row_per_run_in_the_order_of_paths(record: Record, tmp_path: Path) -> None:
    folders = [
        record(seed=seed, method=method, dataset=dataset) for seed in (1, 0) for method in "ba" for dataset in "yx"
    ]
    frame = load_runs(tmp_path)
    assert frame["id"].tolist() == [folder.name for folder in sorted(folders)]
    assert frame["dataset"].tolist() == list("xxxxyyyy")
    assert frame["method"].tolist() == list("aabb" * 2)


def test_unfinished_runs_are_left_out(record: Record, tmp_path: Path) -> None:
    record()
    (record(seed=1) / "result.json").unlink()
    assert load_runs(tmp_path)["seed"].tolist() == [0]


def test_a_folder_may_be_text(record: Record, tmp_path: Path) -> None:
    record()
    assert ncbench.load_runs(str(tmp_path)).equals(load_runs(tmp_path))
    assert ncbench.load_runs is load_runs


def test_sizes_and_scores_without_folds(record: Record, tmp_path: Path) -> None:
    path = record(sizes={"word": 4, "embed": 16}) / "result.json"
    record(seed=1)
    content = json.loads(path.read_text())
    content["metrics"]["test_unfolded"] = {**content["metrics"]["test"], "rsum": 7.5}
    path.write_text(json.dumps(content))
    frame = load_runs(tmp_path).set_index("seed")
    assert frame["sizes"].to_dict() == {0: "embed=16, word=4", 1: "embed=16"}
    assert frame["rsum_unfolded"][0] == 7.5
    assert frame["rsum_unfolded"].isna().to_dict() == {0: False, 1: True}


@pytest.mark.parametrize("folder", ["", "missing"])
def test_nothing_to_load(folder: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_runs(tmp_path / folder)
    hint = f"make one with: ncbench run --method triplet --out {tmp_path / folder}"
    assert str(caught.value) == f"{tmp_path / folder} has no finished run; {hint}"


@pytest.mark.parametrize("lost", ["metrics", "spec", "work", "selected", "beliefs", "id"])
def test_a_record_that_lacks_something_is_the_users_error(lost: str, record: Record, tmp_path: Path) -> None:
    path = record() / "result.json"
    content = json.loads(path.read_text())
    del content[lost]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=lost) as caught:
        load_runs(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_versions_of_the_harness_are_conditions_where_a_dataset_has_several(record: Record, tmp_path: Path) -> None:
    earlier = record(seed=0)
    record(seed=0, noise=0.6)
    record(dataset="other", seed=0)
    assert load_runs(tmp_path)["conditions"].tolist() == ["", "", ""]
    record(seed=1, harness=2, precision="bf16")
    frame = load_runs(tmp_path)
    found = {
        (row["dataset"], row["noise"], row["seed"]): (row["harness"], row["conditions"])
        for row in frame.to_dict(orient="records")
    }
    assert found == {
        ("other", 0.4, 0): (1, ""),
        ("toy", 0.4, 0): (1, "harness 1, precision=float32"),
        ("toy", 0.6, 0): (1, "harness 1"),  # alone at this ratio, but beside others in an overview
        ("toy", 0.4, 1): (2, "harness 2, precision=bf16"),
    }
    assert earlier.name == frame[frame["conditions"] == "harness 1, precision=float32"]["id"].item()


def test_data_of_one_name_are_a_condition_at_every_ratio(record: Record, tmp_path: Path) -> None:
    record(noise=0.2)
    record(dataset="other")
    assert load_runs(tmp_path)["conditions"].tolist() == ["", ""]
    record(noise=0.4, dataset_digest="e" * 64)  # no run at 0.2: beside the others in an overview alone
    frame = load_runs(tmp_path)
    found = {(row["dataset"], row["noise"]): row["conditions"] for row in frame.to_dict(orient="records")}
    assert found == {("other", 0.4): "", ("toy", 0.2): "content dddddddd", ("toy", 0.4): "content eeeeeeee"}
    record(noise=0.4, dataset_digest="e" * 63 + "f", harness=2)
    told = set(load_runs(tmp_path)["conditions"]) - {""}
    assert f"harness 2, content {'e' * 63}f" in told
    assert len(told) == 3


def test_records_from_before_there_were_precisions_are_float32(record: Record, tmp_path: Path) -> None:
    old = record() / "result.json"
    content = json.loads(old.read_text())
    assert content["spec"].pop("precision") == "float32"
    old.write_text(json.dumps(content))
    record(seed=1)
    assert load_runs(tmp_path)["conditions"].tolist() == ["", ""]
    record(precision="bf16")
    frame = load_runs(tmp_path)
    told = dict(zip(frame["id"], frame["conditions"], strict=True))
    assert told[old.parent.name] == "precision=float32"
    assert sorted(told.values()) == ["precision=bf16", "precision=float32", "precision=float32"]


def test_references_are_known_and_records_of_old_have_none(record: Record, tmp_path: Path) -> None:
    record(seed=0, told_truth=None)
    record(seed=1, told_truth=False)
    record(seed=2, told_truth=True, method="oracle")
    frame = load_runs(tmp_path).set_index("seed")
    assert frame["sees_truth"].to_dict() == {0: False, 1: False, 2: True}
    assert frame["sees_truth"].dtype == bool
    assert frame["variant"].to_dict() == {0: "triplet", 1: "triplet", 2: "oracle"}


def test_told_pairs_are_known_and_records_of_old_have_none(record: Record, tmp_path: Path) -> None:
    record(seed=0)
    record(seed=1, told_clean=0)
    record(seed=2, told_clean=150, method="mscn")
    assert load_runs(tmp_path).set_index("seed")["clean_pairs_given"].to_dict() == {0: 0, 1: 0, 2: 150}


def test_variants_are_told_by_what_differs(record: Record, tmp_path: Path) -> None:
    record(settings={"lr": 0.002, "batch_size": 8})
    record(settings={"lr": 0.001, "batch_size": 8})
    record(settings={"lr": 0.002, "batch_size": 16})
    record(method="l2rm", settings={"lr": 5.0, "reg": 0.1})
    record(dataset="other", settings={"lr": 7.0, "batch_size": 8})
    frame = load_runs(tmp_path)
    assert sorted(zip(frame["dataset"], frame["variant"], strict=True)) == [
        ("other", "triplet"),  # settings of another dataset are no variant
        ("toy", "l2rm"),
        ("toy", "triplet (batch_size=16, lr=0.002)"),
        ("toy", "triplet (batch_size=8, lr=0.001)"),
        ("toy", "triplet (batch_size=8, lr=0.002)"),
    ]


def test_a_setting_that_older_records_lack_makes_a_variant(record: Record, tmp_path: Path) -> None:
    record(settings={"lr": 0.002})
    record(settings={"lr": 0.002, "clip": 1.0})
    assert sorted(load_runs(tmp_path)["variant"]) == ["triplet", "triplet (clip=1.0)"]


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "x>y", ".hidden", ""])
def test_a_dataset_whose_page_would_lie_elsewhere_is_refused(name: str, record: Record, tmp_path: Path) -> None:
    folder = record()
    content = json.loads((folder / "result.json").read_text())
    content["spec"]["dataset"] = name
    (folder / "result.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"spec\.dataset: .* is not a valid name"):
        load_runs(tmp_path)


def test_presets_keep_the_bare_name(record: Record, tmp_path: Path) -> None:
    preset = settings_of(load_method("l2rm"), "scenes")
    record(dataset="scenes", method="l2rm", settings=preset)
    for changed in ({"mass": 1.0}, {"mass": 1.0, "tau": 0.1}):
        record(dataset="scenes", method="l2rm", settings={**preset, **changed})
    assert set(load_runs(tmp_path)["variant"]) == {"l2rm", "l2rm (mass=1.0)", "l2rm (mass=1.0, tau=0.1)"}


def test_variants_name_what_is_not_in_the_preset(record: Record, tmp_path: Path) -> None:
    preset = settings_of(load_method("l2rm"), "scenes")
    for changed in ({"queue": 256}, {"mass": 1.0}, {"queue": 256, "mass": 1.0}):
        record(dataset="scenes", method="l2rm", settings={**preset, **changed})
    assert set(load_runs(tmp_path)["variant"]) == {"l2rm (queue=256)", "l2rm (mass=1.0)", "l2rm (mass=1.0, queue=256)"}


def test_runs_that_are_all_away_from_the_preset_never_get_the_bare_name(record: Record, tmp_path: Path) -> None:
    preset = settings_of(load_method("l2rm"), "scenes")
    for queue in (preset["queue"], 256):
        record(dataset="scenes", method="l2rm", settings={**preset, "lr": 1.0, "queue": queue})
    assert set(load_runs(tmp_path)["variant"]) == {"l2rm (queue=128)", "l2rm (queue=256)"}


def test_a_setting_that_some_records_lack_is_named_though_it_has_the_value_of_the_preset(
    record: Record, tmp_path: Path
) -> None:
    preset = settings_of(load_method("l2rm"), "scenes")
    changed = {**preset, "mass": 1.0}
    record(dataset="scenes", method="l2rm", settings=preset)
    record(dataset="scenes", method="l2rm", settings=changed)
    record(dataset="scenes", method="l2rm", settings={key: changed[key] for key in changed if key != "given"})
    assert set(load_runs(tmp_path)["variant"]) == {"l2rm", "l2rm (mass=1.0)", "l2rm (given=forbidden, mass=1.0)"}


def test_methods_from_files_have_no_preset_that_is_known(record: Record, tmp_path: Path) -> None:
    preset = settings_of(load_method("l2rm"), "scenes")
    for mass in (preset["mass"], 1.0):
        record(dataset="scenes", method="l2rm", settings={**preset, "mass": mass}, source="0123456789ab")
    assert set(load_runs(tmp_path)["variant"]) == {f"l2rm (mass={preset['mass']})", "l2rm (mass=1.0)"}
