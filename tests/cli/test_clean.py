"""`ncbench clean`, as a user runs it: the kept list holds the right rows of the right file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from planted import planted_vectors, write_pictures, write_shard

from ncbench.cli import main

CHEAP = ("--scorers", "linear,neighbours")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["clean", *map(str, words)])


def cleaned(*words: object) -> Result:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def refused(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) <= 2
    return result.stderr


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def all_rows(stem: str = "kept", suffix: str = ".csv") -> list[dict[str, str]]:
    return [row for name in ("", ".review", ".dropped") for row in rows_of(f"{stem}{name}{suffix}")]


def save_vectors(path: str = "vectors.npz", **more: Any) -> np.ndarray:
    found = planted_vectors(300)
    np.savez(path, image_vectors=found.images, text_vectors=found.texts, **more)
    return found.wrong


def test_a_folder_of_pictures_with_a_table() -> None:
    wrong = write_pictures(Path("shop"), 160)
    before = {path: path.read_bytes() for path in Path("shop").iterdir()}
    given = rows_of("shop/pairs.csv")
    result = cleaned("shop", "--out", "kept.csv", *CHEAP, "--drop", "threshold", "--drop-from", 0.5)
    assert "160 rows; captions: caption, images: file, ids: key" in result.stderr
    found = all_rows()
    assert sorted(int(row["source_row"]) for row in found) == list(range(160))
    for row in found:
        source = given[int(row["source_row"])]
        assert {name: row[name] for name in source} == source
        assert row["source_file"] == "shop/pairs.csv"
    dropped = [int(row["source_row"]) for row in rows_of("kept.dropped.csv")]
    kept = [int(row["source_row"]) for row in rows_of("kept.csv")]
    assert wrong[dropped].mean() > 0.8
    assert wrong[kept].mean() < 0.1 < wrong.mean()
    assert {path: path.read_bytes() for path in Path("shop").iterdir()} == before


def test_an_npz_of_vectors() -> None:
    wrong = save_vectors(id=np.array([f"p{n}" for n in range(300)]))
    cleaned("vectors.npz", "--out", "kept.csv", "--scorers", "cosine")
    assert [int(row["source_row"]) for row in rows_of("kept.csv")] == sorted(
        int(row["source_row"]) for row in rows_of("kept.csv")
    )
    assert all(row["id"] == f"p{row['source_row']}" for row in all_rows())
    dropped = [int(row["source_row"]) for row in rows_of("kept.dropped.csv")]
    assert wrong[dropped].mean() > 0.95
    assert wrong[[int(row["source_row"]) for row in rows_of("kept.csv")]].mean() < 0.05


def test_parquet_keeps_columns_and_types_and_splits_lists_of_captions() -> None:
    found = planted_vectors(200)
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "image_features": pa.array(found.images.tolist(), pa.list_(pa.float32())),
            "text_features": pa.array(
                [[a, b] for a, b in zip(found.texts.tolist(), found.texts.tolist(), strict=True)]
            ),
            "captions": pa.array([[f"a {n}", f"b {n}"] for n in range(200)]),
            "price": pa.array(rng.integers(100, size=200), pa.int16()),
        }
    )
    for number, name in enumerate(("train.parquet", "test.parquet")):
        Path("shop").mkdir(exist_ok=True)
        pq.write_table(table.slice(100 * number, 100), f"shop/{name}")
    cleaned("shop", "--out", "kept.parquet", "--scorers", "cosine", "--drop", "share", "--share", 0.3)
    kept, dropped = pq.read_table("kept.parquet"), pq.read_table("kept.dropped.parquet")
    assert [kept.schema.field(name) for name in table.schema.names] == list(table.schema)
    seen = []
    for row in (*kept.to_pylist(), *dropped.to_pylist()):
        number = row["source_row"] + (100 if row["source_file"].endswith("test.parquet") else 0)
        assert row["price"] == table["price"][number].as_py()
        assert len(row["captions"]) == len(row["p_mismatched"]) == len(row["text_features"]) == len(row["score_cosine"])
        seen += row["captions"]
    assert sorted(seen) == sorted(caption for each in table["captions"].to_pylist() for caption in each)
    said = [caption for row in dropped.to_pylist() for caption in row["captions"]]
    assert len(said) == 120
    assert found.wrong[[int(caption[2:]) for caption in said]].mean() > 0.9


def test_parquet_has_row_groups_of_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    save_vectors()
    words = ("vectors.npz", "--out", "kept.parquet", "--scorers", "cosine", "--drop", "share", "--share", 0)
    cleaned(*words)
    whole = pq.read_table("kept.parquet")
    assert whole["source_row"].to_pylist() == list(range(300))
    assert pq.read_metadata("kept.parquet").num_row_groups == 1  # read in batches of 128
    monkeypatch.setattr("ncbench.cleaning.lists.ROW_GROUP_BYTES", 40_000)
    cleaned(*words, "--force")
    assert pq.read_metadata("kept.parquet").num_row_groups == 2
    assert pq.read_table("kept.parquet").equals(whole)


def test_json_lines() -> None:
    write_pictures(Path("shop"), 80)
    given = [
        {"file": row["file"], "caption": row["caption"], "n": n, "tags": ["x"]}
        for n, row in enumerate(rows_of("shop/pairs.csv"))
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    cleaned("pairs.jsonl", "--pictures", "shop", "--out", "kept.jsonl", *CHEAP)
    found = [
        json.loads(line)
        for name in ("", ".review", ".dropped")
        for line in Path(f"kept{name}.jsonl").read_text().splitlines()
    ]
    assert sorted(row["n"] for row in found) == list(range(80))
    assert all({name: row[name] for name in given[0]} == given[row["source_row"]] for row in found)


def test_a_caption_file_without_a_header_and_with_numbers() -> None:
    write_pictures(Path("shop"), 80)
    rows = rows_of("shop/pairs.csv")
    Path("shop/pairs.csv").unlink()
    Path("captions.token").write_text("".join(f'{row["file"]}#0\t"{row["caption"]}\n' for row in rows))
    cleaned("shop", "--captions-file", "captions.token", "--out", "kept.tsv", *CHEAP)
    with Path("kept.tsv").open() as file:
        row = next(csv.DictReader(file, delimiter="\t"))
    assert row["image"] == rows[int(row["source_row"])]["file"] + "#0"


def test_sub_folders_are_captions() -> None:
    write_pictures(Path("flat"), 80)
    for number, row in enumerate(rows_of("flat/pairs.csv")):
        place = Path("classes", row["caption"].split()[0])
        place.mkdir(parents=True, exist_ok=True)
        Path("flat", row["file"]).rename(place / f"{number}.jpg")
    cleaned("classes", "--out", "kept.csv", *CHEAP)
    row = rows_of("kept.csv")[0]
    assert row["image"].split("/")[0] == row["caption"]


def test_webdataset() -> None:
    write_pictures(Path("flat"), 80)
    write_shard(Path("shard-000.tar"), Path("flat"), rows_of("flat/pairs.csv"))
    result = cleaned("shard-000.tar", "--out", "kept.parquet", *CHEAP)
    assert "captions: txt, images: jpg, ids: __key__" in result.stderr
    row = pq.read_table("kept.parquet").to_pylist()[0]
    assert row["__key__"] == f"k{row['source_row']}"
    assert row["jpg"]["bytes"][:2] == b"\xff\xd8"


def test_the_gallery_is_closed_bounded_and_escaped() -> None:
    write_pictures(Path("shop"), 80)
    text = Path("shop/pairs.csv").read_text().replace("red top", "<script>alert(1)</script> red top")
    Path("shop/pairs.csv").write_text(text)
    cleaned("shop", "--out", "kept.csv", *CHEAP)
    page = Path("kept.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/jpeg") >= 72
    assert len(page) < 2_000_000
    for title in ("Most likely mismatched", "Most doubtful", "Random pairs"):
        assert title in page


def test_the_summary() -> None:
    save_vectors()
    result = cleaned("vectors.npz", "--out", "kept.csv", "--scorers", "cosine,linear", "--json")
    summary = json.loads(result.stdout)
    assert summary == json.loads(Path("kept.json").read_text())
    assert summary["ratio"]["low"] <= 0.3 <= summary["ratio"]["high"]
    assert sum(summary["histogram"]["counts"]) == summary["pairs"] == sum(summary["counts"].values()) == 300
    assert summary["agreement"][0]["scorers"] == ["cosine", "linear"]
    assert summary["agreement"][0]["same_verdict"] > 0.9


def test_methods_of_the_suite_are_told_apart() -> None:
    save_vectors()
    result = cleaned("vectors.npz", "--out", "kept.csv", "--scorers", "cosine,l2rm", "--epochs", 1)
    assert "cosine and l2rm agree on" in result.stdout
    assert sorted(int(row["source_row"]) for row in all_rows()) == list(range(300))
    assert "score_l2rm" in all_rows()[0]


def test_nothing_is_overwritten() -> None:
    save_vectors()
    Path("kept.review.csv").write_text("mine")
    assert "kept.review.csv already exists" in refused("vectors.npz", "--out", "kept.csv")
    assert not Path("kept.csv").exists()
    cleaned("vectors.npz", "--out", "kept.csv", "--scorers", "cosine", "--force")
    assert Path("kept.review.csv").read_text() != "mine"


def test_the_input_is_not_overwritten_even_by_force() -> None:
    write_pictures(Path("shop"), 60)
    before = Path("shop/pairs.csv").read_bytes()
    assert "would overwrite shop/pairs.csv" in refused("shop", "--out", "shop/pairs.csv", "--force", *CHEAP)
    assert Path("shop/pairs.csv").read_bytes() == before


def table(*rows: str) -> None:
    Path("pairs.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["file,a,b", "1.jpg,x,y"], "pairs.csv: cannot tell which column holds the captions; name it with --captions"),
        (["caption,other", "x,y"], "no column holds pictures or the names of picture files; name it with --images"),
        (["file,caption", "1.jpg,a,dog"], "pairs.csv:2: found 3 columns, expected 2 (file, caption); quote cells"),
        (["file,caption", "1.jpg,a dog"], "pairs.csv, row 0: '1.jpg' cannot be read in"),
        (["file,caption", "1.jpg,a dog"], "with --skip-bad, or name the folder of the pictures with --pictures DIR."),
        (["file,caption", '1.jpg,"a dog'], "unexpected end of data"),
        (["file,file", "1.jpg,a dog"], "names of columns are empty or used twice"),
        (["file,caption,verdict", "1.jpg,a dog,x"], "already has a column 'verdict'"),
        (["file,caption", "../1.jpg,a dog"], "pairs.csv, row 0: '../1.jpg'"),
        (["", ""], "is empty or begins with an empty line"),
    ],
)
def test_tables_that_are_refused(rows: list[str], message: str) -> None:
    table(*rows)
    assert message in refused("pairs.csv", "--out", "kept.csv")


def test_broken_pictures_are_named() -> None:
    write_pictures(Path("shop"), 60)
    name = rows_of("shop/pairs.csv")[7]["file"]
    Path("shop", name).write_bytes(b"no picture")
    assert f"shop/pairs.csv, row 7, {name!r}: the picture cannot be decoded" in refused(
        "shop", "--out", "kept.csv", *CHEAP
    )


SPOILED = (7, 20, 41)


def spoil(folder: Path) -> None:
    """Make one picture none, one empty and one missing: those of SPOILED."""
    rows = rows_of(str(folder / "pairs.csv"))
    none, empty, gone = (folder / rows[row]["file"] for row in SPOILED)
    none.write_bytes(b"no picture")
    empty.write_bytes(b"")
    gone.unlink()


def test_bad_pictures_can_be_left_out() -> None:
    write_pictures(Path("shop"), 160)
    spoil(Path("shop"))
    assert "leave such pictures out with --skip-bad" in refused("shop", "--out", "kept.csv", *CHEAP)
    assert not list(Path().glob("kept*"))
    result = cleaned("shop", "--out", "kept.csv", *CHEAP, "--skip-bad")
    assert sorted(int(row["source_row"]) for row in all_rows()) == [n for n in range(160) if n not in SPOILED]
    lines = Path("kept.skipped.txt").read_text().splitlines()
    assert [line.split(": ")[0].split(", ")[1] for line in lines] == [f"row {row}" for row in SPOILED]
    assert "3 pictures were left out; see kept.skipped.txt:\n  shop/pairs.csv, row 7" in result.stderr
    assert json.loads(Path("kept.json").read_text())["skipped_pictures"] == 3
    for path in {*Path().glob("kept*")} - {Path("kept.skipped.txt")}:
        path.unlink()
    told = refused("shop", "--out", "kept.csv", *CHEAP, "--skip-bad")
    assert told.startswith("Error: kept.skipped.txt already exists; choose another path")


def test_bad_pictures_of_rows_with_several_captions_and_vectors() -> None:
    write_pictures(Path("shop"), 120)
    spoil(Path("shop"))
    rows = rows_of("shop/pairs.csv")
    texts = [[row["caption"]] * (1 + number % 2) for number, row in enumerate(rows)]
    lines = (json.dumps({"file": row["file"], "captions": said}) for row, said in zip(rows, texts, strict=True))
    Path("pairs.jsonl").write_text("\n".join(lines))
    cleaned("pairs.jsonl", "--pictures", "shop", "--out", "kept.jsonl", *CHEAP, "--skip-bad")
    found: dict[str, list[str]] = {}
    for path in Path().glob("kept*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found.setdefault(row["file"], []).extend(row["captions"])
    expected = {row["file"]: said for n, (row, said) in enumerate(zip(rows, texts, strict=True)) if n not in SPOILED}
    assert found == expected


def test_no_good_picture_at_all() -> None:
    write_pictures(Path("shop"), 60)
    for row in rows_of("shop/pairs.csv"):
        Path("shop", row["file"]).write_bytes(b"")
    assert "no picture can be read (shop/pairs.csv, row 0" in refused("shop", "--out", "kept.csv", *CHEAP, "--skip-bad")


def test_pictures_without_a_bad_one_are_not_listed() -> None:
    write_pictures(Path("shop"), 160)
    result = cleaned("shop", "--out", "kept.csv", *CHEAP, "--skip-bad")
    assert "left out" not in result.output
    assert not Path("kept.skipped.txt").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((60, 3)), "b": np.zeros((60, 3))}, "name them with --image-vectors COL and --text-vectors COL"),
        (
            {"a": np.zeros((60, 3)), "b": np.zeros((50, 3))},
            "expected arrays of the same number of rows, found a (60, 3)",
        ),
        ({"a": np.array([{}])}, "vectors.npz: cannot be read ("),
    ],
)
def test_arrays_that_are_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez("vectors.npz", **arrays)
    assert message in refused("vectors.npz", "--out", "kept.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vectors.npz", "--out", "kept.xlsx"], "--out kept.xlsx: unknown file type; expected .parquet, .csv"),
        (["vectors.npz", "--out", "kept.csv", "--captions", "txt"], "--captions: unknown column 'txt'"),
        (["none.csv", "--out", "kept.csv"], "none.csv: no such file or folder; use hf:NAME"),
        (["vectors.doc", "--out", "kept.csv"], "vectors.doc: unknown file type; expected .csv"),
        (["vectors.npz", "--out", "kept.csv", "--captions-file", "x.csv"], "belongs to a folder of pictures"),
        (["vectors.npz", "--out", "kept.csv", "--scorers", "oracle"], "oracle must know which pairs are clean"),
        (["vectors.npz", "--out", "kept.csv", "--backbone", "sgraf", "--scorers", "l2rm"], "is an ensemble"),
    ],
)
def test_options_that_are_refused(words: list[str], message: str) -> None:
    save_vectors()
    Path("vectors.doc").write_text("x")
    assert message in refused(*words)


def test_pictures_cannot_be_written_to_text() -> None:
    write_pictures(Path("shop"), 60)
    pictures = [{"bytes": Path("shop", row["file"]).read_bytes(), "path": None} for row in rows_of("shop/pairs.csv")]
    captions = [row["caption"] for row in rows_of("shop/pairs.csv")]
    pq.write_table(pa.table({"image": pictures, "caption": captions}), "pairs.parquet")
    assert "use --out kept.parquet" in refused("pairs.parquet", "--out", "kept.csv")
