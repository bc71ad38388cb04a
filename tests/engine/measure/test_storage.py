"""The sentence of a report on what zeros are worth follows from bytes of files, whichever way they fall."""

from __future__ import annotations

import pytest

from compression.measure.storage import Storage


@pytest.mark.parametrize(
    ("sparse", "coded", "verdict", "text"),
    [
        (
            200,
            100,
            "pays when coded",
            "10.00× smaller entropy-coded (1,000 bytes dense, 200 sparse, 100 entropy-coded)",
        ),
        (200, 500, "pays when coded", "5.00× smaller sparse"),
        (1000, 999, "no gain", "no file is smaller for it"),
    ],
)
def test_the_sentence_follows_from_the_bytes(sparse: int, coded: int, verdict: str, text: str) -> None:
    claim = Storage(1000, sparse, coded, 1, 0, 0.9).claim()
    assert (claim.subject, claim.verdict, claim.effect) == ("zeros", verdict, "none")
    assert claim.text.startswith("90.0% of the masked weights are zero")
    assert text in claim.text
