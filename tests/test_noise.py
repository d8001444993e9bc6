import hashlib
import json
import os
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncbench.errors import UserError
from ncbench.noise import (
    check_protocol,
    check_ratio,
    correspondence_digest,
    draw_noise,
    load_noise,
    load_protocol,
    protocol_names,
    save_noise,
)

SHUFFLES = ["shuffle-captions", "shuffle-images"]
FIVE_EACH = np.arange(500) // 5  # 100 images, 500 captions

examples = settings(max_examples=60, deadline=None)
ratios = st.sampled_from([0.0, 0.1, 0.2, 0.29, 0.4, 0.5, 0.6, 0.8, 0.99])
seeds = st.integers(0, 2**31)


@st.composite
def correspondences(draw):
    """Any number of captions per image (also none), captions in any order: (true, n_images)."""
    counts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=20).filter(any))
    true = np.repeat(np.arange(len(counts)), counts)
    return draw(st.permutations(true.tolist()).map(lambda t: np.array(t, np.int64))), len(counts)


def save(folder, array, name="index.npy"):
    np.save(folder / name, array)
    return f"file:{folder / name}"


def images_moved(n, ratio, seed=0):
    """An image-format file as published: int(ratio * n) images permuted, here cyclically, so that none stays."""
    chosen = np.random.default_rng(seed).permutation(n)[: int(ratio * n)]
    moved = np.arange(n)
    moved[chosen] = np.roll(chosen, 1)
    return moved


def captions_moved(true, ratio, seed=0):
    chosen = np.random.default_rng(seed).permutation(len(true))[: int(ratio * len(true))]
    moved = true.copy()
    moved[chosen] = np.random.default_rng(seed + 1).permutation(moved[chosen])
    return moved


# Shuffles


@examples
@given(correspondences(), ratios, seeds)
def test_caption_shuffle_exchanges_the_images_of_the_selected_number(data, ratio, seed):
    true, n_images = data
    noise = draw_noise("shuffle-captions", ratio, true, n_images, seed)
    assert noise.unit == "captions"
    assert noise.claimed.dtype == np.int64
    assert np.array_equal(np.sort(noise.claimed), np.sort(true))
    assert np.count_nonzero(noise.claimed != true) <= int(ratio * len(true))


@examples
@given(correspondences(), ratios, seeds)
def test_image_shuffle_moves_whole_images(data, ratio, seed):
    true, n_images = data
    noise = draw_noise("shuffle-images", ratio, true, n_images, seed)
    assert noise.unit == "images"
    moved = {}
    for image, claim in zip(true.tolist(), noise.claimed.tolist(), strict=True):
        assert moved.setdefault(image, claim) == claim
    assert len(set(moved.values())) == len(moved)
    assert sum(image != claim for image, claim in moved.items()) <= int(ratio * n_images)


@pytest.mark.parametrize("protocol", SHUFFLES)
@pytest.mark.parametrize("ratio", [0.2, 0.29, 0.5])
def test_exact_number_is_selected_and_few_land_on_themselves(protocol, ratio):
    # Of the items selected, one on average lands on itself.
    n, draws = 400, 200
    true = np.arange(n)
    moved = [int((draw_noise(protocol, ratio, true, n, seed).claimed != true).sum()) for seed in range(draws)]
    selected = int(ratio * n)
    assert max(moved) == selected
    assert np.mean(moved) == pytest.approx(selected - 1, abs=5 / np.sqrt(draws))


def test_self_landings_of_captions_are_those_of_protocol():
    true = np.arange(5000) // 5
    landed = [
        2000 - int((draw_noise("shuffle-captions", 0.4, true, 1000, s).claimed != true).sum()) for s in range(200)
    ]
    assert np.mean(landed) == pytest.approx(1 + 4 * 0.4, abs=5 * np.sqrt(2.6 / 200))


@examples
@given(correspondences(), ratios, seeds, st.sampled_from(SHUFFLES))
def test_clean_label_is_that_of_the_result(data, ratio, seed, protocol):
    true, n_images = data
    noise = draw_noise(protocol, ratio, true, n_images, seed)
    expected = [claim == own for claim, own in zip(noise.claimed.tolist(), true.tolist(), strict=True)]
    assert noise.clean(true).tolist() == expected
    assert noise.mismatch(true) == pytest.approx(1 - sum(expected) / len(expected))
    kept = {own for own, is_clean in zip(true.tolist(), expected, strict=True) if is_clean}
    assert noise.survival(true) == pytest.approx(len(kept) / len(set(true.tolist())))


