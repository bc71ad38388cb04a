"""A job's checkpoints in the object store, so that another machine can go on.

A checkpoint is a folder of files. Its objects are named by their content, `jobs/JOB/checkpoints/NAME/SHA256-FILE`, and
`jobs/JOB/checkpoints/NAME/manifest.json`, which names them, is written last: whoever reads finds the old one or the new
one, whole, whenever a worker was killed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

from store.objects import ObjectMissing, Objects
from worker import files

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"

log = logging.getLogger(__name__)


def prefix(job_id: str) -> str:
    return f"jobs/{job_id}/{CHECKPOINTS}"


def save(objects: Objects, job_id: str, out: Path, name: str, outgoing: Path) -> None:
    """Stores the folder `out/checkpoints/name` that the child announced; `outgoing` is ours, for copies.

    Raises files.Escape for a folder that isn't what it should be, ObjectsError.
    """
    files.require_plain(name)
    copies = outgoing / CHECKPOINTS
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    with files.opened(out, CHECKPOINTS, name) as folder:
        for file in files.names(folder):
            if not file.endswith(".partial"):
                files.copy(folder, file, copies / file)
    place = f"{prefix(job_id)}/{name}"
    manifest = {}
    before = objects.list(place)
    for path in sorted(copies.iterdir()):
        key = f"{_sha256(path)}-{path.name}"
        if f"{place}/{key}" not in before:
            objects.put_file(f"{place}/{key}", path)
        manifest[path.name] = key
    listing = copies / MANIFEST
    listing.write_text(json.dumps(manifest))
    objects.put_file(f"{place}/{MANIFEST}", listing)
    for key in set(before) - {f"{place}/{kept}" for kept in (MANIFEST, *manifest.values())}:
        objects.delete(key)
    shutil.rmtree(copies)


def restore(objects: Objects, job_id: str, out: Path) -> list[str]:
    """Fetches every whole checkpoint into `out/checkpoints`, before the child starts; returns their names."""
    place = prefix(job_id)
    found = sorted(key.split("/")[-2] for key in objects.list(place) if key.endswith(f"/{MANIFEST}"))
    return [name for name in found if _restore(objects, f"{place}/{name}", out / CHECKPOINTS / name)]


def _restore(objects: Objects, place: str, folder: Path) -> bool:
    listing = folder.with_name(folder.name + ".partial") / MANIFEST
    whole = True
    try:
        objects.get_file(f"{place}/{MANIFEST}", listing)
        manifest = json.loads(listing.read_text())
        listing.unlink()
        for file, key in manifest.items():
            path = listing.parent / file
            objects.get_file(f"{place}/{key}", path)
            whole = whole and _sha256(path) == key.partition("-")[0]
    except ObjectMissing:  # a worker that has lost its lease may have put a newer one in its place
        whole = False
    if not whole:
        log.warning("the checkpoint %s is not whole, it is left out", place)
        shutil.rmtree(listing.parent)
        return False
    listing.parent.rename(folder)
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
