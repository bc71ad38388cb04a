"""Rewriting a `.pt2` archive: how hostile ones are made."""

from __future__ import annotations

import json
import zipfile

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def members(path):
    """The archive's members by their path below the top folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path, content, compression=zipfile.ZIP_STORED, folder="model/"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(folder + name, value)
    return path


def edited(source, path, member, edit):
    """`source` with `edit(document)` applied to one JSON member, written to `path`."""
    content = members(source)
    document = json.loads(content[member])
    edit(document)
    content[member] = json.dumps(document).encode()
    return write(path, content)
