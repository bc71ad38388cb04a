"""A `.nwk` file's network in another format."""

from __future__ import annotations

import tempfile
from pathlib import Path

from compression.container.network import read_nwk
from compression.errors import SpecError
from compression.export.writers import export_network
from compression.spec import Export


def decode_file(source: Path, kind: Export, out: Path) -> list[Path]:
    """Writes `out`; where the network has variants, one file beside it for each (OUT.VARIANT.onnx). Each is compared
    with the network before it stands under its name; if one isn't the network, none does."""
    network = read_nwk(source)
    if not out.parent.is_dir():
        raise SpecError("there is no such folder", str(out.parent))
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".decoding-") as folder:
        files = export_network(network, [kind], Path(folder), stem="model")
        written = []
        for file in files:
            place = out if file.variant == "full" else out.with_suffix(f".{file.variant}{out.suffix}")
            (Path(folder) / file.name).replace(place)
            written.append(place)
    return written