@pytest.mark.parametrize("protocol", SHUFFLES)
def test_seed_decides(protocol):
    first, again, other = (draw_noise(protocol, 0.4, FIVE_EACH, 100, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.claimed, again.claimed)
    assert first == again
    assert not np.array_equal(first.claimed, other.claimed)
    assert first != other


def test_protocols_draw_apart():
    true = np.arange(200)
    captions, images = (draw_noise(protocol, 0.4, true, 200, 0).claimed for protocol in SHUFFLES)
    assert not np.array_equal(captions, images)


@pytest.mark.parametrize("protocol", SHUFFLES)
def test_selection_grows_with_the_ratio(protocol):
    true = np.arange(1000)
    low, high = (draw_noise(protocol, ratio, true, 1000, 3).claimed != true for ratio in (0.2, 0.6))
    # All but those that land on themselves at the higher ratio.
    assert np.count_nonzero(low & ~high) <= 5


@pytest.mark.parametrize(
    ("protocol", "digest"),
    [
        ("shuffle-captions", "12e107aaebd7dc18d5f0e222000a3efc01d00debc75ec47bba18b987f3dc94b9"),
        ("shuffle-images", "5960198521fdd82710bb159510fff905aeac94577af9e44f865363ea31ac656f"),
    ],
)
def test_noise_of_version_1_never_changes(protocol, digest):
    assert load_protocol(protocol).version == "1"
    assert draw_noise(protocol, 0.4, FIVE_EACH, 100, 7).digest == digest


@pytest.mark.parametrize("protocol", SHUFFLES)
def test_ratio_0_is_clean_and_leaves_the_truth_alone(protocol):
    true = FIVE_EACH.copy()
    noise = draw_noise(protocol, 0, true, 100, 0)
    assert np.array_equal(noise.claimed, true)
    assert noise.claimed is not true
    draw_noise(protocol, 0.8, true, 100, 0)
    assert np.array_equal(true, FIVE_EACH)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(UserError, match=r"noise ratio .* at least 0 and below 1"):
        check_ratio(ratio)
    with pytest.raises(UserError, match="noise ratio"):
        draw_noise("shuffle-captions", ratio, FIVE_EACH, 100, 0)


@pytest.mark.parametrize("true", [FIVE_EACH.reshape(100, 5), FIVE_EACH.astype(np.int32), FIVE_EACH + 1, FIVE_EACH - 1])
def test_malformed_truth_is_a_programming_error(true):
    with pytest.raises(ValueError, match=r"true must be an int64 vector with values in \[0, 100\)"):
        draw_noise("shuffle-captions", 0.4, true, 100, 0)


# Names


@pytest.mark.parametrize("text", ["shuffle-captions", "shuffle-images", "file:a.npy", "file-images:C:/a.npy"])
def test_known_protocols_pass_without_touching_files(text):
    check_protocol(text)


def test_unknown_protocol_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown noise protocol 'shufle-captions'.*'shuffle-captions'") as caught:
        check_protocol("shufle-captions")
    for usage in ("shuffle-images", "file:PATH", "file-images:PATH", "file-captions:PATH"):
        assert usage in str(caught.value)


@pytest.mark.parametrize("text", ["file", "file:", "file-images", "file-captions:"])
def test_file_protocol_needs_a_path(text):
    with pytest.raises(UserError, match=r"names no index file; write file.*:PATH"):
        check_protocol(text)


def test_shuffle_takes_no_path():
    with pytest.raises(UserError, match=r"reads no file, found 'shuffle-captions:a.npy'"):
        check_protocol("shuffle-captions:a.npy")


def test_registry_names_agree():
    assert set(protocol_names()) >= {*SHUFFLES, "file", "file-images", "file-captions"}
    for name in protocol_names():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert protocol.usage.startswith(name)
        assert protocol.summary


# Index files that fit


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint64", ">i4", "uint8"])
def test_image_file_is_applied_through_the_truth(tmp_path, dtype):
    moved = images_moved(100, 0.4)
    noise = draw_noise(save(tmp_path, moved.astype(dtype)), 0.4, FIVE_EACH, 100, 0)
    assert noise.unit == "images"
    assert noise.claimed.dtype == np.int64
    assert noise.claimed.tolist() == [int(moved[image]) for image in FIVE_EACH]


def test_repeated_image_file_is_of_unit_images(tmp_path):
    moved = images_moved(100, 0.4)
    per_image = draw_noise(save(tmp_path, moved, "a.npy"), 0.4, FIVE_EACH, 100, 0)
    repeated = draw_noise(save(tmp_path, np.repeat(moved, 5), "b.npy"), 0.4, FIVE_EACH, 100, 0)
    assert repeated.unit == "images"
    assert repeated.digest == per_image.digest


def test_caption_file_is_claimed_itself(tmp_path):
    moved = captions_moved(FIVE_EACH, 0.4)
    noise = draw_noise(save(tmp_path, moved), 0.4, FIVE_EACH, 100, 0)
    assert noise.unit == "captions"
    assert np.array_equal(noise.claimed, moved)


def test_seed_does_not_change_a_file(tmp_path):
    protocol = save(tmp_path, images_moved(100, 0.4))
    assert draw_noise(protocol, 0.4, FIVE_EACH, 100, 0).digest == draw_noise(protocol, 0.4, FIVE_EACH, 100, 1).digest


@pytest.mark.parametrize("kind", ["file", "file-images", "file-captions"])
def test_units_agree_for_one_caption_per_image(tmp_path, kind):
    moved = images_moved(100, 0.4)
    save(tmp_path, moved)
    noise = draw_noise(f"{kind}:{tmp_path / 'index.npy'}", 0.4, np.arange(100), 100, 0)
    assert np.array_equal(noise.claimed, moved)
    assert noise.unit == ("captions" if kind == "file-captions" else "images")


def test_caption_file_need_not_be_a_permutation(tmp_path):
    claimed = np.arange(100)
    claimed[:40] = 99
    assert np.array_equal(draw_noise(save(tmp_path, claimed), 0.4, np.arange(100), 100, 0).claimed, claimed)


def test_as_many_images_as_captions_in_another_order_must_be_stated(tmp_path):
    true = np.roll(np.arange(100), 1)
    moved = images_moved(100, 0.4)
    path = tmp_path / "index.npy"
    with pytest.raises(UserError, match=r"reads differently per image and per caption.*file-images:PATH or"):
        draw_noise(save(tmp_path, moved), 0.4, true, 100, 0)
    assert np.array_equal(draw_noise(f"file-images:{path}", 0.4, true, 100, 0).claimed, moved[true])
    np.save(path, moved[true])
    assert np.array_equal(draw_noise(f"file-captions:{path}", 0.4, true, 100, 0).claimed, moved[true])


@pytest.mark.parametrize("kind", ["file", "file-images", "file-captions"])
def test_clean_file_is_of_either_unit(tmp_path, kind):
    np.save(tmp_path / "clean.npy", FIVE_EACH)
    noise = draw_noise(f"{kind}:{tmp_path / 'clean.npy'}", 0, FIVE_EACH, 100, 0)
    assert np.array_equal(noise.claimed, FIVE_EACH)


@pytest.mark.parametrize("protocol", SHUFFLES)
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.8, 0.95])
def test_what_shuffles_draw_passes_as_a_file_of_that_ratio(tmp_path, protocol, ratio):
    # Small, uneven and often self-landing: the tolerance must not refuse what an honest shuffle gives.
    true = np.repeat(np.arange(30), np.arange(30) % 5 + 1)
    for seed in range(50):
        drawn = draw_noise(protocol, ratio, true, 30, seed)
        read = draw_noise(save(tmp_path, drawn.claimed), ratio, true, 30, seed)
        assert np.array_equal(read.claimed, drawn.claimed)
        assert read.unit == drawn.unit


