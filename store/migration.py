"""Brings the database's tables up to date. `migrations/` is found by its path: store imports nothing of it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from store.database import open_database
from store.settings import Settings

SCRIPTS = Path(__file__).parent.parent / "migrations"
LOCK = 0x6E6977616B69  # "niwaki", an arbitrary key


def migrate(settings: Settings, revision: str = "head") -> None:
    """Runs what is missing up to `revision`, in one transaction; a second process that migrates waits for the first."""
    database = open_database(settings)
    try:
        with database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            config = Config()
            config.set_main_option("script_location", str(SCRIPTS))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        database.close()
