import pickle
from contextlib import suppress

import numpy as np
import pytest
from correspondences import FIVE_EACH, SHUFFLES, draw
from places import SHARED

from ncbench.errors import UserError


def save(folder, array, name="index.npy"):
    np.save(folder / name, array)
    return f"file:{folder / name}"


def images_moved(n, ratio, seed=0):
    """An image-format file as published: int(ratio * n) images permuted cyclically, so that none stays in place."""
    chosen = np.random.default_rng(seed).permutation(n)[: int(ratio * n)]
    moved = np.arange(n)
    moved[chosen] = np.roll(chosen, 1)
    return moved


def captions_moved(true, ratio, seed=0):
    chosen = np.random.default_rng(seed).permutation(len(true))[: int(ratio * len(true))]
    moved = true.copy()
    moved[chosen] = np.random.default_rng(seed + 1).permutation(moved[chosen])
    return moved


# Index files that fit


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint64", ">i4", "uint8"])
def test_image_file_is_applied_through_the_truth(tmp_path, dtype):
    moved = images_moved(100, 0.4)
    noise = draw(save(tmp_path, moved.astype(dtype)), 0.4, FIVE_EACH, 100, 0)
    assert noise.unit == "images"
    assert noise.claimed.dtype == np.int64
    assert noise.claimed.tolist() == [int(moved[image]) for image in FIVE_EACH]


def test_repeated_image_file_is_of_unit_images(tmp_path):
    moved = images_moved(100, 0.4)
    per_image = draw(save(tmp_path, moved, "a.npy"), 0.4, FIVE_EACH, 100, 0)
    repeated = draw(save(tmp_path, np.repeat(moved, 5), "b.npy"), 0.4, FIVE_EACH, 100, 0)
    assert repeated.unit == "images"
    assert repeated.digest == per_image.digest


def test_caption_file_is_claimed_itself(tmp_path):
    moved = captions_moved(FIVE_EACH, 0.4)
    noise = draw(save(tmp_path, moved), 0.4, FIVE_EACH, 100, 0)
    assert noise.unit == "captions"
    assert np.array_equal(noise.claimed, moved)


def test_rows_of_five_fold_features_are_their_images(tmp_path):
    """NCR's code on features that hold an image five times: image row c belongs to caption c, and rows are permuted."""
    rows = captions_moved(np.arange(500), 0.4)
    noise = draw(save(tmp_path, rows), 0.4, FIVE_EACH, 100, 0)
    assert noise.claimed.tolist() == [int(row) // 5 for row in rows]
    assert noise.unit == "captions"


def test_rows_that_are_used_twice_are_out_of_range(tmp_path):
    rows = captions_moved(np.arange(500), 0.4)
    rows[:2] = 400
    with pytest.raises(UserError, match="row 0: image 400 is out of range; this training set has images 0 to 99"):
        draw(save(tmp_path, rows), 0.4, FIVE_EACH, 100, 0)


def test_seed_does_not_change_a_file(tmp_path):
    protocol = save(tmp_path, images_moved(100, 0.4))
    assert draw(protocol, 0.4, FIVE_EACH, 100, 0).digest == draw(protocol, 0.4, FIVE_EACH, 100, 1).digest


@pytest.mark.parametrize("kind", ["file", "file-images", "file-captions"])
def test_units_agree_for_one_caption_per_image(tmp_path, kind):
    moved = images_moved(100, 0.4)
    save(tmp_path, moved)
    noise = draw(f"{kind}:{tmp_path / 'index.npy'}", 0.4, np.arange(100), 100, 0)
    assert np.array_equal(noise.claimed, moved)
    assert noise.unit == ("captions" if kind == "file-captions" else "images")


def test_caption_file_need_not_be_a_permutation(tmp_path):
    claimed = np.arange(100)
    claimed[:40] = 99
    assert np.array_equal(draw(save(tmp_path, claimed), 0.4, np.arange(100), 100, 0).claimed, claimed)


def test_as_many_images_as_captions_in_another_order_must_be_stated(tmp_path):
    true = np.roll(np.arange(100), 1)
    moved = images_moved(100, 0.4)
    path = tmp_path / "index.npy"
    with pytest.raises(UserError, match=r"reads differently per image and per caption.*file-images:PATH or"):
        draw(save(tmp_path, moved), 0.4, true, 100, 0)
    assert np.array_equal(draw(f"file-images:{path}", 0.4, true, 100, 0).claimed, moved[true])
    np.save(path, moved[true])
    assert np.array_equal(draw(f"file-captions:{path}", 0.4, true, 100, 0).claimed, moved[true])


@pytest.mark.parametrize("kind", ["file", "file-images", "file-captions"])
def test_clean_file_is_of_either_unit(tmp_path, kind):
    np.save(tmp_path / "clean.npy", FIVE_EACH)
    noise = draw(f"{kind}:{tmp_path / 'clean.npy'}", 0, FIVE_EACH, 100, 0)
    assert np.array_equal(noise.claimed, FIVE_EACH)


@pytest.mark.parametrize("protocol", SHUFFLES)
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.8, 0.95])
def test_what_shuffles_draw_passes_as_a_file_of_that_ratio(tmp_path, protocol, ratio):
    # Few and uneven captions often stay in place; the tolerance must not refuse an honest shuffle.
    true = np.repeat(np.arange(30), np.arange(30) % 5 + 1)
    for seed in range(50):
        drawn = draw(protocol, ratio, true, 30, seed)
        read = draw(save(tmp_path, drawn.claimed), ratio, true, 30, seed)
        assert np.array_equal(read.claimed, drawn.claimed)
        assert read.unit == drawn.unit


