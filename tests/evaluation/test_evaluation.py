import json
import math
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ncbench.evaluation.beliefs import Detection, RematchQuality, detect, rank_correlation, reliability, rematch_quality
from ncbench.evaluation.retrieval import Recalls, Retrieval, evaluate, ranks_i2t, ranks_t2i

examples = settings(max_examples=60)


@st.composite
def scored(draw):
    """Similarities with many ties, any number of captions per image (also none), captions in any order."""
    n_images, n_captions = draw(st.integers(1, 8)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.integers(1, 30))
    similarities = rng.integers(-levels, levels, (n_images, n_captions)).astype(np.float32) / 7
    return similarities, rng.integers(0, n_images, n_captions)


def naive_i2t(similarities, true):
    ranks = []
    for image, row in enumerate(similarities.tolist()):
        own = [score for score, owner in zip(row, true.tolist(), strict=True) if owner == image]
        if own:
            # In descending order, other images' captions go before equal ones of this image.
            order = sorted((-score, owner == image) for score, owner in zip(row, true.tolist(), strict=True))
            ranks.append(next(place for place, (_, is_own) in enumerate(order) if is_own))
    return ranks


def naive_t2i(similarities, true):
    ranks = []
    for caption, owner in enumerate(true.tolist()):
        order = sorted((-float(row[caption]), image == owner) for image, row in enumerate(similarities))
        ranks.append(next(place for place, (_, is_own) in enumerate(order) if is_own))
    return ranks


# Ranks


@examples
@given(scored())
def test_ranks_agree_with_sorting(data):
    similarities, true = data
    assert ranks_i2t(similarities, true).tolist() == naive_i2t(similarities, true)
    assert ranks_t2i(similarities, true).tolist() == naive_t2i(similarities, true)


def test_ranks_agree_with_sorting_across_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    similarities = rng.integers(0, 9, (23, 70)).astype(np.float32)
    true = rng.integers(0, 23, 70)
    for block in (1, 70, 150, 23 * 70):
        monkeypatch.setattr("ncbench.evaluation.retrieval._BLOCK_ELEMENTS", block)
        assert ranks_i2t(similarities, true).tolist() == naive_i2t(similarities, true)
        assert ranks_t2i(similarities, true).tolist() == naive_t2i(similarities, true)


def test_worked_example():
    similarities = np.array(
        [
            [0.9, 0.2, 0.3, 0.1, 0.05, 0.8, 0.4, 0.3, 0.2, 0.1],
            [0.95, 0.1, 0.2, 0.1, 0.3, 0.4, 0.85, 0.1, 0.7, 0.6],
        ],
        np.float32,
    )
    true = np.arange(10) // 5
    assert ranks_i2t(similarities, true).tolist() == [0, 1]
    assert ranks_t2i(similarities, true).tolist() == [1, 0, 0, 1, 1, 1, 0, 1, 0, 0]
    scores = evaluate(similarities, true)
    assert scores.i2t == Recalls(r1=50, r5=100, r10=100, medr=1, meanr=1.5)
    assert scores.t2i == Recalls(r1=50, r5=100, r10=100, medr=1, meanr=1.5)
    assert scores.rsum == 500


@examples
@given(scored(), st.randoms(use_true_random=False))
def test_order_of_images_and_captions_does_not_matter(data, random):
    similarities, true = data
    images, captions = list(range(len(similarities))), list(range(len(true)))
    random.shuffle(images)
    random.shuffle(captions)
    new_number = np.argsort(images)
    shuffled, new_true = similarities[images][:, captions], new_number[true[captions]]
    assert sorted(ranks_i2t(shuffled, new_true)) == sorted(ranks_i2t(similarities, true))
    assert np.array_equal(ranks_t2i(shuffled, new_true), ranks_t2i(similarities, true)[captions])


