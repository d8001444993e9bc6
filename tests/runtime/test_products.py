"""Products of layers that torch computes as one operation, beside the same in simple steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from ncbench.runtime.products import ProductCounter, counting

ROWS, WIDTH, HIDDEN = 4 * 3, 8, 16


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int, both: bool) -> None:
    layer = kind(WIDTH, HIDDEN, batch_first=True, bidirectional=both)
    words = torch.ones(4, 3, WIDTH)
    expected = (2 if both else 1) * 2 * ROWS * gates * HIDDEN * (WIDTH + HIDDEN)
    assert counting(lambda: layer(words))[1] == expected
    with torch.no_grad():
        assert counting(lambda: layer(words))[1] == expected
    trained = counting(lambda: layer(words)[0].sum().backward())[1]
    assert 2 * expected < trained <= 3 * expected


def test_a_layer_of_a_transformer() -> None:
    layer, sequences = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval(), torch.ones(2, 5, 16)
    expected = 2 * 2 * 5 * (16 * 48 + 16 * 16 + 2 * 16 * 32) + 4 * 2 * 5 * 5 * 16
    assert counting(lambda: layer(sequences))[1] == expected
    with torch.no_grad():
        assert counting(lambda: layer(sequences))[1] == expected


def test_attention() -> None:
    layer, sequences = nn.MultiheadAttention(16, 4, batch_first=True).eval(), torch.ones(2, 5, 16)
    expected = 2 * 2 * 5 * 4 * 16 * 16 + 4 * 2 * 5 * 5 * 16
    for recorded in (True, False):
        with torch.set_grad_enabled(recorded):
            found = counting(lambda: layer(sequences, sequences, sequences, need_weights=False))[1]
        assert found == expected
    query = torch.ones(2, 3, 5, 8, requires_grad=True)
    assert counting(lambda: scaled_dot_product_attention(query, query, query))[1] == 2 * 3 * 4 * 5 * 5 * 8
    trained = counting(lambda: scaled_dot_product_attention(query, query, query).sum().backward())[1]
    assert trained >= 3 * 2 * 3 * 4 * 5 * 5 * 8


def test_frozen_factors() -> None:
    frozen, trained = torch.ones(3, 4), torch.ones(4, 5, requires_grad=True)
    with ProductCounter() as counter:
        product = frozen @ trained
        product @ torch.ones(5, 2)
        frozen @ torch.ones(4, 7)
    assert (counter.flops, counter.frozen) == (2 * 3 * (4 * 5 + 5 * 2 + 4 * 7), 2 * 3 * 4 * 7)
