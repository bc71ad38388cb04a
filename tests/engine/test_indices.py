"""Ids without a row in an embedding are refused before anything is trained, by the input's name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from compression.data import Dataset, Split
from compression.errors import DataError
from compression.events import Reporter
from compression.indices import check_indices
from compression.intake.weights import save_network
from compression.network import Input, Network, Signature
from compression.pipeline import Job, load
from compression.spec import parse_job
from tests.engine.attention_nets import TOKENS, WORDS, lifted


def dataset_of(*splits: dict[str, Tensor]) -> Dataset:
    train, validation, test = (Split(inputs, None) for inputs in splits)
    return Dataset(train, validation, test, None)


def texts(highest: int, samples: int = 20) -> dict[str, Tensor]:
    tokens = torch.randint(0, WORDS, (samples, TOKENS))
    tokens[3, 2] = highest
    return {"tokens": tokens, "mask": torch.ones(samples, TOKENS, dtype=torch.int64)}


def test_the_highest_row_is_the_last_that_fits() -> None:
    network = lifted("pre-norm")
    good, bad = texts(WORDS - 1), texts(WORDS)
    check_indices(network, dataset_of(good, good, good))
    for place, split in enumerate(("training", "validation", "test")):
        parts = [good, good, good]
        parts[place] = bad
        with pytest.raises(DataError, match=f"{split} split holds the id {WORDS}, and the embedding words") as caught:
            check_indices(network, dataset_of(*parts))
        assert caught.value.where == "tokens"


def test_a_negative_id_is_refused() -> None:
    bad = texts(-1)
    with pytest.raises(DataError, match="holds the id -1"):
        check_indices(lifted("post-norm"), dataset_of(bad, bad, bad))


class Shifted(nn.Module):
    """Two inputs; the ids of the second are computed before they are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds, self.head = nn.Embedding(9, 4), nn.Embedding(3, 4), nn.Linear(4, 2)

    def forward(self, tokens: Tensor, kinds: Tensor) -> Tensor:
        x = self.words(tokens) + self.kinds(kinds - 1)
        return self.head(torch.mean(x, 1))


def test_ids_are_looked_at_as_they_arrive() -> None:
    inputs = (Input("tokens", (4,), "int64"), Input("kinds", (4,), "int64"))
    network = Network(fx.symbolic_trace(Shifted().eval()), Signature(inputs))
    good = {"tokens": torch.full((5, 4), 8), "kinds": torch.full((5, 4), 3)}
    check_indices(network, dataset_of(good, good, good))
    bad = {**good, "kinds": torch.full((5, 4), 0)}
    with pytest.raises(DataError, match="embedding kinds has 3 rows") as caught:
        check_indices(network, dataset_of(good, bad, good))
    assert caught.value.where == "kinds"


def test_a_job_is_refused_when_its_files_are_loaded(tmp_path: Path) -> None:
    network = lifted("causal")
    save_network(network, tmp_path / "m.safetensors")
    tokens = np.random.default_rng(0).integers(0, WORDS, (60, TOKENS))
    tokens[11, 4] = 99
    np.savez(tmp_path / "d.npz", tokens=tokens, y=np.arange(60) % 5)
    spec = parse_job({"steps": [{"method": "finetune"}]})
    job = Job(spec=spec, model=tmp_path / "m.safetensors", data=tmp_path / "d.npz", out=tmp_path)
    with pytest.raises(DataError, match="holds the id 99") as caught:
        load(job, Reporter(io.StringIO()))
    assert caught.value.where == "tokens"
