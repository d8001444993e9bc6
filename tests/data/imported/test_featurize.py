"""Datasets of pictures: a folder with a captions file, and the models that compute features."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ncbench.data.dataset import Dataset
from ncbench.data.imported.descriptors import describe_built_in, descriptor, regions_of
from ncbench.data.imported.pictures import decode
from ncbench.data.imported.request import picture_request
from ncbench.data.imported.source import skipped_of, source_of
from ncbench.data.registry import load_dataset
from ncbench.data.scenes.descriptor import DIM, region_features
from ncbench.data.scenes.render import SIDE
from ncbench.errors import UserError

ROWS = [f"{name}{number}.png\ta {colour} square" for number, colour in enumerate(["red", "blue"]) for name in "abcdef"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of twelve pictures of 20 x 16 pixels, and a file with a caption for each."""
    rng = np.random.default_rng(0)
    for row in ROWS:
        path = tmp_path / "pictures" / row.split("\t")[0]
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(16, 20, 3), dtype=np.uint8)).save(path)
    write(tmp_path, *ROWS)
    return tmp_path


def write(folder: Path, *rows: str, ends: str = "\n") -> None:
    (folder / "captions.tsv").write_bytes("".join(row + ends for row in rows).encode())


def load(folder: Path, features: str = "builtin", name: str = "") -> Dataset:
    return load_dataset(
        picture_request(str(folder / "pictures"), str(folder / "captions.tsv"), "", features, name), None
    )


def refusal(folder: Path, features: str = "builtin") -> str:
    with pytest.raises(UserError) as caught:
        load(folder, features)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_become_regions(folder: Path) -> None:
    dataset = load(folder)
    assert (dataset.name, dataset.n_regions, dataset.image_dim) == ("pictures", 8, DIM)
    assert [len(dataset.splits[split].images) for split in ("train", "dev", "test")] == [10, 1, 1]
    assert dataset.pictures is not None
    for number in range(10):
        picture = dataset.pictures.picture("train", number)
        assert picture.shape == (16, 20, 3)
        small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        found = dataset.splits["train"].images.take(np.array([number]))[0]
        np.testing.assert_array_equal(found, region_features(small))
    assert load_dataset("pictures", None).digest == dataset.digest


def test_rows_may_name_splits_and_pictures_have_several_captions(folder: Path) -> None:
    rows = [f"{row}\t{split}" for row, split in zip(ROWS, ["train"] * 8 + ["val"] * 2 + ["test"] * 2, strict=True)]
    rows.insert(5, "b0.png\tanother one\ttrain")
    rows.insert(9, "b0.png#1\tand another\ttrain")
    write(folder, *rows, ends="\r\n")
    dataset = load(folder)
    assert [len(dataset.splits[split].images) for split in ("train", "dev", "test")] == [8, 2, 2]
    train = dataset.splits["train"]
    assert [text for text, image in zip(train.captions.texts, train.true, strict=True) if image == 1] == [
        "a red square",
        "another one",
        "and another",
    ]


def test_features_follow_the_pictures(folder: Path) -> None:
    before = load(folder).digest
    Image.new("RGB", (20, 16), "red").save(folder / "pictures" / "a0.png")
    assert load(folder).digest != before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a0.png", "captions.tsv:3: found 1 columns, expected picture, tab, caption (, tab, split)"),
        ("a\tb\tc\td", "captions.tsv:3: found 4 columns, expected"),
        ("", "captions.tsv:3: found 1 columns, expected"),
        ("a0.png\t ", "captions.tsv:3: empty caption; fill it"),
        ("\ta", "captions.tsv:3: empty picture name; fill it"),
        ("a1.png\ta\tvalidate", "captions.tsv:3: unknown split 'validate'; expected train, training, dev, validation"),
        ("a0.png\ta\ttest", "captions.tsv:3: 'a0.png' is in split test here, but in train before"),
        ("z.png\ta", "captions.tsv:3: 'z.png' cannot be read in"),
        ("../captions.tsv\ta", "captions.tsv:3: '../captions.tsv' is outside of"),
        ("loop.png\ta", "captions.tsv:3: 'loop.png' cannot be read in"),
        (
            "text.png\ta",
            "captions.tsv:3, 'text.png': the picture cannot be decoded (no known format, begins with b'no pictu')",
        ),
        ('a0.png\t"a quote', None),
    ],
)
def test_bad_rows(folder: Path, row: str, message: str | None) -> None:
    (folder / "pictures" / "loop.png").symlink_to(folder / "pictures" / "loop.png")
    (folder / "pictures" / "text.png").write_text("no picture")
    write(folder, *ROWS[:2], row, *ROWS[2:])
    if message is None:
        assert '"a quote' in [text for part in load(folder).splits.values() for text in part.captions.texts]
    else:
        assert message in refusal(folder)


