"""The database: SQLite or Postgres by URL, with one way to read and one way to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import ConnectionPoolEntry

from store.settings import Settings

BUSY_SECONDS = 30  # how long SQLite waits for another writer


class Database:
    """A pool of connections, for all threads of one process; never to be carried over a fork.

    Connections autocommit, so that a status poll is one round trip; `write` alone begins a transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(niwaki_transaction=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection on which every SELECT sees all that was committed before it."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back when it raises.

        On SQLite it takes the write lock at once (BEGIN IMMEDIATE): a transaction that reads first and asks for the
        lock later fails at once where another one wrote in between, whatever the busy timeout.
        """
        with self._writing.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """The database that `settings.database_url` names; its file's folder is made, its tables by `store.migration`."""
    url = make_url(settings.database_url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        arguments: dict[str, object] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    else:
        arguments = {"options": "-c timezone=UTC", "connect_timeout": 10}
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=settings.database_connections,
        max_overflow=0,
        connect_args=arguments,
    )
    begin = "BEGIN IMMEDIATE" if sqlite else "BEGIN"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("niwaki_transaction"):
            connection.exec_driver_sql(begin)

    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    return Database(engine)


def _prepare_sqlite(connection: SqliteConnection, _entry: ConnectionPoolEntry) -> None:
    for pragma in ("journal_mode = WAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()