@examples
@given(scored())
def test_increasing_transforms_keep_the_ranks(data):
    similarities, true = data
    for changed in (similarities.astype(np.float64) ** 3, 4 * similarities - 100, np.arctan(similarities)):
        assert np.array_equal(ranks_i2t(changed, true), ranks_i2t(similarities, true))
        assert np.array_equal(ranks_t2i(changed, true), ranks_t2i(similarities, true))


def test_constant_scores_earn_nothing():
    similarities, true = np.zeros((40, 200), np.float32), np.arange(200) // 5
    assert (ranks_i2t(similarities, true) == 195).all()
    assert (ranks_t2i(similarities, true) == 39).all()
    assert evaluate(similarities, true).rsum == 0


def test_perfect_scores_earn_all():
    true = np.arange(200) // 5
    similarities = (np.arange(40)[:, None] == true).astype(np.float32)
    assert evaluate(similarities, true).rsum == pytest.approx(600)


def test_images_without_captions_are_not_queried_but_compete():
    similarities = np.array([[0.5, 0.1], [0.9, 0.2], [0.3, 0.4]], np.float32)
    true = np.array([0, 2])
    assert ranks_i2t(similarities, true).tolist() == [0, 0]
    assert ranks_t2i(similarities, true).tolist() == [1, 0]


def test_memory_besides_the_matrix_is_bounded():
    similarities = np.random.default_rng(0).standard_normal((2000, 10_000), dtype=np.float32)  # 80 MB
    true = np.arange(10_000) // 5
    tracemalloc.start()
    evaluate(similarities, true)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < similarities.nbytes / 8


# Recalls


