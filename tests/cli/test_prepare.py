"""`ncbench data prepare`: checks of released files, half-precision copies, and the dev rule of NCR."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from places import FIXTURES

from ncbench.data.precomp import COCO, F30K
from ncbench.data.prepare import RELEASED, prepare
from ncbench.data.registry import load_dataset, load_recorded
from ncbench.errors import UserError

FIXTURE = FIXTURES / "f30k"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the small Flickr30K for tests that damage it."""
    shutil.copytree(FIXTURE, tmp_path / "root")
    return tmp_path / "root"


def check(root: Path, half: Path | None = None) -> list[str]:
    """Return the differences from the published sizes."""
    return [
        f"{one.path.name}: {one.deviation}" for one in prepare(F30K, root, half, lambda words: None) if one.deviation
    ]


def test_digests_are_recorded_and_sizes_compared(root: Path) -> None:
    departs = check(root)
    assert "f30k_precomp_vocab.json: published: 8,481" in departs
    assert "train_caps.txt: published: 145,000" in departs
    assert "test_ims.npy: published: 36 x 2048" in departs
    record = json.loads((root / "f30k_precomp" / "ncbench.json").read_text())
    assert record["digest"] == F30K.load(root).digest
    content = (root / "f30k_precomp" / "dev_ims.npy").read_bytes()
    found = {"shape": "12 x 36 x 24 float32", "sha256": hashlib.sha256(content).hexdigest()}
    assert record["files"]["dev_ims.npy"] == found
    assert len(record["files"]) == 7


def test_either_layout_of_dev_is_as_published(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASED["f30k"].files, "dev", (12, 60))
    monkeypatch.setattr("ncbench.data.prepare._REGION_SHAPE", (36, 24))
    assert not [words for words in check(root) if words.startswith("dev")]
    path = root / "f30k_precomp" / "dev_ims.npy"
    np.save(path, np.repeat(np.load(path), 5, axis=0))
    assert not [words for words in check(root) if words.startswith("dev")]
    monkeypatch.setitem(RELEASED["f30k"].files, "dev", (13, 65))
    assert [words for words in check(root) if words.startswith("dev_ims")] == ["dev_ims.npy: published: 13 or 65 rows"]


def test_every_row_is_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncbench.data.precomp.MAX_FULL_CHECK_BYTES", 0)
    monkeypatch.setattr("ncbench.data.precomp.N_SAMPLED_ROWS", 4)
    monkeypatch.setattr("ncbench.data.feature_sizes.N_CHECKED_IMAGES", 4)
    path = root / "f30k_precomp" / "train_ims.npy"
    features = np.load(path)
    features[38, 2, 2] = np.nan
    np.save(path, features)
    F30K.load(root)
    with pytest.raises(UserError, match=r"train_ims\.npy: row 38 contains NaN or infinity"):
        check(root)


def test_what_is_missing_comes_with_where_to_get_it(root: Path) -> None:
    (root / "f30k_precomp" / "dev_ims.npy").unlink()
    with pytest.raises(UserError, match=r"lacks dev_ims\.npy; .*kuanghuei/SCAN"):
        check(root)
    with pytest.raises(UserError, match=r"is not a folder; .*kuanghuei/SCAN"):
        prepare(COCO, root, None, lambda words: None)


def test_half_precision(root: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    check(root, half)
    one, other = F30K.load(root), F30K.load(half)
    for split in ("train", "dev", "test"):
        images = np.arange(len(one.splits[split].images))
        whole = one.splits[split].images.take(images)
        copy = other.splits[split].images.take(images)
        assert copy.dtype == np.float32
        np.testing.assert_array_equal(copy, whole.astype(np.float16).astype(np.float32))
    assert one.digest != other.digest
    size = (root / "f30k_precomp" / "train_ims.npy").stat().st_size
    assert (half / "f30k_precomp" / "train_ims.npy").stat().st_size < 0.51 * size


@pytest.mark.filterwarnings("ignore:.*features of train are up to:UserWarning")
def test_numbers_beyond_half_precision(root: Path, tmp_path: Path) -> None:
    path = root / "f30k_precomp" / "train_ims.npy"
    features = np.load(path)
    features[17, 2, 2] = 70_000
    np.save(path, features)
    with pytest.raises(UserError, match=r"train_ims\.npy: row 17 contains a number beyond 65,504"):
        check(root, tmp_path / "half")
    with pytest.raises(UserError, match="is the folder of the released files"):
        check(root, root)


def test_the_command(cli: Callable[..., Result], root: Path, tmp_path: Path) -> None:
    result = cli("data", "prepare", "f30k", "--from", root)
    assert result.exit_code == 0, result.output
    assert "train_ims.npy" in result.stdout
    assert f"Use them with: ncbench run --dataset f30k --data-root {root}\n" in result.stdout
    assert "dev has 12 images with 60 captions (standard rule)" in result.stdout
    shown = cli("data", "prepare", "f30k", "--from", root, "--half", tmp_path / "half", "--dev-rule", "ncr", "--json")
    content = json.loads(shown.stdout)
    assert (content["dev_images"], len(content["files"])) == (12, 7)
    assert f"writing {tmp_path / 'half' / 'f30k_precomp' / 'train_ims.npy'}" in shown.stderr
    refused = cli("data", "prepare", "scenes", "--from", root)
    assert refused.exit_code == 2
    assert refused.stderr == ("Error: scenes has no released files to prepare; expected f30k, coco or cc152k.\n")


def test_the_dev_rule_is_part_of_the_version(root: Path) -> None:
    path = root / "f30k_precomp" / "dev_ims.npy"
    np.save(path, np.repeat(np.load(path), 5, axis=0))
    usual, ncr = load_dataset("f30k", root), load_dataset("f30k?dev-rule=ncr", root)
    assert (usual.name, usual.version, ncr.name, ncr.version) == ("f30k", "1", "f30k", "1-dev-ncr")
    assert load_recorded("f30k", ncr.version, ncr.digest, root).version == ncr.version
    with pytest.raises(UserError, match="unknown dev rule 'nrc'"):
        load_dataset("f30k?dev-rule=nrc", root)
    with pytest.raises(UserError, match="--dev-rule is for datasets of released files such as f30k"):
        load_dataset("scenes?dev-rule=ncr", None)
