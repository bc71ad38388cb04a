"""Lists: newest first, a page at a time. A cursor is the last id of the page before; ids sort by time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, RowMapping, Select, Table, exists, func, select

from store.database import Database
from store.tables import DEFAULT_WORKSPACE

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # Postgres refuses NUL in text, and no name needs the others
UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # in JSON also lone surrogates, which no encoding has
Wanted = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]


class PageQuery(BaseModel):
    """The parameters of every list."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(50, ge=1, le=200, description="rows of a page")
    cursor: str | None = Field(None, pattern=r"^[a-z]{3}_[0-9A-Z]{26}$", description="`next` of the page before")
    name: Wanted | None = Field(None, description="part of the name, in upper or lower case")
    tag: Wanted | None = Field(None, description="a tag that the row has")


def page(
    database: Database,
    table: Table,
    leave_out: frozenset[str],
    query: PageQuery,
    *conditions: ColumnElement[bool],
    workspace: str = DEFAULT_WORKSPACE,
) -> tuple[Sequence[RowMapping], str | None]:
    """Rows without the large columns, and the cursor of the next page (None: this is the last)."""
    columns = [column for column in table.c if column.name not in leave_out]
    rows: Select[Any] = select(*columns).where(table.c.workspace_id == workspace, *conditions)
    if query.cursor is not None:
        rows = rows.where(table.c.id < query.cursor)
    if query.name is not None:
        rows = rows.where(table.c.name.icontains(query.name, autoescape=True))
    with database.read() as connection:
        if query.tag is not None:
            sqlite = connection.dialect.name == "sqlite"
            each = func.json_each(table.c.tags) if sqlite else func.json_array_elements_text(table.c.tags)
            tags = each.table_valued("value")
            rows = rows.where(exists(select(1).select_from(tags).where(tags.c.value == query.tag)))
        found = connection.execute(rows.order_by(table.c.id.desc()).limit(query.limit + 1)).mappings().all()
    shown = found[: query.limit]
    return shown, shown[-1]["id"] if len(found) > query.limit else None
