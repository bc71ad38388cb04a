"""What a job is given, fetched into its folder and checked: the model (or an artifact that serves as one) and data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store import jobs, uploads
from store.leases import UploadKind
from store.objects import ObjectMissing
from worker.service import Worker

LONGEST_NAME = 200  # bytes; a file system takes 255


class InputGone(Exception):
    pass


@dataclass(frozen=True)
class Input:
    """A fetched file; `architecture` belongs to a model of plain weights."""

    path: Path
    architecture: Mapping[str, Any] | None = None


def fetch(worker: Worker, id_: str, workspace: str, folder: Path) -> Input:
    """The file of a model, a dataset or an artifact, by the kind that its id tells. Raises InputGone, ObjectsAway."""
    if id_.startswith("art_"):
        row = jobs.find_artifact(worker.database, id_, workspace)
        name, key, architecture = (row.name, row.key, None) if row is not None else ("", "", None)
    else:
        kind: UploadKind = "dataset" if id_.startswith("dst_") else "model"
        row = uploads.find(worker.database, kind, id_, workspace)
        name, key, architecture = (
            (row.filename, f"blobs/{row.sha256}", row.architecture) if row is not None else ("", "", None)
        )
    if row is None:
        raise InputGone(f"{id_} has been deleted")
    path = folder / id_ / _file_name(name)
    try:
        worker.objects.get_file(key, path)
    except ObjectMissing as error:
        raise InputGone(f"the bytes of {id_} are no longer in the object store") from error
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != row.sha256:
            raise InputGone(f"the bytes of {id_} in the object store are damaged: they have another SHA-256")
    path.chmod(0o444)
    return Input(path, architecture)


def list_models(found: Mapping[str, Input], folder: Path) -> Path:
    """`models.json`, which tells the engine where the models lie that the job's steps may name."""
    listed = {id_: {"path": str(entry.path), "architecture": entry.architecture} for id_, entry in found.items()}
    path = folder / "models.json"
    path.write_text(json.dumps(listed))
    return path


def _file_name(name: str) -> str:
    """The user's own name, since errors name the file; "file" where it can't be one. Its folder keeps it apart."""
    usable = name.isprintable() and "/" not in name and name not in {"", ".", ".."}
    return name if usable and len(name.encode()) <= LONGEST_NAME else "file"