@examples
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_recalls_follow_the_published_formulas(ranks):
    scores = Recalls.from_ranks(np.array(ranks))
    ordered = sorted(ranks)
    median = (ordered[(len(ranks) - 1) // 2] + ordered[len(ranks) // 2]) / 2
    for k, recall in ((1, scores.r1), (5, scores.r5), (10, scores.r10)):
        assert recall == pytest.approx(100 * sum(rank < k for rank in ranks) / len(ranks))
    assert scores.medr == math.floor(median) + 1
    assert scores.meanr == pytest.approx(sum(ranks) / len(ranks) + 1)


@pytest.mark.parametrize("order", ["grouped", "mixed"])
def test_folds_are_contiguous_images_with_their_captions(order):
    rng = np.random.default_rng(0)
    true = np.arange(300) // 5
    if order == "mixed":
        true = rng.permutation(true)
    similarities = rng.standard_normal((60, 300)).astype(np.float32)
    similarities += 2 * (np.arange(60)[:, None] == true)
    parts = []
    for start in (0, 20, 40):
        inside = [caption for caption in range(300) if start <= true[caption] < start + 20]
        part = np.array([[similarities[image, c] for c in inside] for image in range(start, start + 20)])
        parts.append(evaluate(part, true[inside] - start))
    whole = evaluate(similarities, true, folds=3)
    for side in ("i2t", "t2i"):
        for name in ("r1", "r5", "r10", "medr", "meanr"):
            expected = sum(getattr(getattr(part, side), name) for part in parts) / 3
            assert getattr(getattr(whole, side), name) == pytest.approx(expected)
    assert whole.rsum > evaluate(similarities, true).rsum


def test_retrieval_survives_json():
    scores = evaluate(np.random.default_rng(0).random((7, 14), np.float32), np.arange(14) // 2)
    content = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert content["rsum"] == scores.rsum
    assert Retrieval.from_dict(content) == scores
    json.dumps(asdict(scores), allow_nan=False)


TRUE = np.arange(20) // 5
SCORES = np.random.default_rng(0).random((4, 20), np.float32)


def spoiled(value):
    changed = SCORES.copy()
    changed[2, 3] = value
    return changed


@pytest.mark.parametrize(
    ("similarities", "true", "message"),
    [
        (spoiled(np.nan), TRUE, "NaN or infinity"),
        (spoiled(np.inf), TRUE, "NaN or infinity"),
        (spoiled(-np.inf), TRUE, "NaN or infinity"),
        (SCORES.T, TRUE, r"true: expected the image of each of 4 captions, found shape \(20,\)"),
        (SCORES[0], TRUE, r"similarities: expected a matrix \(images, captions\), found shape \(20,\)"),
        (SCORES, TRUE[:-1], r"of each of 20 captions, found shape \(19,\)"),
        (SCORES, TRUE + 1, r"true: expected images in \[0, 4\), found 1 to 4"),
        (SCORES, TRUE - 1, r"true: expected images in \[0, 4\), found -1 to 2"),
        (SCORES[:, :0], TRUE[:0], "nothing to rank"),
    ],
)
@pytest.mark.parametrize("function", [evaluate, ranks_i2t, ranks_t2i])
def test_malformed_similarities_are_refused(function, similarities, true, message):
    with pytest.raises(ValueError, match=message):
        function(similarities, true)


@pytest.mark.parametrize("folds", [0, -1, 3, 8])
def test_folds_must_divide_the_images(folds):
    with pytest.raises(ValueError, match=f"{folds} folds do not divide 4 images"):
        evaluate(SCORES, TRUE, folds)


def test_fold_without_captions_is_refused():
    with pytest.raises(ValueError, match="images 2 to 3 form a fold without captions"):
        evaluate(SCORES, TRUE % 2, folds=2)


# Detection


@st.composite
def beliefs(draw):
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.integers(1, 40))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return (rng.integers(0, levels + 1, n) / levels).astype(dtype), rng.random(n) < draw(st.floats(0, 1))


def naive_auc(p_clean, clean):
    wins = pairs = 0.0
    for p, is_clean in zip(p_clean, clean, strict=True):
        for q, other_is_clean in zip(p_clean, clean, strict=True):
            if is_clean and not other_is_clean:
                pairs += 1
                wins += 1 if p > q else 0.5 if p == q else 0
    return wins / pairs if pairs else None


def naive_ece(p_clean, clean):
    error = 0.0
    for number in range(15):
        inside = [i for i, p in enumerate(p_clean) if min(math.floor(float(p) * 15), 14) == number]
        if inside:
            confidence = sum(float(p_clean[i]) for i in inside) / len(inside)
            accuracy = sum(bool(clean[i]) for i in inside) / len(inside)
            error += len(inside) / len(p_clean) * abs(confidence - accuracy)
    return error


@examples
@given(beliefs())
def test_detection_agrees_with_counting(data):
    p_clean, clean = data
    scores = detect(p_clean, clean)
    flagged = [bool(p < 0.5) for p in p_clean]
    found = sum(flag and not is_clean for flag, is_clean in zip(flagged, clean, strict=True))
    mismatched = sum(not is_clean for is_clean in clean)
    assert scores.auc == (None if (auc := naive_auc(p_clean, clean)) is None else pytest.approx(auc))
    assert scores.precision == (found / sum(flagged) if any(flagged) else None)
    assert scores.recall == (found / mismatched if mismatched else None)
    assert scores.calibration_error == pytest.approx(naive_ece(p_clean, clean), abs=1e-9)
    assert (scores.mismatched, scores.pairs) == (mismatched, len(clean))
    json.dumps(asdict(scores), allow_nan=False)


def test_detection_by_hand():
    p_clean = np.array([0.9, 0.6, 0.4, 0.6, 0.1])
    clean = np.array([True, True, True, False, False])
    scores = detect(p_clean, clean)
    assert scores.auc == pytest.approx(4.5 / 6)
    assert scores.precision == pytest.approx(1 / 2)
    assert scores.recall == pytest.approx(1 / 2)
    # Bins of width 1/15: 0.9 | 0.6 and 0.6 | 0.4 | 0.1.
    assert scores.calibration_error == pytest.approx((0.1 + 0.2 + 0.6 + 0.1) / 5)


@examples
@given(beliefs())
def test_reliability_sums_up_to_the_calibration_error(data):
    p_clean, clean = data
    bins = reliability(p_clean, clean)
    assert bins.pairs.sum() == len(clean)
    assert bins.pairs.min() > 0
    columns = zip(bins.pairs, bins.mean_p_clean, bins.clean_share, strict=True)
    error = sum(n * abs(mean - share) for n, mean, share in columns)
    assert error / len(clean) == pytest.approx(naive_ece(p_clean, clean), abs=1e-6)


def test_reliability_by_hand():
    bins = reliability(np.array([0.9, 0.6, 0.4, 0.62, 1.0]), np.array([True, True, True, False, False]))
    assert bins.pairs.tolist() == [1, 2, 1, 1]
    assert bins.mean_p_clean == pytest.approx([0.4, 0.61, 0.9, 1.0])
    assert bins.clean_share.tolist() == [1.0, 0.5, 1.0, 0.0]


@pytest.mark.parametrize("p_clean", [np.array([]), np.array([0.5, 0.5]), np.array([1.5]), np.array([np.nan])])
def test_reliability_refuses_what_detect_refuses(p_clean):
    for judge in (detect, reliability):
        with pytest.raises(ValueError, match=r"P\(clean\)"):
            judge(p_clean, np.ones(1 if len(p_clean) else 0, bool))


def test_perfect_and_reversed_beliefs():
    clean = np.arange(10) < 6
    perfect, reversed_ = detect(clean.astype(float), clean), detect((~clean).astype(float), clean)
    assert perfect == Detection(1.0, 1.0, 1.0, 0.0, 4, 10)
    assert reversed_ == Detection(0.0, 0.0, 0.0, 1.0, 4, 10)


def test_constant_belief_has_auc_of_a_half():
    assert detect(np.full(10, 0.7), np.arange(10) < 6).auc == 0.5


def test_one_class_only_has_no_auc():
    clean = np.ones(4, bool)
    assert detect(np.ones(4), clean) == Detection(None, None, None, 0.0, 0, 4)
    assert detect(np.zeros(4), ~clean) == Detection(None, 1.0, 1.0, 0.0, 4, 4)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_beliefs_outside_0_to_1_are_refused(value):
    with pytest.raises(ValueError, match=r"P\(clean\) must be in \[0, 1\]"):
        detect(np.array([0.5, value]), np.array([True, False]))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (0,)])