# Index files that do not fit


def refuse(protocol, match, ratio=0.4, true=FIVE_EACH, n_images=100):
    with pytest.raises(UserError, match=match) as caught:
        draw_noise(protocol, ratio, true, n_images, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path):
    message = refuse(f"file:{tmp_path / 'none.npy'}", "cannot read noise file .*No such file.*nothing is drawn")
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


def test_every_truncation_is_refused(tmp_path):
    np.save(tmp_path / "whole.npy", FIVE_EACH)
    whole = (tmp_path / "whole.npy").read_bytes()
    for length in (6, 7, 8, 9, 10, 60, 127, 128, 129, len(whole) - 8, len(whole) - 1):
        (tmp_path / "part.npy").write_bytes(whole[:length])
        refuse(f"file:{tmp_path / 'part.npy'}", "is damaged or holds no plain integers")


def test_garbled_header(tmp_path):
    np.save(tmp_path / "whole.npy", FIVE_EACH)
    whole = bytearray((tmp_path / "whole.npy").read_bytes())
    for position in range(10, 80):
        for byte in b"('\x00\xff":
            changed = whole.copy()
            changed[position] = byte
            (tmp_path / "garbled.npy").write_bytes(changed)
            with suppress(UserError):  # or what was changed does not matter; no other error
                draw_noise(f"file:{tmp_path / 'garbled.npy'}", 0, FIVE_EACH, 100, 0)


def test_objects(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([1, None], object), allow_pickle=True)
    refuse(f"file:{tmp_path / 'objects.npy'}", "damaged or holds no plain integers: .*allow_pickle")


@pytest.mark.parametrize("dtype", ["float64", "bool", "complex64", "U3", "m8[s]"])
def test_wrong_dtype(tmp_path, dtype):
    refuse(save(tmp_path, np.zeros(500, dtype)), r"has dtype .*; it must hold integers, such as int64")


