import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from store import jobs
from store.database import Database, open_database
from store.leases import leave_steps
from store.migration import migrate
from store.settings import Settings
from store.tables import metadata, step
from tests.servers import environment
from tests.store.rows import queue


def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_checks_and_cascades_are_there_too(database: Database) -> None:
    """What alembic doesn't compare."""
    with database.read() as connection:
        inspector: Any = inspect(connection)
        for table in metadata.sorted_tables:
            found = {check["name"] for check in inspector.get_check_constraints(table.name)}
            wanted = {str(c.name) for c in table.constraints if type(c).__name__ == "CheckConstraint"}
            assert found == wanted
            cascades = {key["options"].get("ondelete") for key in inspector.get_foreign_keys(table.name)}
            assert cascades == {key.ondelete for key in table.foreign_keys}


def test_every_table_has_a_workspace() -> None:
    assert all("workspace_id" in table.c for table in metadata.tables.values())


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_database_of_the_first_version_keeps_what_is_in_it(request: Any, tmp_path: Path, kind: str) -> None:
    url = f"sqlite+pysqlite:///{tmp_path / 'first.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres_server").create(f"first_{uuid.uuid4().hex}")
    settings = Settings(data_dir=tmp_path, database_url=url)
    migrate(settings, "0001")
    database = open_database(settings)
    id_ = queue(database)
    migrate(settings)
    with database.write() as connection:
        connection.execute(step.update().values(state="running"))
        leave_steps(connection, [id_], "stopped")
    assert [(row["job_id"], row["state"]) for row in jobs.steps(database, id_)] == [(id_, "stopped")]
    database.close()


def test_the_command_is_idempotent(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "store", "migrate"], env=environment(settings), check=True, timeout=60)
    database = open_database(settings)
    with database.read() as connection:
        assert {"job", "alembic_version"} <= set(inspect(connection).get_table_names())
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


def test_a_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    database = open_database(settings)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE step (id INTEGER)")  # in the way of the last table
    with pytest.raises(Exception, match="already exists"):
        migrate(settings)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["step"]
    database.close()
