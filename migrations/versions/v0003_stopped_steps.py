"""The step that a job ended at without success is stopped."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _allow("state IN ('pending', 'running', 'finished', 'stopped')")


def downgrade() -> None:
    op.execute("UPDATE step SET state = 'pending' WHERE state = 'stopped'")
    _allow("state IN ('pending', 'running', 'finished')")


def _allow(states: str) -> None:
    name = op.f("ck_step_state")
    with op.batch_alter_table("step") as table:  # SQLite can't change a check: there the table is copied
        table.drop_constraint(name, type_="check")
        table.create_check_constraint(name, states)