@pytest.mark.parametrize("shape", [(100, 5), (500, 1), ()])
def test_wrong_shape(tmp_path, shape):
    refuse(save(tmp_path, np.zeros(shape, np.int64)), "has shape .* must be a vector")


@pytest.mark.parametrize("n", [0, 99, 101, 499, 501])
def test_wrong_length_names_both_that_fit(tmp_path, n):
    refuse(save(tmp_path, np.zeros(n, np.int64)), rf"has {n} entries; .* 100 \(one per image\) or 500 \(one per capt")


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
    assert draw_noise(protocol, 0.4, true, 1000, 0).unit == unit
    share = r"0\.4000" if unit == "images" else r"0\.39\d\d"
    refuse(protocol, rf"mismatches {share} of the {unit}, but noise ratio {ratio} was asked", ratio, true, 1000)


def test_one_mismatch_is_too_many_for_a_clean_run(tmp_path):
    claimed = FIVE_EACH.copy()
    claimed[0] = 1
    refuse(save(tmp_path, claimed), "but noise ratio 0.0 was asked for", ratio=0)


# Saving


def test_saved_noise_loads_as_it_was(tmp_path):
    noise = draw_noise("shuffle-captions", 0.4, FIVE_EACH, 100, 5)
    save_noise(noise, tmp_path / "noise.npy")
    loaded = load_noise(tmp_path / "noise.npy")
    assert loaded == noise
    assert np.array_equal(loaded.claimed, noise.claimed)
    as_file = draw_noise(f"file:{tmp_path / 'noise.npy'}", 0.4, FIVE_EACH, 100, 0)
    assert as_file.digest == noise.digest


def test_record_is_json_without_the_vector():
    record = draw_noise("shuffle-images", 0.4, FIVE_EACH, 100, 5).record()
    assert json.loads(json.dumps(record)) == record
    assert set(record) == {"protocol", "version", "unit", "ratio", "seed", "digest"}


def test_digest_is_of_little_endian_int64():
    content = b"\x01" + bytes(7) + b"\x02" + bytes(7)
    assert correspondence_digest(np.array([1, 2])) == hashlib.sha256(content).hexdigest()


def test_saved_noise_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "noise.npy"
    save_noise(draw_noise("shuffle-captions", 0.4, FIVE_EACH, 100, 5), path)
    np.save(path, FIVE_EACH)
    with pytest.raises(UserError, match=r"noise.npy has digest .* but noise.json says"):
        load_noise(path)


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        (None, "cannot read .*noise.json, which describes noise.npy"),
        ("{", "is not JSON"),
        ("[]", "does not describe noise"),
        ('{"format": "other"}', "'format' must be 'ncbench-noise-1'"),
        ('{"format": "ncbench-noise-1", "protocol": "x"}', "missing or unknown fields"),
    ],
)
def test_malformed_sidecar_is_refused(tmp_path, sidecar, message):
    path = tmp_path / "noise.npy"
    save_noise(draw_noise("shuffle-captions", 0.4, FIVE_EACH, 100, 5), path)
    path.with_suffix(".json").unlink()
    if sidecar is not None:
        path.with_suffix(".json").write_text(sidecar)
    with pytest.raises(UserError, match=message):
        load_noise(path)


def test_noise_is_saved_as_npy_only(tmp_path):
    with pytest.raises(ValueError, match=r"saved as .npy, not 'noise.txt'"):
        save_noise(draw_noise("shuffle-captions", 0.4, FIVE_EACH, 100, 5), tmp_path / "noise.txt")


# The published files (f30k at 40 %)

SHARED = Path(os.environ.get("NCBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PUBLISHED = SHARED / "data" / "noise_index"
F30K = np.arange(145_000) // 5

published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="published noise files not found; set NCBENCH_SHARED to the folder with data/"
)


def published_noise(name, kind="file", ratio=0.4):
    return draw_noise(f"{kind}:{PUBLISHED / name}", ratio, F30K, 29_000, 0)


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
    with pytest.raises(UserError, match=r"mismatches 0\.4000 of the (images|captions), but noise ratio"):
        published_noise(name, ratio=ratio)


@published
@pytest.mark.parametrize(
    ("protocol", "name"), [(SHUFFLES[0], "f30k_captions_0.4.npy"), (SHUFFLES[1], "f30k_images_0.4.npy")]
)
def test_shuffles_survive_as_the_published_files_do(protocol, name):
    drawn = draw_noise(protocol, 0.4, F30K, 29_000, 0)
    assert drawn.survival(F30K) == pytest.approx(published_noise(name).survival(F30K), abs=3e-3)
