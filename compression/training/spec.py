"""How a network is trained: one block, the same in every method that trains."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Schedule(BaseModel):
    """Steps and their size; what is learned is said elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(2, gt=0, le=1000, description="passes over the training split; may be a fraction")
    batch_size: int = Field(64, ge=1, le=8192, description="samples a step")
    learning_rate: float = Field(0.01, gt=0, le=10, description="at the peak of the schedule")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum 0.9, or AdamW")
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="L2 for SGD, decoupled for AdamW; weights only, no biases"
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="after a linear warm-up over 5 % of the steps"
    )
    patience: int | None = Field(
        None, ge=1, le=1000, description="stop after so many epochs without a better validation"
    )
    second_chances: int = Field(
        2,
        ge=0,
        le=4,
        description="so often training that ruins the network (every validation worse than before, or a loss that is "
        "no number) is repeated with a tenth of the learning rate",
    )

    def steps_per_epoch(self, samples: int) -> int:
        """Optimizer steps; a last batch of one sample is left out, for batch norm has no variance to divide by."""
        return max(1, -(-(samples - (samples % self.batch_size == 1)) // self.batch_size))


class Training(Schedule):
    """Training with labels, against a teacher (the original network), or both."""

    loss: Literal["auto", "labels", "teacher", "both"] = Field(
        "auto", description="auto: both where there are labels, else the teacher's outputs"
    )
    temperature: float = Field(2.0, gt=0, le=100, description="of the softened probabilities (Hinton et al. 2015)")
    alpha: float = Field(0.5, ge=0, le=1, description="the teacher's share of the loss, where both are used")