def test_beliefs_of_other_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"one P\(clean\) per pair"):
        detect(np.zeros(shape), np.zeros(0 if shape == (0,) else 2, bool))


# Rank correlation


def naive_rank_correlation(one, other):
    """Pearson's correlation of ranks that are counted: 1 for the smallest, half a place for each tie."""
    n = len(one)
    x, y = (
        [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values] for values in (one, other)
    )
    covariance = sum((a - (n + 1) / 2) * (b - (n + 1) / 2) for a, b in zip(x, y, strict=True))
    spread = [math.sqrt(sum((a - (n + 1) / 2) ** 2 for a in ranks)) for ranks in (x, y)]
    return covariance / (spread[0] * spread[1]) if all(spread) else None


@examples
@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 30))
def test_rank_correlation_agrees_with_counting(seed, n, levels):
    one, other = np.random.default_rng(seed).integers(0, levels, (2, n)) / levels
    expected, found = naive_rank_correlation(one.tolist(), other.tolist()), rank_correlation(one, other)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
    if found is not None:
        assert found == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)
        assert found == rank_correlation(np.exp(one), other**3)  # ranks only
    json.dumps(found, allow_nan=False)


def test_rank_correlation_by_hand():
    one = np.array([0.1, 0.2, 0.3, 0.4])
    assert rank_correlation(one, one**5) == 1
    assert rank_correlation(one, -one) == -1
    # Ranks 1, 2, 3, 4 and 2, 1, 4, 3: 1 - 6 * 4 / (4 * 15).
    assert rank_correlation(one, np.array([5.0, 1.0, 9.0, 7.0])) == pytest.approx(0.6)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_rank_correlation_with_a_constant_is_undefined(n):
    assert rank_correlation(np.full(n, 0.3), np.arange(n, dtype=float)) is None
    assert rank_correlation(np.arange(n, dtype=float), np.full(n, 0.3)) is None


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (np.zeros(3), np.zeros(2), r"one length, found shapes \(3,\) and \(2,\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "two vectors of one length"),
        (np.array([0.0, np.nan]), np.arange(2.0), "contain NaN"),
        (np.arange(2.0), np.array([0.0, np.nan]), "contain NaN"),
    ],
)
def test_malformed_values_to_rank_are_refused(one, other, message):
    with pytest.raises(ValueError, match=message):
        rank_correlation(one, other)


