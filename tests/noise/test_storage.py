import numpy as np
import pytest
from correspondences import FIVE_EACH, draw, drawn

from ncbench.errors import UserError
from ncbench.noise.storage import load_noise, save_noise


def test_saved_noise_loads_unchanged(tmp_path):
    noise = draw("shuffle-captions", 0.4, FIVE_EACH, 100, 5)
    save_noise(noise, tmp_path / "noise.npy")
    loaded = load_noise(tmp_path / "noise.npy")
    assert loaded == noise
    assert np.array_equal(loaded.claimed, noise.claimed)
    as_file = draw(f"file:{tmp_path / 'noise.npy'}", 0.4, FIVE_EACH, 100, 0)
    assert as_file.digest == noise.digest


def test_saved_noise_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "noise.npy"
    save_noise(draw("shuffle-captions", 0.4, FIVE_EACH, 100, 5), path)
    np.save(path, FIVE_EACH)
    with pytest.raises(UserError, match=r"noise.npy has digest .* but noise.json says"):
        load_noise(path)


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        (None, "cannot read .*noise.json, the description of noise.npy"),
        ("{", "is not valid JSON"),
        ("[]", "does not describe noise"),
        ('{"format": "other"}', "expected 'format' 'ncbench-noise-1'"),
        ('{"format": "ncbench-noise-1", "protocol": "x"}', "missing or unknown fields"),
    ],
)
def test_malformed_sidecar_is_refused(tmp_path, sidecar, message):
    path = tmp_path / "noise.npy"
    save_noise(draw("shuffle-captions", 0.4, FIVE_EACH, 100, 5), path)
    path.with_suffix(".json").unlink()
    if sidecar is not None:
        path.with_suffix(".json").write_text(sidecar)
    with pytest.raises(UserError, match=message):
        load_noise(path)


def test_noise_is_saved_as_npy_only(tmp_path):
    with pytest.raises(ValueError, match=r"ending in .npy, found 'noise.txt'"):
        save_noise(draw("shuffle-captions", 0.4, FIVE_EACH, 100, 5), tmp_path / "noise.txt")


@pytest.mark.parametrize(("protocol", "columns"), [("partial", 5), ("harvested", 6)])
def test_splices_are_saved_next_to_the_noise(tmp_path, protocol, columns):
    noise = drawn(protocol, 0.2)
    save_noise(noise, tmp_path / "n.npy")
    found = load_noise(tmp_path / "n.npy")
    assert found == noise
    assert np.array_equal(found.splices.rows, noise.splices.rows)
    assert found.splices.rows.shape[1] == columns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.json", "n.npy", "n.splices.npy"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "cannot read noise file .*n.splices.npy"),
        (np.array([[0, 1, 2, 1, 1]]), "n.npy has digest .* but n.json says"),
        (np.array([[0, 1, 2, 1, 0]]), "n.splices.npy: splices contain a negative number"),
        (np.zeros((3, 5)), "n.splices.npy has dtype float64, expected integers"),
    ],
)
def test_splices_that_were_changed_are_refused(tmp_path, rows, message):
    save_noise(drawn("partial", 0.2), tmp_path / "n.npy")
    (tmp_path / "n.splices.npy").unlink()
    if rows is not None:
        np.save(tmp_path / "n.splices.npy", rows)
    with pytest.raises(UserError, match=message):
        load_noise(tmp_path / "n.npy")
