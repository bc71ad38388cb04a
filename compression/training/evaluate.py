"""A network's outputs and its figures on a split, in PyTorch: for decisions on validation data while a job runs.

The figures of a report don't come from here but from the delivered files (`compression/measure/`).
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from compression.data import Split
from compression.measure.accuracy import multilabel
from compression.network import as_tuple
from compression.training.losses import Task, label_loss

BATCH = 256


def outputs_of(module: fx.GraphModule, split: Split, device: torch.device) -> tuple[Tensor, ...]:
    """Every output over the whole split, N × …, on `device`. The module is run in eval mode and left as it was."""
    training = module.training
    module.eval()
    collected: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for start in range(0, len(split), BATCH):
            batch = tuple(value.to(device) for value in split.tensors(start, start + BATCH))
            collected.append(as_tuple(module(*batch)))
    module.train(training)
    return tuple(torch.cat(parts) for parts in zip(*collected, strict=True))


def metrics_of(outputs: Tensor, labels: Tensor | None, task: Task | None, reference: Tensor | None) -> dict[str, float]:
    """Figures of one output: `score` (higher is better) is what decisions use.

    classification: accuracy, loss (nats). multilabel: macro average precision (the score: it needs no threshold), micro
    F1 at probability ½, loss. regression: mse. Without labels, against the original's outputs `reference`:
    cosine, SQNR in dB, and agreement of the top-1 where there is more than one value.
    """
    if task is not None and labels is not None:
        loss = float(label_loss(outputs, labels, task))
        if task == "classification":
            accuracy = float((outputs.argmax(-1) == labels).double().mean())
            return {"score": accuracy, "accuracy": accuracy, "loss": loss}
        if task == "multilabel":
            figures = multilabel(outputs.detach().cpu().numpy(), labels.cpu().numpy())
            precision = figures.average_precision or 0.0
            return {"score": precision, "average_precision": precision, "f1": figures.f1, "loss": loss}
        return {"score": -loss, "mse": loss}
    if reference is None:
        raise ValueError("without labels the original's outputs are needed")
    flat, wanted = outputs.flatten(1).double(), reference.flatten(1).double()
    noise = float((flat - wanted).square().sum())
    signal = float(wanted.square().sum())
    # 200 dB stands for equality: beyond what float32 can tell apart.
    sqnr = 200.0 if noise <= signal * 1e-20 else float(10 * torch.log10(torch.tensor(signal / noise + 1e-30)))
    cosine = float(torch.nn.functional.cosine_similarity(flat, wanted, dim=1).mean())
    found = {"score": sqnr, "sqnr_db": sqnr, "cosine": cosine}
    if flat.shape[1] > 1:
        found["agreement"] = float((flat.argmax(-1) == wanted.argmax(-1)).double().mean())
    return found
