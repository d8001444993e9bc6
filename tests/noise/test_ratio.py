import pytest

from ncbench.errors import UserError
from ncbench.noise.ratio import amount_of, noise_in_words, ratio_in_words


def test_ratios_and_natural_noise():
    assert [amount_of(text) for text in ("0", "0.4", 0.25, "natural")] == [0.0, 0.4, 0.25, "natural"]
    for text in ("1", "-0.1", "nan", "much", None, ""):
        with pytest.raises(
            UserError, match=r"is not a noise ratio; .*, or natural where pairs are mismatched by nature"
        ):
            amount_of(text)


def test_noise_in_words():
    assert noise_in_words("shuffle-images", 0.4) == "shuffle-images 0.4"
    assert noise_in_words("clean", 0.0) == "clean pairs"
    assert noise_in_words("natural", 0.0) == "natural noise (truth unknown)"
    assert [ratio_in_words("clean", 0.0), ratio_in_words("natural", 0.0)] == ["0", "unknown"]
