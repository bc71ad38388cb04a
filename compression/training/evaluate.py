"""A network's outputs and its figures on a split, in PyTorch: for decisions on validation data while a job runs.

The figures of a report don't come from here but from the delivered files (`compression/measure/`).
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from compression.data import Split
from compression.measure.accuracy import multilabel
from compression.network import as_tuple
from compression.training.losses import Match, Task, label_loss, soft_label_loss

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


def metrics_of(
    outputs: Tensor, labels: Tensor | None, task: Task | None, reference: Tensor | None, match: Match = "mse"
) -> dict[str, float]:
    """Figures of one output: `score` (higher is better) is what decisions use.

    classification: accuracy, loss (nats). multilabel: macro average precision (the score: it needs no threshold), micro
    F1 at probability ½, loss. regression: mse. Without labels, against the original's or a teacher's outputs
    `reference`, the student is judged by how it is taught (`match`): logits matched by softmax by agreement of the
    top-1, with the KL divergence as loss (nats); anything else by SQNR in dB. Cosine is told too, and agreement where
    there is more than one value.
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
    if match == "softmax":  # classes are the last axis
        rows, theirs = (value.double().reshape(-1, value.shape[-1]) for value in (outputs, reference))
        agreement = float((rows.argmax(-1) == theirs.argmax(-1)).double().mean())
        found |= {"score": agreement, "agreement": agreement, "loss": float(soft_label_loss(rows, theirs, 1.0))}
    return found


def top1(metrics: dict[str, float]) -> float | None:
    """The share of samples whose top-1 is right, or is the teacher's, where decisions are made by it."""
    judged = "loss" in metrics and ("accuracy" in metrics or "agreement" in metrics)
    return metrics["score"] if judged else None
