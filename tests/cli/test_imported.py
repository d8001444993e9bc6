"""The command line on imported datasets."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result
from PIL import Image
from rows import make_rows, write_folder, write_parquet

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = ("--image-features", "regions", "--captions", "captions")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def train(toys: None, cli: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Return a function that calls `ncbench run` on a dataset with further arguments and records in tmp_path."""

    def call(*words: object) -> Result:
        common = ("--method", "quick", "--noise", "0.4", "--budget", 0.3, "--device", "cpu", "--jobs", 1)
        return cli("run", *common, "--out", tmp_path / "runs", *words)

    return call


def test_a_data_set_is_named_by_its_source_then_by_its_name(
    train: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "mine")
    result = train("--dataset", f"hf:{folder}", *COLUMNS, "--backbone", "vse", "--json")
    assert result.exit_code == 0, result.output
    (first,) = json.loads(result.stdout)
    spec = first["result"]["spec"]
    assert (spec["dataset"], spec["sizes"]["embed"]) == ("mine", 128)
    result = train("--dataset", "mine", "--backbone", "vse", "--json")
    assert [one["status"] for one in json.loads(result.stdout)] == ["kept"]
    assert f"converted from {folder}" in "".join(cli("data", "list").stdout.split("\n"))
    rows = json.loads(cli("data", "list", "--json").stdout)
    assert {"name": "mine", "summary": f"converted from {folder}", "needs_root": False} in rows
    scored = cli("eval", "--checkpoint", first["folder"], "--dataset", f"hf:{folder}", *COLUMNS, "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["rsum"] == pytest.approx(first["result"]["metrics"]["test"]["rsum"])


def test_a_configuration_file_with_vectors(train: Callable[..., Result], tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    words = 'source = "data"\nimage-features = "vector"\ncaptions = "captions"\ntext-features = "said"\n'
    config = tmp_path / "clip.toml"
    config.write_text(words)
    result = train("--dataset", config, "--backbone", "vse,vse-infinity", "--json")
    assert result.exit_code == 0, result.output
    assert [one["result"]["spec"]["dataset"] for one in json.loads(result.stdout)] == ["clip", "clip"]
    refused = train("--dataset", config, "--backbone", "sgr")
    assert refused.exit_code == 2
    assert "sgr reads words, but the captions of clip are vectors; use vse, vse-infinity" in refused.stderr
    config.write_text(words + "truth-known = false\n")
    refused = train("--dataset", config, "--backbone", "vse")
    assert "clip is noisy by nature" in refused.stderr


def test_reports_show_pictures(train: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 30, "dev": 8, "test": 10}.items()):
        columns: dict[str, list[Any]] = make_rows(count, seed)
        Image.new("RGB", (12, 9), (seed * 90, 20, 30)).save(folder / f"{split}.png")
        columns["image"] = [{"bytes": None, "path": f"{split}.png"}] * count
        write_parquet(folder / f"{split}.parquet", columns, image=PICTURE)
    assert train("--dataset", f"hf:{folder}", *COLUMNS, "--backbone", "vse").exit_code == 0
    result = cli("report", "--runs", tmp_path / "runs", "--out", tmp_path / "boards")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "boards").rglob("retrieved-*.svg"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "hf:{}"), "set the column of the image features: --image-features COL, or hf:"),
        (("--dataset", "hf:{}", "--image-features", "regions"), "&captions=COL."),
        (("--dataset", "hf:{}", *COLUMNS[:3], "capt"), "has no column 'capt'; found id (string)"),
        (("--dataset", "hf:{}/none", *COLUMNS), "/none: no such file or folder"),
        (("--dataset", "scenes", *COLUMNS), "--image-features, --captions needs --dataset hf:NAME_OR_PATH"),
        (("--dataset", "none.toml"), "none.toml: cannot be read (No such file or directory)"),
    ],
)
def test_bad_input(train: Callable[..., Result], tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    folder = write_folder(tmp_path / "mine")
    result = train(*(word.format(folder) for word in words))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_audit_names_rows_of_the_source(
    train: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "mine")
    config = tmp_path / "mine.toml"
    config.write_text('source = "mine"\nimage-features = "regions"\ncaptions = "captions"\nids = "id"\n')
    words = ("--dataset", config, "--backbone", "vse", "--method", "l2rm")
    result = train(*words, "--budget", 4, "--set", "l2rm.batch_size=8", "--json")
    (run,) = json.loads(result.stdout)
    audited = cli("audit", run["folder"], "--out", tmp_path / "audit.csv")
    assert audited.exit_code == 0, audited.output
    with (tmp_path / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    source = make_rows(30, 0)
    for row in rows:
        number = int(row["source_row"])
        assert (row["source_file"], row["id"]) == (str(folder / "train.parquet"), source["id"][number])
        assert row["caption"] in source["captions"][number]


def test_two_data_sets_of_one_name_are_told_apart_everywhere(
    train: Callable[..., Result], cli: Callable[..., Result], tmp_path: Path
) -> None:
    for number, place in enumerate("AB"):
        folder = write_folder(tmp_path / place / "mine")
        write_parquet(folder / "test.parquet", make_rows(10, 9 + number))
        noise = ("--noise", "0.2,0.4") if number else ()
        result = train("--dataset", f"hf:{folder}", *COLUMNS, "--backbone", "vse", *noise)
        assert result.exit_code == 0, result.output
    runs = ("--runs", tmp_path / "runs")
    listed = json.loads(cli("runs", *runs, "--json").stdout)
    digests = sorted({row["dataset_digest"] for row in listed})
    labels = [f"mine@{digest[:8]}" for digest in digests]
    assert len(digests) == 2
    assert len({row["conditions"] for row in listed}) == 2

    assert all(label in cli("runs", *runs).stdout for label in labels)
    assert all(label in cli("data", "list").stdout for label in labels)
    for row in listed:
        assert f"data: mine, version 1, content {row['dataset_digest'][:12]}" in cli("show", row["folder"]).stdout
    again = cli("replay", listed[0]["folder"])
    assert "identical: all scores" in again.stdout, again.output
    assert cli("verify", tmp_path / "runs").exit_code == 0
    submitted = ("--name", "two", "--contact", "me", "--about", "x", "--out", tmp_path)
    assert cli("submit", tmp_path / "runs", *submitted).exit_code == 0
    told = cli("verify", tmp_path / "two.json").stdout
    assert f"dataset: {labels[0]}, {labels[1]}" in told
    assert "missing runs: none" in told

    report = cli("report", *runs, "--out", tmp_path / "lb", "--html")
    assert report.exit_code == 0, report.output
    assert "no examples" not in report.stderr
    page, html = ((tmp_path / "lb" / name).read_text() for name in ("mine/README.md", "index.html"))
    titles = [line for line in page.split("\n") if line.startswith("## ") and "mine: shuffle" in line]
    assert len(titles) == 3
    assert all(title.partition("content ")[2] in {digest[:8] for digest in digests} for title in titles)
    assert all(f"--dataset {label} " in html for label in labels)


def test_a_sweep_over_two_data_sets_of_one_name_says_which_is_which(
    train: Callable[..., Result], tmp_path: Path
) -> None:
    names = []
    for number, place in enumerate("AB"):
        folder = write_folder(tmp_path / place / "mine")
        write_parquet(folder / "test.parquet", make_rows(10, 9 + number))
        names.append(f"hf:{folder}")
    result = train("--dataset", ",".join(names), *COLUMNS, "--backbone", "vse", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("quick (mine@") == 2
