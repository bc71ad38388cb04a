"""The models that a job's steps name beside its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "job_model",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("workspace_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_model_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "model_id", name="pk_job_model"),
    )
    op.create_index("ix_job_model_model_id", "job_model", ["model_id"])


def downgrade() -> None:
    op.drop_table("job_model")
