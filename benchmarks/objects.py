"""Pictures of things, for a network of ImageNet's: photographs cut out of their surroundings, from Debian's
tuxpaint-stamps-default, set before plain colours. They have no labels of ImageNet's; its networks tell them apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

STAMPS = Path("/usr/share/tuxpaint/stamps")
KINDS = ("animals", "food", "hobbies", "household", "medical", "military", "plants", "sports", "town", "vehicles")
BICUBIC, LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS


def objects(views: int, side: int) -> Iterator[tuple[str, Image.Image]]:
    """(path in a zip, picture of side × side pixels): each thing is in one split alone, about 5 : 1 : 2, and in train
    `views` times, turned, mirrored, of another size and at another place."""
    if not STAMPS.is_dir():
        raise SystemExit("the pictures are missing: apt-get install tuxpaint-stamps-default")
    random = np.random.default_rng(0)
    for split, files in _splits(random).items():
        for view in range(views if split == "train" else 1):
            for index, file in enumerate(files):
                yield f"{split}/{index:03}-{view}.png", _picture(file, random, side)


def _splits(random: np.random.Generator) -> dict[str, Sequence[Path]]:
    paths = [path for kind in KINDS for path in sorted((STAMPS / kind).rglob("*.png"))]
    photographs = [path for path in paths if "cartoon" not in path.parts and "_mirror" not in path.stem]
    mixed = [photographs[place] for place in random.permutation(len(photographs))]
    return {"test": mixed[0::4], "validation": mixed[1::8], "train": [*mixed[2::4], *mixed[3::4], *mixed[5::8]]}


def _picture(path: Path, random: np.random.Generator, side: int) -> Image.Image:
    with Image.open(path) as file:
        thing = file.convert("RGBA")
    thing = thing.crop(thing.getbbox())
    if random.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    thing = thing.rotate(random.uniform(-15, 15), BICUBIC, expand=True)
    scale = side * random.uniform(0.6, 1) / max(thing.size)
    thing = thing.resize((max(1, int(thing.width * scale)), max(1, int(thing.height * scale))), LANCZOS)
    above, below = random.integers(90, 256, (2, 3))
    share = np.linspace(0, 1, side)[:, None, None]
    colours = np.broadcast_to((1 - share) * above + share * below, (side, side, 3))
    picture = Image.fromarray(colours.astype(np.uint8))
    place = [int(random.integers(0, side - length + 1)) for length in thing.size]
    picture.paste(thing, (place[0], place[1]), thing)
    return picture
