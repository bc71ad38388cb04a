"""What holds of every coder: what goes in comes out, and a damaged payload is refused or is another payload."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compression.coding.coder import CODERS, entropy_bits, smallest
from compression.errors import IntakeError
from tests.engine.coding.tensors import TENSORS, laplacian, ternary

each_coder = pytest.mark.parametrize("name", CODERS)


@each_coder
@settings(max_examples=60, deadline=None)
@given(symbols=TENSORS)
@example(symbols=np.array(-(1 << 31), np.int32))
@example(symbols=np.array([[-(1 << 31), (1 << 31) - 1]], np.int32))
@example(symbols=np.zeros((3, 0, 2), np.int32))
@example(symbols=np.full((5, 7), -3, np.int32))
def test_what_goes_in_comes_out(name: str, symbols: NDArray[np.int32]) -> None:
    payload = CODERS[name].encode(symbols)
    decoded = CODERS[name].decode(payload, symbols.shape)
    assert decoded.dtype == np.int32
    assert decoded.shape == symbols.shape
    assert np.array_equal(decoded, symbols)


@each_coder
@pytest.mark.parametrize(
    "symbols",
    [
        ternary((120, 200), 0.1),
        laplacian((40, 20, 5, 5), 0.6),
        laplacian((50, 40), 900.0),
        np.random.default_rng(1).integers(-(1 << 31), 1 << 31, 9000, dtype=np.int64).astype(np.int32),
        np.arange(6000, dtype=np.int32)[::-1],
        ternary((64, 96), 0.1).T,
    ],
    ids=["ternary", "kernels", "wide", "noise", "all-different", "not-contiguous"],
)
def test_larger_tensors_come_back(name: str, symbols: NDArray[np.int32]) -> None:
    payload = CODERS[name].encode(symbols)
    assert np.array_equal(CODERS[name].decode(payload, symbols.shape), symbols)


@each_coder
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_changed_payload_is_refused_or_decodes_to_the_shape(name: str, data: st.DataObject) -> None:
    symbols = data.draw(
        st.sampled_from([ternary((20, 30), 0.2), laplacian((6, 4, 3, 3), 2.0), laplacian((50,), 5000.0)])
    )
    payload = bytearray(CODERS[name].encode(symbols))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = CODERS[name].decode(bytes(payload), symbols.shape)
    except IntakeError:
        return
    assert decoded.shape == symbols.shape
    assert decoded.dtype == np.int32


@each_coder
@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=60), shape=st.sampled_from([(), (0,), (1,), (7,), (5, 4), (3, 2, 3, 3)]))
def test_any_bytes_are_refused_or_decode_to_the_shape(name: str, payload: bytes, shape: tuple[int, ...]) -> None:
    try:
        decoded = CODERS[name].decode(payload, shape)
    except IntakeError:
        return
    assert decoded.shape == shape


@each_coder
@pytest.mark.parametrize("symbols", [ternary((20, 30), 0.2), laplacian((6, 4, 3, 3), 2.0), laplacian((60,), 5000.0)])
def test_a_payload_cut_off_or_followed_by_more_is_refused(name: str, symbols: NDArray[np.int32]) -> None:
    payload = CODERS[name].encode(symbols)
    for stop in range(len(payload)):
        with pytest.raises(IntakeError, match="damaged") as refusal:
            CODERS[name].decode(payload[:stop], symbols.shape)
        assert refusal.value.kind == "model-unreadable"
    for more in (b"\0", b"\1", b"\xff" * 9):
        with pytest.raises(IntakeError, match="damaged"):
            CODERS[name].decode(payload + more, symbols.shape)


@each_coder
def test_no_symbols_are_no_bytes(name: str) -> None:
    assert CODERS[name].encode(np.zeros((4, 0), np.int32)) == b""
    with pytest.raises(IntakeError):
        CODERS[name].decode(b"\0", (4, 0))


def test_the_smallest_is_the_smallest() -> None:
    symbols = laplacian((30, 40), 1.0)
    name, payload = smallest(symbols)
    assert len(payload) == min(len(coder.encode(symbols)) for coder in CODERS.values())
    assert np.array_equal(CODERS[name].decode(payload, symbols.shape), symbols)


def test_entropy() -> None:
    assert entropy_bits(np.array([0, 1, 2, 3] * 5, np.int32)) == pytest.approx(40.0)
    assert entropy_bits(np.zeros(9, np.int32)) == 0.0
    assert entropy_bits(np.zeros((0,), np.int32)) == 0.0


def digest(payload: bytes) -> str:
    return f"{len(payload)}:{hashlib.sha256(payload).hexdigest()[:16]}"


def small() -> NDArray[np.int32]:
    return np.array([[0, 1, 0, -1], [0, 0, 2, 0]], np.int32)


def stripes() -> NDArray[np.int32]:
    """4,000 integers by rule alone, so that no random generator has to stay as it is."""
    places = np.arange(4000).reshape(50, 80)
    return ((places * places % 7 == 1) * (places % 5 - 2) * (places // 80 % 2)).astype(np.int32)


GOLDEN = {
    "huffman": ("110e42a07620", "619:7cd30dbd894ad565", "1426:4b17debf95549384"),
    "huffman-sparse": ("20202670203552d0e0", "236:946b550c6dde8930", "1176:8bb117f6d69b0f4f"),
    "range": ("111e9603804703", "379:01086b7f5066fe2d", "1410:70012850c57c9d9b"),
    "adaptive": ("0139fbed", "103:4d273a6f9a74cd9b", "2058:4cc96bf350bf1296"),
}


@each_coder
def test_the_same_bytes_everywhere(name: str) -> None:
    """A change here is a change of the file format: files that were written before can't be read any more."""
    wide = (stripes() * 70001 + stripes().cumsum(1) * 513).astype(np.int32)
    encode = CODERS[name].encode
    assert (encode(small()).hex(), digest(encode(stripes())), digest(encode(wide))) == GOLDEN[name]