# Rematches


def by_distance(captions, images):
    return 1 - np.abs(captions - images) / 10


def test_rematches_by_hand():
    claimed = np.array([0, 9, 5, 3])
    captions, images = np.array([1, 2, 2, 3, 0]), np.array([1, 8, 7, 3, 9])
    quality = rematch_quality(captions, images, np.array([1.0, 0.2, 0.2, 1.0, 0.0]), claimed, by_distance, 10)
    # Caption 1: 1 against 9, closer; 2: 8 and 7 against 5, farther; 3: as claimed, not closer; 0: weight 0.
    assert quality == RematchQuality(
        count=4,
        closer=0.25,
        # Of ten images, those nearer to 1 than 9 is, to 2 than 5 is (twice), and to 3 than 3 is.
        chance=pytest.approx((8 + 5 + 5 + 0) / 40, abs=0.1),
        rematched_closeness=pytest.approx((1 + 0.4 + 0.5 + 1) / 4),
        claimed_closeness=pytest.approx((0.2 + 0.7 + 0.7 + 1) / 4),
    )
    json.dumps(asdict(quality), allow_nan=False)


def test_no_rematches():
    none = np.array([], np.int64)
    assert rematch_quality(none, none, none.astype(float), np.arange(3), by_distance, 3) == RematchQuality(
        0, None, None, None, None
    )


@examples
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_rematches_agree_with_counting(seed, n):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 4, (6, 5)) / 4
    claimed, captions, images = rng.integers(0, 5, 6), rng.integers(0, 6, n), rng.integers(0, 5, n)
    quality = rematch_quality(captions, images, rng.random(n) + 0.1, claimed, lambda c, i: table[c, i], 5)
    closer = [table[c, i] > table[c, claimed[c]] for c, i in zip(captions, images, strict=True)]
    assert quality.count == n
    assert quality.closer == pytest.approx(sum(closer) / n)


def test_chance_is_that_of_all_images_of_the_training_set():
    rng = np.random.default_rng(1)
    table = rng.integers(0, 6, (2000, 40)) / 5
    claimed, captions, images = rng.integers(0, 40, 2000), np.arange(2000), rng.integers(0, 40, 2000)
    given = (captions, images, np.ones(2000), claimed, lambda c, i: table[c, i], 40)
    expected = (table > table[captions, claimed][:, None]).mean()
    quality = rematch_quality(*given)
    assert quality.chance == pytest.approx(expected, abs=0.006)  # three standard errors of 64,000 draws
    assert quality.closer == pytest.approx(quality.chance, abs=0.035)  # these rematches are random
    assert rematch_quality(*given) == quality
    right = table[captions].argmax(1)
    assert rematch_quality(captions, images, np.ones(2000), right, lambda c, i: table[c, i], 40).chance == 0


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_malformed_weights_are_refused(weight):
    one = np.array([0])
    with pytest.raises(ValueError, match="finite and at least 0"):
        rematch_quality(one, one, np.array([weight]), one, by_distance, 1)


def test_rematches_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\), \(1,\) and \(2,\)"):
        rematch_quality(np.arange(2), np.arange(1), np.ones(2), np.arange(2), by_distance, 2)
