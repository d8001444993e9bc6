import numpy as np
import pytest
from correspondences import FIVE_EACH, correspondences, drawn, examples, pinned_split, ratios, seeds, split_of
from hypothesis import given

from ncbench.data.dataset import Captions, CaptionVectors, Split
from ncbench.data.splices import NO_DONOR, Splices
from ncbench.data.vocabulary import SPECIAL, UNKNOWN_ID, Vocabulary
from ncbench.errors import UserError

VOCABULARY = Vocabulary((*SPECIAL, *(f"w{n}" for n in range(4, 16))))


def spliced_by_hand(captions, rows):
    """The word ids of captions after splices, as lists."""
    words = [captions.tokens(caption).tolist() for caption in range(len(captions))]
    changed = [list(caption) for caption in words]
    for caption, start, donor, donor_start, length in rows:
        for step in range(length):
            changed[caption][start + step] = words[donor][donor_start + step]
    return changed


@examples
@given(correspondences().filter(lambda data: len(np.unique(data[0])) > 1), ratios, seeds)
def test_an_exact_number_of_captions_change_and_keep_their_image(data, ratio, seed):
    true, n_images = data
    split = split_of(true, n_images, words=40)
    noise = drawn("partial", ratio, seed, true, n_images, split)
    seen = noise.seen(split.captions, Vocabulary((*SPECIAL, *map(str, range(40)))))
    changed = [not np.array_equal(seen.tokens(c), split.captions.tokens(c)) for c in range(len(true))]
    assert sum(changed) == int(ratio * len(true))
    assert np.array_equal(noise.clean(true), ~np.array(changed))
    assert np.array_equal(noise.claimed, true)
    assert np.array_equal(seen.lengths, split.captions.lengths)
    assert noise.unit == "words"


