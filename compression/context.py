"""What a step is given besides the network: data, device, seed, the original, a way to report and to save its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from compression.checkpoint import Checkpoints
    from compression.data import Dataset
    from compression.events import Reporter
    from compression.network import Network
    from compression.opaque import OpaqueOnnx


@dataclass(frozen=True)
class Context:
    """`original`: in the job of a model that couldn't be lifted, where no method runs that looks at it, that model.
    `checkpoints` holds the step's own stages; `save_seconds` is how often training saves its place there. `models`
    are those that the job's steps name, by id. `counts_bytes`: the job delivers a coded file, so what each step
    saves of it is told."""

    data: Dataset | None
    original: Network
    device: torch.device
    seed: int
    reporter: Reporter
    checkpoints: Checkpoints
    save_seconds: float = 20.0
    models: Mapping[str, Network | OpaqueOnnx] = field(default_factory=dict)
    counts_bytes: bool = False

    def require_data(self, method: str) -> Dataset:
        from compression.errors import SpecError

        if self.data is None:
            raise SpecError(f"{method} needs data: give a dataset", "/dataset")
        return self.data

    def model(self, id_: str) -> Network | OpaqueOnnx:
        """A model that the spec names in a field of the type `ModelId`; it was read before the first step."""
        return self.models[id_]

    def progress(self, fraction: float, message: str = "", **metrics: Any) -> None:
        self.reporter.progress(fraction, message, **metrics)
