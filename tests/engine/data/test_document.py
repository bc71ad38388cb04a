"""What docs/data.md declares is a valid spec, and its bounds are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from compression.intake import arrays, data_zip, images, picture
from compression.spec import DataSpec

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text()


def test_the_example_is_valid() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert DataSpec.model_validate(json.loads(example)).preprocess["x"].resize is not None


def test_the_bounds_are_the_codes() -> None:
    for bound in (
        f"At most {arrays.MAX_ARRAYS} arrays, {data_zip.MAX_BYTES >> 30} GiB unpacked",
        f"more than {data_zip.SMALL >> 20} MiB unpacked may not be {data_zip.MAX_RATIO} times",
        f"{images.MAX_IMAGES:,} images, {images.MAX_CLASSES:,} classes",
        f"{picture.MAX_PIXELS // 10**6} million pixels each",
        f"{picture.MAX_FILE >> 20} MiB a file",
    ):
        assert bound in TEXT
    assert (images.MAX_TOTAL_PIXELS, images.SMALL_TOTAL, images.PIXELS_A_BYTE) == (2**32, 2**28, 1000)
    assert all(ending[1:].upper().replace("JPG", "JPEG") in TEXT.upper() for ending in picture.FORMATS)


def test_every_kind_of_warning_is_named() -> None:
    folder = Path(__file__).parents[3] / "compression" / "data"
    kinds = {kind for path in folder.glob("*.py") for kind in re.findall(r'Concern\(\s*"([a-z-]+)"', path.read_text())}
    assert kinds
    assert all(f"`{kind}`" in TEXT for kind in kinds)
