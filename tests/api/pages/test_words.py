"""How figures are written."""

from __future__ import annotations

import pytest

from api.pages import words


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (words.bytes_, 999, "999 bytes"),
        (words.bytes_, 1_727_015, "1.73 MB"),
        (words.bytes_, 999_999, "1.00 MB"),
        (words.bytes_, 383_421, "383 kB"),
        (words.count, 431080, "431,080"),
        (words.short, 5000, "5.00 k"),
        (words.short, 2_293_000, "2.29 M"),
        (words.short, 12, "12"),
        (words.seconds, 6.022966651168341e-05, "60.2 µs"),
        (words.seconds, 0.0013, "1.30 ms"),
        (words.seconds, 1.9, "1.90 s"),
        (words.seconds, 0.0, "0 s"),
        (words.seconds, 184, "3 min 4 s"),
        (words.seconds, 7384, "2 h 3 min"),
        (words.percent, 0.97, "97.00 %"),
        (words.moment, "2026-11-24T16:41:36.097000+01:00", "2026-11-24 15:41 UTC"),
    ],
)
def test_figures_are_written_in_units_that_fit(write, value, text) -> None:
    assert write(value) == text
