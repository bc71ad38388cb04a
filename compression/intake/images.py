"""A zip of images: what its folders mean.

`train/cat/1.png` (splits and classes), `cat/1.png` (classes; splits are made), `train/1.png` or `1.png` (no labels);
`calibration/1.png` holds unlabelled samples besides. One folder around all of it is looked through. A class's index is
its place among the sorted folder names.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from compression.errors import DataError
from compression.intake.data_zip import open_zip, reading
from compression.intake.picture import FORMATS, MAX_FILE, format_of, open_picture
from compression.layout import SPLITS

MAX_IMAGES = 500_000
MAX_TOTAL_PIXELS = 1 << 32
SMALL_TOTAL = 1 << 28  # pixels; from here on they must be paid for in bytes
PIXELS_A_BYTE = 1000  # of the whole archive: a photograph has about 5, a page of text about 100
MAX_CLASSES = 10_000
JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
JUNK_FOLDER = "__MACOSX"


@dataclass(frozen=True)
class Sample:
    """One image: `label` is its class's index, or None."""

    member: zipfile.ZipInfo
    split: str
    label: int | None

    @property
    def name(self) -> str:
        return self.member.filename


@dataclass(frozen=True)
class ImageSet:
    """`samples` by name; `classes`: the sorted folder names, none without labels; `skipped`: files that systems leave
    (`.DS_Store`, `Thumbs.db`, `__MACOSX`)."""

    path: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    skipped: int

    def split(self, name: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.split == name]

    def pictures(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, bytes, Image.Image]]:
        """Each sample with its file's bytes (their checksum verified) and its image, opened and not yet decoded."""
        pixels, most = 0, min(MAX_TOTAL_PIXELS, max(SMALL_TOTAL, PIXELS_A_BYTE * self.path.stat().st_size))
        with open_zip(self.path, MAX_IMAGES) as (archive, _):
            for sample in samples:
                with reading(sample.name):
                    content = archive.read(sample.member)
                image = open_picture(content, sample.name)
                pixels += image.width * image.height
                if pixels > most:
                    message = f"more than {most:,} pixels together, in a file of this size: make the images smaller"
                    raise DataError(message, sample.name, "data-unsafe")
                yield sample, content, image


def is_image_set(path: Path) -> bool:
    """Whether the file is a zip with images in it, by their names."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    with open_zip(path, MAX_IMAGES) as (_, members):
        return any(format_of(member.filename) is not None for member in members if not _is_junk(member.filename))


def read_image_set(path: Path) -> ImageSet:
    """The images by split and class; none of them is read yet. DataError: the folders make no sense, and why."""
    with open_zip(path, MAX_IMAGES) as (_, members):
        kept = sorted((m for m in members if not _is_junk(m.filename)), key=lambda member: member.filename)
    for member in kept:
        if format_of(member.filename) is None:
            raise DataError(f"an image set holds nothing but {' '.join(FORMATS)}", member.filename)
        if member.file_size > MAX_FILE:
            raise DataError(f"an image of more than {MAX_FILE >> 20} MiB", member.filename, "data-unsafe")
    paths = _unwrapped([member.filename.split("/") for member in kept])
    with_splits = _has_splits(paths)
    placed = [_place(path_, with_splits) for path_ in paths]
    labelled = {folder is not None for split, folder in placed if split != "calibration"}
    if len(labelled) > 1:
        bare = next(m for m, (split, folder) in zip(kept, placed, strict=True) if not folder and split != "calibration")
        raise DataError("an image outside the class folders, where others are in them", bare.filename)
    classes = tuple(sorted({folder for _, folder in placed if folder is not None}))
    if len(classes) > MAX_CLASSES:
        raise DataError(f"more than {MAX_CLASSES:,} class folders", path.name)
    if len(classes) == 1:
        raise DataError("one class folder alone: images without labels go to the top of the archive", classes[0])
    index = {name: number for number, name in enumerate(classes)}
    samples = [
        Sample(member, split, None if folder is None else index[folder])
        for member, (split, folder) in zip(kept, placed, strict=True)
    ]
    if not any(sample.split == "train" for sample in samples):
        raise DataError("there are no training images", path.name)
    return ImageSet(path, tuple(samples), classes, len(members) - len(kept))


def _is_junk(name: str) -> bool:
    *folders, last = name.split("/")
    return JUNK_FOLDER in folders or last in JUNK or last.startswith("._")


def _unwrapped(paths: list[list[str]]) -> list[list[str]]:
    """Without the one folder that a file manager puts around what it packs."""
    tops = {parts[0] for parts in paths}
    if len(tops) == 1 and next(iter(tops)).lower() not in SPLITS and all(len(parts) > 2 for parts in paths):
        return [parts[1:] for parts in paths]
    return paths


def _has_splits(paths: list[list[str]]) -> bool:
    """Whether the top folders are splits. `calibration` alone beside classes or plain images leaves them training."""
    tops = {parts[0].lower() for parts in paths if len(parts) > 1}
    splits = tops & (SPLITS.keys() - {"calibration"})
    if {"val", "validation"} <= tops:
        raise DataError("two folders of validation images: keep one of val and validation", "val")
    others = {parts[0] for parts in paths if len(parts) == 1 or parts[0].lower() not in SPLITS}
    if splits and others:
        odd = min(others)
        raise DataError(f"beside the splits {', '.join(sorted(splits))}: put everything into splits, or nothing", odd)
    return bool(splits)


def _place(parts: list[str], with_splits: bool) -> tuple[str, str | None]:
    """(split, class folder or None) of one path."""
    name = "/".join(parts)
    split, folders = "train", parts[:-1]
    if folders and (with_splits or folders[0].lower() == "calibration"):
        split, folders = SPLITS[folders[0].lower()], folders[1:]
    if len(folders) > 1:
        raise DataError("a folder too deep: SPLIT/CLASS/IMAGE or CLASS/IMAGE is wanted", name)
    if split == "calibration" and folders:
        raise DataError("calibration images have no labels: put them into calibration/ itself", name)
    return split, folders[0] if folders else None
