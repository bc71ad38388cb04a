"""Changed files of each format are read or refused; nothing else happens. Longer runs: `python -m benchmarks.fuzz`."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from compression.errors import Refusal
from compression.intake.inspect import inspect_file
from tests.hostile.mutations import FORMATS

PROFILE = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # a seed can't be made simpler
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("mutated")


@pytest.mark.parametrize("name", FORMATS)
def test_the_unchanged_file_is_sound(place, name):
    path = place / FORMATS[name].filename
    path.write_bytes(FORMATS[name].sound())
    assert inspect_file(path, kind=FORMATS[name].kind)["kind"] == FORMATS[name].kind


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_file_is_read_or_refused(place, name):
    changed = FORMATS[name]
    path = place / changed.filename
    ended = {"read": 0, "refused": 0}

    @PROFILE
    @given(st.integers(0, 2**64))
    def try_one(seed):
        path.write_bytes(changed.mutated(Random(seed)))
        try:
            inspect_file(path, kind=changed.kind)
        except Refusal:
            ended["refused"] += 1
        else:
            ended["read"] += 1

    try_one()
    assert ended["refused"] > 0  # the changes get through to what they change