def test_bad_files(folder: Path) -> None:
    (folder / "captions.tsv").write_bytes(b"a0.png\ta\nb0.png\tcaf\xe9\n")
    assert "captions.tsv:2: not UTF-8 (byte 0xe9)" in refusal(folder)
    write(folder)
    assert "captions.tsv: contains no captions" in refusal(folder)
    (folder / "captions.tsv").unlink()
    assert "captions.tsv: file not found; expected rows of picture, tab, caption" in refusal(folder)
    with pytest.raises(UserError, match="expected a folder of pictures"):
        load_dataset(picture_request("a/b", "captions.tsv", "", "", ""), None)
    with pytest.raises(UserError, match="--image-column x needs --images hf:NAME_OR_PATH"):
        picture_request("a", "b", "x", "", "")


def spoil(folder: Path) -> None:
    """Make an empty picture, one that is none, and one that is missing: rows 1, 4 and 8."""
    (folder / "pictures" / "b0.png").write_bytes(b"")
    (folder / "pictures" / "e0.png").write_bytes(b"no picture")
    (folder / "pictures" / "c1.png").unlink()


def with_skips(folder: Path) -> str:
    """Return a request for the pictures of `folder` that leaves bad ones out."""
    captions = str(folder / "captions.tsv")
    return picture_request(str(folder / "pictures"), captions, "", "builtin", "", skip_bad=True)


@pytest.mark.filterwarnings("ignore::ncbench.data.data_warning.DataWarning")  # words are few
def test_bad_pictures_can_be_left_out(folder: Path) -> None:
    rows = [f"{row}\t{split}" for row, split in zip(ROWS, ["train"] * 8 + ["val"] * 2 + ["test"] * 2, strict=True)]
    write(folder, *rows)
    spoil(folder)
    assert refusal(folder).endswith("or leave such pictures out with --skip-bad")
    found = skipped_of(with_skips(folder))
    assert found is not None
    file, lines = found
    assert sorted(line.split(": ")[0] for line in lines) == [
        f"{folder}/captions.tsv:2, 'b0.png'",
        f"{folder}/captions.tsv:5, 'e0.png'",
        f"{folder}/captions.tsv:9",
    ]
    assert file.read_text().splitlines() == list(lines)
    dataset = load_dataset(with_skips(folder), None)
    write(folder, *(row for number, row in enumerate(rows) if number not in (1, 4, 8)))
    assert load(folder).digest == dataset.digest
    assert sum(len(split.images) for split in dataset.splits.values()) == 9
    assert sum(len(split.captions) for split in dataset.splits.values()) == 9


def test_nothing_is_listed_where_all_pictures_are_good(folder: Path) -> None:
    assert skipped_of(with_skips(folder)) is None
    assert load(folder).digest == load_dataset(with_skips(folder), None).digest


def test_bad_pictures_of_a_column_are_left_out(tmp_path: Path) -> None:
    pictures = []
    for number in range(40):
        file = io.BytesIO()
        Image.new("RGB", (20, 16), (6 * number, 0, 0)).save(file, "png")
        pictures.append({"bytes": file.getvalue(), "path": None})
    for bad in ({"bytes": b"GIF89a", "path": "x.gif"}, {"bytes": None, "path": "gone.png"}, None):
        pictures.append(bad)  # type: ignore[arg-type]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(pictures, kind), "text": ["a picture"] * 43})
    pq.write_table(table, tmp_path / "shop.parquet")
    request = picture_request(f"hf:{tmp_path}/shop.parquet", "text", "image", "builtin", "", skip_bad=True)
    found = skipped_of(request)
    assert found is not None
    assert [line.split(", ")[1].split(":")[0] for line in found[1]] == ["row 41", "row 42", "row 40"]
    assert sum(len(split.images) for split in load_dataset(request, None).splits.values()) == 40


def test_a_split_without_any_good_picture(folder: Path) -> None:
    for name in "abcdef":
        (folder / "pictures" / f"{name}1.png").write_bytes(b"no picture")
    write(folder, *(f"{row}\t{'train' if number < 6 else 'test'}" for number, row in enumerate(ROWS)))
    with pytest.raises(UserError, match=r"pictures: no picture of test can be read \(.*captions\.tsv:7, 'a1\.png'"):
        load_dataset(with_skips(folder), None)


def test_what_is_wrong_with_the_request_is_never_left_out(folder: Path) -> None:
    write(folder, *ROWS, "../captions.tsv\ta")
    with pytest.raises(UserError, match="is outside of"):
        load_dataset(with_skips(folder), None)


def test_transparency_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tmp_path / "a.png")
    assert (decode((tmp_path / "a.png").read_bytes(), "here") == 255).all()


# Models of other libraries


def test_unknown_and_missing_models(monkeypatch: pytest.MonkeyPatch) -> None:
    assert descriptor("") is descriptor("builtin") is describe_built_in
    for name in ("resnet", "timm", "timm:", "torch:x"):
        with pytest.raises(UserError, match=f"unknown features '{name}'; expected builtin, timm:NAME or trans"):
            descriptor(name)
    for library in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(UserError, match=rf"need {library}, .* `pip install ncbench\[vision\]`"):
            descriptor(f"{library}:x")