# Index files that do not fit


def refuse(protocol, match, ratio=0.4, true=FIVE_EACH, n_images=100):
    with pytest.raises(UserError, match=match) as caught:
        draw(protocol, ratio, true, n_images, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path):
    message = refuse(f"file:{tmp_path / 'none.npy'}", "cannot read noise file .*No such file")
    assert str(tmp_path / "none.npy") in message
    assert not (tmp_path / "none.npy").exists()


def test_folder(tmp_path):
    refuse(f"file:{tmp_path}", "cannot read noise file")


def test_not_npy(tmp_path):
    contents = {
        "text": b"0 1 2",
        "empty": b"",
        "pickle": pickle.dumps([1, 2]),
        "short": b"\x93NUM",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        refuse(f"file:{tmp_path / name}", "is not a .npy file")
    np.savez(tmp_path / "zip.npz", FIVE_EACH)
    refuse(f"file:{tmp_path / 'zip.npz'}", "is not a .npy file")


def test_truncated_files_are_refused(tmp_path):
    np.save(tmp_path / "whole.npy", FIVE_EACH)
    whole = (tmp_path / "whole.npy").read_bytes()
    for length in (6, 7, 8, 9, 10, 60, 127, 128, 129, len(whole) - 8, len(whole) - 1):
        (tmp_path / "part.npy").write_bytes(whole[:length])
        refuse(f"file:{tmp_path / 'part.npy'}", "is damaged or does not hold plain integers")


def test_garbled_header(tmp_path):
    np.save(tmp_path / "whole.npy", FIVE_EACH)
    whole = bytearray((tmp_path / "whole.npy").read_bytes())
    for position in range(10, 80):
        for byte in b"('\x00\xff":
            changed = whole.copy()
            changed[position] = byte
            (tmp_path / "garbled.npy").write_bytes(changed)
            with suppress(UserError):  # no other error; some changes do not matter
                draw(f"file:{tmp_path / 'garbled.npy'}", 0, FIVE_EACH, 100, 0)


def test_objects(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([1, None], object), allow_pickle=True)
    refuse(f"file:{tmp_path / 'objects.npy'}", "damaged or does not hold plain integers: .*allow_pickle")


@pytest.mark.parametrize("dtype", ["float64", "bool", "complex64", "U3", "m8[s]"])
def test_wrong_dtype(tmp_path, dtype):
    refuse(save(tmp_path, np.zeros(500, dtype)), r"has dtype .*, expected integers such as int64")


@pytest.mark.parametrize("shape", [(100, 5), (500, 1), ()])
def test_wrong_shape(tmp_path, shape):
    refuse(save(tmp_path, np.zeros(shape, np.int64)), "has shape .* expected a vector")


@pytest.mark.parametrize("n", [0, 99, 101, 499, 501])
def test_wrong_length_names_both_valid_lengths(tmp_path, n):
    refuse(save(tmp_path, np.zeros(n, np.int64)), rf"has {n} entries, expected 100 .* or 500 ")


@pytest.mark.parametrize("value", [-1, 100, 2**40])
def test_out_of_range_names_the_first_row(tmp_path, value):
    claimed = FIVE_EACH.copy()
    claimed[[17, 30]] = value
    refuse(save(tmp_path, claimed), rf"row 17: image {value} is out of range; .* images 0 to 99")


def test_out_of_range_beyond_int64(tmp_path):
    claimed = FIVE_EACH.astype(np.uint64)
    claimed[17] = 2**64 - 1
    refuse(save(tmp_path, claimed), f"row 17: image {2**64 - 1} is out of range")


def test_image_file_must_be_a_permutation(tmp_path):
    moved = np.arange(100)
    moved[40] = 7
    refuse(save(tmp_path, moved), "row 40: image 7 is also in row 7; .* must be a permutation")


def test_caption_file_stated_as_images(tmp_path):
    save(tmp_path, captions_moved(FIVE_EACH, 0.4))
    refuse(f"file-images:{tmp_path / 'index.npy'}", "moves single captions .*use file-captions:PATH")


@pytest.mark.parametrize("repeats", [1, 5])
def test_image_file_stated_as_captions(tmp_path, repeats):
    save(tmp_path, np.repeat(images_moved(100, 0.4), repeats))
    refuse(f"file-captions:{tmp_path / 'index.npy'}", "moves whole images .*use file-images:PATH")


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.38, 0.42, 0.6])
@pytest.mark.parametrize("unit", ["images", "captions"])
def test_ratio_that_the_file_does_not_have(tmp_path, ratio, unit):
    true = np.arange(5000) // 5
    moved = images_moved(1000, 0.4) if unit == "images" else captions_moved(true, 0.4)
    protocol = save(tmp_path, moved)
    assert draw(protocol, 0.4, true, 1000, 0).unit == unit
    share = r"0\.4000" if unit == "images" else r"0\.39\d\d"
    refuse(protocol, rf"mismatches {share} of the {unit}, but the noise ratio is {ratio};", ratio, true, 1000)


