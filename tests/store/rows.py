"""Rows that the store's tests begin with."""

from __future__ import annotations

from typing import Any

from store import jobs
from store.database import Database
from store.tables import blob, dataset, model

SHA = "a" * 64
PAST = -1.0  # seconds of a lease that has run out when it is given


def known(database: Database) -> None:
    """The model and the dataset that jobs here are given."""
    for table, id_ in ((model, "mdl_X"), (dataset, "dst_X")):
        with database.read() as connection:
            there = connection.execute(table.select().where(table.c.id == id_)).first()
        if there is None:
            uploaded(database, table, id_)
            with database.write() as connection:
                connection.execute(table.update().where(table.c.id == id_).values(state="ready"))


def queue(database: Database, **changes: Any) -> str:
    """A queued job of one step, with three attempts."""
    known(database)
    given = {
        "model_id": "mdl_X",
        "dataset_id": None,
        "spec": {"seed": 0},
        "steps": [("finetune", {"epochs": 1})],
        "max_attempts": 3,
    }
    return jobs.submit(database, jobs.NewJob(**given | changes)).id


def uploaded(database: Database, table: Any, id_: str = "mdl_1") -> str:
    """An upload that waits for its inspection."""
    with database.write() as connection:
        if connection.execute(blob.select().where(blob.c.sha256 == SHA)).first() is None:
            connection.execute(blob.insert().values(sha256=SHA, size=3, key=f"blobs/{SHA}"))
        connection.execute(table.insert().values(id=id_, name="net", filename="net.pt2", size=3, sha256=SHA))
    return id_