def test_half_of_the_words_are_those_of_a_caption_of_another_image():
    split = split_of(FIVE_EACH, 100)
    noise = drawn("partial", 0.6, split=split)
    for caption, start, donor, donor_start, length in noise.splices.rows.tolist():
        own, other = split.captions.lengths[[caption, donor]] - 2
        assert FIVE_EACH[caption] != FIVE_EACH[donor]
        assert length == min((own + 1) // 2, other)
        assert 1 <= start <= own - length + 1
        assert 1 <= donor_start <= other - length + 1
    starts = noise.splices.rows[:, 1]
    longest = (split.captions.lengths[noise.splices.captions] == 11) & (noise.splices.rows[:, 4] == 5)
    assert set(starts[longest].tolist()) == {1, 2, 3, 4, 5}


def test_methods_see_the_spliced_words_and_texts():
    split = split_of(FIVE_EACH, 100)
    noise = drawn("partial", 0.4, split=split)
    seen, expected = noise.seen(split.captions, VOCABULARY), spliced_by_hand(split.captions, noise.splices.rows)
    assert [seen.tokens(caption).tolist() for caption in range(500)] == expected
    assert seen.texts == [" ".join(f"w{word}" for word in caption[1:-1]) for caption in expected]
    tokens, lengths = seen.padded(np.array([3, 499]))
    assert tokens[1, : lengths[1]].tolist() == expected[499]


def test_donors_give_their_original_words():
    captions = Captions(["a b", "c d"], [[1, 4, 5, 2], [1, 6, 7, 2]])
    rows = np.array([[0, 1, 1, 1, 1], [1, 1, 0, 1, 1]])
    seen = captions.spliced(Splices(rows), VOCABULARY.words)
    assert [seen.tokens(0).tolist(), seen.tokens(1).tolist()] == [[1, 6, 5, 2], [1, 4, 7, 2]]
    assert captions.tokens(0).tolist() == [1, 4, 5, 2]


def test_captions_get_longer_shorter_and_unknown_words():
    captions = Captions(["a b c", "d", "e f", "g h"], [[1, 4, 5, 6, 2], [1, 7, 2], [1, 8, 9, 2], [1, 10, 11, 2]])
    rows = np.array([[0, 1, 0, 2, 1, 3], [1, 1, 0, 1, 3, 1], [3, 2, NO_DONOR, 0, 1, 1]])
    splices = Splices(rows)
    seen = captions.spliced(splices, VOCABULARY.words)
    assert [seen.tokens(caption).tolist() for caption in range(4)] == [
        [1, 5, 2],
        [1, 4, 5, 6, 2],
        [1, 8, 9, 2],
        [1, 10, UNKNOWN_ID, 2],
    ]
    assert seen.texts == ["w5", "w4 w5 w6", "e f", "w10 <unk>"]
    assert seen.lengths.tolist() == [3, 5, 4, 4]
    assert (splices.growth.tolist(), splices.own.tolist()) == ([-2, 2, 0], [True, False, False])
    assert captions.tokens(0).tolist() == [1, 4, 5, 6, 2]


def test_a_last_caption_that_grows():
    captions = Captions(["a b c", "d"], [[1, 4, 5, 6, 2], [1, 7, 2]])
    seen = captions.spliced(Splices(np.array([[1, 1, 0, 1, 3, 1]])), VOCABULARY.words)
    assert [seen.tokens(0).tolist(), seen.tokens(1).tolist()] == [[1, 4, 5, 6, 2], [1, 4, 5, 6, 2]]


def test_rows_of_five_columns_replace_as_many_words():
    rows = np.array([[0, 1, 1, 2, 3], [4, 1, 1, 2, 1]])
    assert Splices(rows).table.tolist() == [[0, 1, 1, 2, 3, 3], [4, 1, 1, 2, 1, 1]]
    assert Splices(rows).growth.tolist() == [0, 0]


def test_spliced_pairs_have_changed_words():
    noise = drawn("partial")
    changes = noise.changes(FIVE_EACH)
    assert set(changes[~noise.clean(FIVE_EACH)]) == {"words"}
    assert set(changes[noise.clean(FIVE_EACH)]) == {""}


def test_ratio_0_is_the_clean_run():
    noise = drawn("partial", 0.0)
    assert noise.splices is None
    assert noise.digest == drawn("semantic", 0.0).digest


def test_lower_ratios_splice_some_of_the_same_captions_in_the_same_way():
    low, high = (set(map(tuple, drawn("partial", ratio).splices.rows.tolist())) for ratio in (0.2, 0.6))
    assert low < high


def test_identical_captions_are_refused():
    true = np.arange(4)
    split = Split(split_of(true, 4).images, Captions(["a"] * 4, [[1, 4, 2]] * 4), true)
    with pytest.raises(UserError, match=r"'partial': no caption of another image has other words than caption \d"):
        drawn("partial", 0.5, 0, true, 4, split)


def test_captions_that_are_vectors_are_refused():
    true = np.arange(4)
    split = Split(split_of(true, 4).images, CaptionVectors([""] * 4, np.ones((4, 3), np.float32)), true)
    with pytest.raises(UserError, match="'partial': captions of this dataset are vectors and have no words"):
        drawn("partial", 0.5, 0, true, 4, split)
    with pytest.raises(ValueError, match="vectors have no words"):
        split.captions.tokens(0)
    with pytest.raises(ValueError, match="vectors have no words"):
        split.captions.spliced(Splices(np.zeros((0, 5), int)), [])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((1, 4), np.int64), r"\(n, 5\) int64, found int64 \(1, 4\)"),
        (np.zeros((1, 5), np.int32), "found int32"),
        (np.zeros((1, 7), np.int64), r"found int64 \(1, 7\)"),
        (np.array([[0, 1, -2, 1, 1]]), "negative number"),
        (np.array([[0, 1, 1, -1, 1]]), "negative number"),
        (np.array([[-1, 1, 1, 1, 1]]), "negative number"),
        (np.array([[0, 1, 1, 1, 1, 0]]), "length of 0"),
        (np.array([[0, -1, 1, 1, 1]]), "negative number"),
        (np.array([[0, 1, 1, 1, 0]]), "length of 0"),
        (np.array([[0, 1, 1, 1, 1], [0, 2, 1, 1, 1]]), "spliced twice"),
    ],
)
def test_invalid_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        Splices(rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([2, 1, 0, 1, 1], "captions beyond 2"),
        ([0, 1, 2, 1, 1], "captions beyond 2"),
        ([0, 0, 1, 1, 1], "extends beyond the words of caption 0"),
        ([0, 1, 1, 0, 1], "extends beyond"),
        ([0, 2, 1, 1, 2], "extends beyond"),
        ([0, 1, 1, 2, 2], "extends beyond"),
        ([0, 1, 1, 1, 3, 2], "extends beyond"),
        ([0, 1, 1, 1, 2, 3], "extends beyond"),
        ([0, 1, -1, 1, 2, 2], "extends beyond"),
        ([0, 1, -1, 0, 2, 1], "extends beyond"),
        ([0, 1, 1, 2**63 - 1, 2, 2], "extends beyond"),
        ([0, 2**63 - 1, 1, 1, 2, 2], "extends beyond"),
        ([0, 1, 1, 1, 2**63 - 1, 2], "extends beyond"),
        ([0, 1, 1, 1, 2, 2**63 - 1], "extends beyond"),
    ],
)
def test_rows_that_do_not_fit_the_captions(row, message):
    lengths = np.array([4, 4])
    Splices(np.array([[0, 1, 1, 1, 2]])).check(lengths)
    Splices(np.array([[0, 1, 1, 1, 1, 2], [1, 1, -1, 0, 1, 2]])).check(lengths)
    with pytest.raises(ValueError, match=message):
        Splices(np.array([row])).check(lengths)


def test_noise_of_version_1_never_changes():
    assert drawn("partial", 0.4, 7, split=pinned_split()).digest[:16] == "ba967dce9b1ff697"
