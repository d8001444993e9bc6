"""Requests for imported datasets: texts, configuration files, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ncbench.data.imported.request import Request, is_request, read_request, with_columns
from ncbench.errors import UserError

COLUMNS = "?image-features=regions&captions=captions"


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_request(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def config(folder: Path, content: str) -> str:
    path = folder / "mine.toml"
    path.write_text(content)
    return str(path)


def test_a_text_gives_source_and_columns(tmp_path: Path) -> None:
    request = read_request(f"hf:{tmp_path}{COLUMNS}&text-features=said&regions=3&truth-known=false&name=a.b")
    assert request == Request(str(tmp_path), "captions", "regions", "said", regions=3, truth_known=False, name="a.b")
    assert request.path == tmp_path.resolve()
    assert read_request(f"hf:some/set{COLUMNS}").path is None


def test_options_become_part_of_the_text() -> None:
    names = with_columns(["hf:a/b", "scenes", "hf:c?captions=x"], {"captions": "a b", "image-features": None})
    assert names == ("hf:a/b?captions=a+b", "scenes", "hf:c?captions=a+b")
    assert with_columns(["scenes"], {"captions": None}) == ("scenes",)
    with pytest.raises(UserError, match="--captions needs --dataset hf:NAME_OR_PATH"):
        with_columns(["scenes"], {"captions": "x"})


def test_what_is_a_request() -> None:
    assert [is_request(text) for text in ("hf:x", "my.toml", "scenes", "photos@1234")] == [True, True, False, False]


def test_keys_may_have_underscores(tmp_path: Path) -> None:
    text = 'source = "a/b"\ncaptions = "c"\nimage-features = "v"\nmin-count = 2\n'
    hyphens = read_request(config(tmp_path, text))
    assert (hyphens.image_features, hyphens.min_count) == ("v", 2)
    assert read_request(config(tmp_path, text.replace("-", "_"))) == hyphens


def test_a_configuration_file_gives_everything(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "words.json").touch()
    text = config(
        tmp_path,
        """
        source = "data"
        image-features = "regions"
        captions = "captions"
        min-count = 2
        like = "scenes"
        vocabulary = "words.json"
        [splits]
        dev = "other"
        """,
    )
    assert read_request(text) == Request(
        str(tmp_path / "data"),
        "captions",
        "regions",
        splits={"dev": "other"},
        name="mine",
        min_count=2,
        like="scenes",
        vocabulary=str(tmp_path / "words.json"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source = 3", "source is 3, expected a string"),
        ('source = "a/b"\ncaption = "x"', "unknown key 'caption'. Did you mean 'captions'"),
        ('source = "a/b"\nmin-count = 1\nmin_count = 2', "min-count is given twice"),
        ('source = "a/b"\nimage-features = "x"', 'set the column of the captions: captions = "COL"'),
        ('source = "a/b"\ncaptions = "x"', 'set the column of the image features: image-features = "COL"'),
        ('captions = "x"', "source is missing; set source ="),
        ('source = "a/b"\nmin-count = -1', "min-count is -1, expected an integer"),
        ('source = "a/b"\nregions = true', "regions is True, expected an integer"),
        ('source = "a/b"\ntruth-known = "yes"', "truth-known is 'yes', expected true or false"),
        ('source = "a/b"\nsplits = "x"', "splits must name splits of the source"),
        ('source = "a/b"\n[splits]\nvalid = "x"', "unknown split 'valid'"),
        ('source = "a/b"\n[splits]\ndev = "x"\ntest = "x"', "two of train, dev and test are the same split of the"),
        ('source = "a/b"\nname = "../up"', "'../up' is not a valid name of a dataset"),
        ('source = "a/b', "is not valid TOML ("),
        (
            'source = "no/such/folder"',
            "no/such/folder: no such file or folder",
        ),
    ],
)
def test_bad_configuration_files(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(config(tmp_path, content))


def test_bad_texts(tmp_path: Path) -> None:
    assert "hf:' has no source; use hf:NAME_OR_PATH" in refusal("hf:")
    for query in ("", "?captions={x}"):
        asked = f"hf:{tmp_path}{query}"
        usage = f"--image-features COL, or {asked}{'&' if query else '?'}image-features=COL"
        assert f"set the column of the image features: {usage}" in refusal(asked)
    assert "regions is 'x', expected an integer" in refusal("hf:a?regions=x")
    assert f"{tmp_path}/none: no such file or folder" in refusal(f"hf:{tmp_path}/none")
    assert "mine.toml: cannot be read (No such file or directory)" in refusal(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("owner/set.v1", "set.v1"),
        ("set", "set"),
        ("{}/My photos", "My-photos"),
        ("{}/photos/train.parquet", "photos"),
        ("{}/photos/data/train-00000-of-00002.parquet", "photos"),
        ("{}/photos/mine.parquet", "mine"),
    ],
)
def test_names_are_derived_from_sources(tmp_path: Path, source: str, name: str) -> None:
    path = Path(source.format(tmp_path))
    if path.suffix == ".parquet":
        path.parent.mkdir(parents=True)
        path.touch()
    elif path.is_absolute():
        path.mkdir()
    assert Request(source.format(tmp_path), "c").title == name


def test_reading_one_is_light() -> None:
    code = (
        "import sys, ncbench.data.registry; print(sorted({'numpy', 'pyarrow', 'torch', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
