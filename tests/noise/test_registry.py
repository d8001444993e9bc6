import hashlib
import json

import numpy as np
import pytest
from correspondences import FIVE_EACH, SHUFFLES, draw, drawn

from ncbench.data.splices import Splices
from ncbench.errors import UserError
from ncbench.noise.base import NoiseProtocol, noise_digest
from ncbench.noise.ratio import check_ratio
from ncbench.noise.registry import check_protocol, load_protocol, protocol_names


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(UserError, match=r"is not a noise ratio; it must be at least 0 and below 1"):
        check_ratio(ratio)
    with pytest.raises(UserError, match="is not a noise ratio"):
        draw("shuffle-captions", ratio, FIVE_EACH, 100, 0)


@pytest.mark.parametrize("true", [FIVE_EACH.reshape(100, 5), FIVE_EACH.astype(np.int32), FIVE_EACH + 1, FIVE_EACH - 1])
def test_malformed_truth_is_a_programming_error(true):
    with pytest.raises(ValueError, match=r"true must be an int64 vector with values in \[0, 100\)"):
        draw("shuffle-captions", 0.4, true, 100, 0)


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
    with pytest.raises(UserError, match=r"needs an index file; use file.*:PATH"):
        check_protocol(text)


def test_shuffle_takes_no_path():
    with pytest.raises(UserError, match=r"does not read a file, found 'shuffle-captions:a.npy'"):
        check_protocol("shuffle-captions:a.npy")


def test_registry_names_agree():
    assert set(protocol_names()) >= {*SHUFFLES, "file", "file-images", "file-captions"}
    for name in protocol_names():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert protocol.usage.startswith(name)
        assert protocol.summary


def test_record_is_json_without_the_vector():
    record = draw("shuffle-images", 0.4, FIVE_EACH, 100, 5).record()
    assert json.loads(json.dumps(record)) == record
    assert set(record) == {"protocol", "version", "unit", "ratio", "seed", "digest"}


def test_digest_is_of_little_endian_int64():
    content = b"\x01" + bytes(7) + b"\x02" + bytes(7)
    assert noise_digest(np.array([1, 2])) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("splices", "message"),
    [
        ("words", "returned str as splices, expected ncbench.Splices"),
        (Splices(np.array([[0, 90, 1, 1, 1]])), "returned invalid splices: a splice extends beyond the words"),
    ],
)
def test_splices_of_plugins_are_checked(monkeypatch, splices, message):
    recipe = NoiseProtocol("odd", "1", "words", "odd", lambda request: (request.true.copy(), "words", splices))
    monkeypatch.setattr("ncbench.noise.registry.load_protocol", lambda name: recipe)
    with pytest.raises(UserError, match=message):
        drawn("odd")