def test_models_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*words: object, **more: object) -> None:
        raise RuntimeError("unknown\nmodel")

    monkeypatch.setitem(sys.modules, "timm", module("timm", create_model=create))
    with pytest.raises(UserError, match=r"^features 'timm:x': timm cannot load this model \(unknown model\)$"):
        descriptor("timm:x")


def module(name: str, **attributes: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


class Maps(torch.nn.Module):
    """A timm model that returns the mean colours of 2 x 2 pixels."""

    output_fmt = "NCHW"

    def forward_features(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(batch, 2)


class ChannelsLast(Maps):
    output_fmt = "NHWC"

    def forward_features(self, batch: torch.Tensor) -> torch.Tensor:
        return super().forward_features(batch).permute(0, 2, 3, 1)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((16, 16)))).permute(2, 0, 1) / 255


@pytest.mark.parametrize("kind", [Maps, ChannelsLast])
def test_timm(folder: Path, kind: type[Maps], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    def create(name: str, **more: object) -> Maps:
        asked.append((name, more))
        return kind()

    data = SimpleNamespace(resolve_model_data_config=lambda model: {}, create_transform=lambda **more: tensor)
    monkeypatch.setitem(sys.modules, "timm", module("timm", create_model=create, data=data))
    dataset = load(folder, "timm:resnet", "timm")
    assert asked == [("resnet", {"pretrained": True, "num_classes": 0})]
    assert (dataset.n_regions, dataset.image_dim) == (16, 3)
    assert dataset.pictures is not None
    picture = tensor(Image.fromarray(dataset.pictures.picture("train", 2)))
    fields = torch.nn.functional.avg_pool2d(picture, 4).flatten(1).T
    found = dataset.splits["train"].images.take(np.array([2]))[0]
    np.testing.assert_allclose(found, fields, atol=1e-6)


def test_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Patches(torch.nn.Module):
        """A class token before 25 patches."""

        def forward(self, pixel_values: torch.Tensor) -> Any:
            patches = torch.nn.functional.adaptive_avg_pool2d(pixel_values, 5).flatten(2).transpose(1, 2)
            return SimpleNamespace(last_hidden_state=torch.cat([patches[:, :1] * 0 + 9, patches], 1))

    def process(image: Image.Image, return_tensors: str) -> dict[str, torch.Tensor]:
        assert return_tensors == "pt"
        return {"pixel_values": tensor(image)[None]}

    whole = torch.nn.Module()
    whole.vision_model = Patches()

    def loads(thing: object) -> Callable[..., object]:
        def from_pretrained(name: str, use_safetensors: bool) -> object:
            assert (name, use_safetensors) == ("owner/clip", True)
            return thing

        return from_pretrained

    made = module(
        "transformers",
        AutoImageProcessor=SimpleNamespace(from_pretrained=loads(process)),
        AutoModel=SimpleNamespace(from_pretrained=loads(whole)),
    )
    monkeypatch.setitem(sys.modules, "transformers", made)
    dataset = load(folder, "transformers:owner/clip", "clip")
    assert (dataset.n_regions, dataset.image_dim) == (16, 3)
    assert dataset.splits["train"].images.take(np.arange(10)).max() <= 1, "the class token is no region"


@pytest.mark.parametrize(
    ("shape", "regions"),
    [((2, 5), 1), ((2, 5, 7, 7), 16), ((2, 5, 2, 3), 6), ((2, 197, 5), 16), ((2, 4, 5), 4), ((2, 5, 1, 1), 1)],
)
def test_regions_of_model_outputs(shape: tuple[int, ...], regions: int) -> None:
    assert regions_of(torch.randn(shape)).shape == (2, regions, 5)


def test_regions_keep_their_places() -> None:
    maps = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert regions_of(maps)[0, 1, 0] == maps[0, 0, :2, 2:4].mean()
    patches = torch.cat([torch.full((1, 1, 1), 99.0), maps.flatten(2).transpose(1, 2)], 1)
    torch.testing.assert_close(regions_of(patches), regions_of(maps))


def test_timm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import timm
    except Exception:  # torchvision may not match the build of torch
        pytest.skip("timm cannot be imported")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: create(name, pretrained=False, **more))
    for name, dim in (("resnet18", 512), ("vit_tiny_patch16_224", 192), ("swin_tiny_patch4_window7_224", 768)):
        features = descriptor(f"timm:{name}")([np.zeros((30, 20, 3), np.uint8)] * 2)
        assert features.shape == (2, 16, dim)


@pytest.mark.filterwarnings("ignore")
def test_transformers_itself(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    transformers.ViTModel(transformers.ViTConfig(**config)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    pictures = list(np.random.default_rng(0).integers(255, size=(5, 20, 30, 3), dtype=np.uint8))
    assert descriptor(f"transformers:{tmp_path}")(pictures).shape == (5, 16, 24)


def test_a_request_for_a_column_of_pictures(tmp_path: Path) -> None:
    request = source_of(picture_request(f"hf:{tmp_path}", "said", "image", "builtin", "drawn")).request
    assert (request.images, request.captions, request.features, request.title) == ("image", "said", "builtin", "drawn")