def test_one_mismatch_is_too_many_for_a_clean_run(tmp_path):
    claimed = FIVE_EACH.copy()
    claimed[0] = 1
    refuse(save(tmp_path, claimed), "but the noise ratio is 0.0;", ratio=0)


# The published files (f30k at 40 %)

PUBLISHED = SHARED / "data" / "noise_index"
F30K = np.arange(145_000) // 5

published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="published noise files not found; set NCBENCH_SHARED to the folder with data/"
)


def published_noise(name, kind="file", ratio=0.4):
    return draw(f"{kind}:{PUBLISHED / name}", ratio, F30K, 29_000, 0)


@published
@pytest.mark.parametrize(
    ("name", "unit", "mismatched", "survival"),
    [
        ("f30k_images_0.4.npy", "images", 58_000, 0.6),
        ("f30k_images_repeated5_0.4.npy", "images", 58_000, 0.6),
        ("f30k_captions_0.4.npy", "captions", 58_000, 0.990),
    ],
)
def test_published_files(name, unit, mismatched, survival):
    noise = published_noise(name)
    assert noise.unit == unit
    assert np.count_nonzero(~noise.clean(F30K)) == mismatched
    assert noise.mismatch(F30K) == pytest.approx(0.4, abs=1e-12)
    assert noise.survival(F30K) == pytest.approx(survival, abs=5e-4)


@published
def test_published_image_files_are_one():
    assert published_noise("f30k_images_0.4.npy").digest == published_noise("f30k_images_repeated5_0.4.npy").digest


@published
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("f30k_images_0.4.npy", "file-captions"),
        ("f30k_images_repeated5_0.4.npy", "file-captions"),
        ("f30k_captions_0.4.npy", "file-images"),
    ],
)
def test_published_files_of_the_other_unit_are_refused(name, kind):
    with pytest.raises(UserError, match=r"moves (whole images|single captions)"):
        published_noise(name, kind)


@published
@pytest.mark.parametrize("name", ["f30k_images_0.4.npy", "f30k_captions_0.4.npy"])
@pytest.mark.parametrize("ratio", [0.0, 0.39, 0.41])
def test_published_files_at_another_ratio_are_refused(name, ratio):
    with pytest.raises(UserError, match=r"mismatches 0\.4000 of the (images|captions), but the noise ratio is"):
        published_noise(name, ratio=ratio)


@published
@pytest.mark.parametrize(
    ("protocol", "name"), [(SHUFFLES[0], "f30k_captions_0.4.npy"), (SHUFFLES[1], "f30k_images_0.4.npy")]
)
def test_shuffles_survive_as_the_published_files_do(protocol, name):
    drawn = draw(protocol, 0.4, F30K, 29_000, 0)
    assert drawn.survival(F30K) == pytest.approx(published_noise(name).survival(F30K), abs=3e-3)
