"""What a job delivers: the files of `out/artifacts`, stored under the attempt's prefix; `report.json` is read too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.leases import Lease
from store.objects import Objects
from store.outcomes import NewArtifact
from worker import files, untrusted_json

MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
EXACT = (".pt2", ".safetensors", ".nwk")  # read again, the very network; an .onnx may come back as other layers
REPORT = "report.json"
MAX_REPORT_BYTES = 16 * 1024**2

Json = dict[str, Any]


def store(
    objects: Objects, lease: Lease, out: Path, outgoing: Path, inspection: Json | None
) -> tuple[list[NewArtifact], Json]:
    """Stores the files of a child that has ended; nobody sees them before `outcomes.succeed`. Returns the report too.

    Raises files.Escape where they aren't what they should be, ObjectsError.
    """
    found = []
    with files.opened(out, "artifacts") as folder:
        for name in files.names(folder):
            files.copy(folder, name, outgoing / name)
            found.append(outgoing / name)
    report = _report(outgoing / REPORT)
    made = []
    for path in found:
        stored = objects.put_file(f"jobs/{lease.id}/{lease.attempt}/{path.name}", path)
        made.append(
            NewArtifact(
                name=path.name,
                media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
                size=stored.size,
                sha256=stored.sha256,
                key=stored.key,
                inspection=inspection if path.suffix in EXACT else None,
            )
        )
    return made, report


def _report(path: Path) -> Json:
    if not path.exists():
        raise files.Escape(f"there is no {REPORT}")
    if path.stat().st_size > MAX_REPORT_BYTES:
        raise files.Escape(f"{REPORT} is larger than {MAX_REPORT_BYTES} bytes")
    try:
        report = untrusted_json.parse(path.read_bytes())
    except ValueError as error:
        raise files.Escape(f"{REPORT}: {error}") from error
    if not isinstance(report, dict):
        raise files.Escape(f"{REPORT} is no object")
    return report
