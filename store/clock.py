"""Time, told by the database alone: machines' clocks disagree, and a lease must mean the same to all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Float, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC in Python on both databases; SQLite keeps it as text in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone can't be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class _FromNow(FunctionElement[datetime]):
    name = "from_now"
    type = UtcDateTime()
    inherit_cache = True


def from_now(seconds: float) -> _FromNow:
    """The database's time when the statement starts, plus `seconds` (negative: ago), as an SQL expression."""
    return _FromNow(literal(float(seconds), Float))


def now() -> _FromNow:
    return from_now(0.0)


@compiles(_FromNow, "sqlite")
def _sqlite(element: _FromNow, compiler: SQLCompiler, **kwargs: Any) -> str:
    # Six decimals, so that text compares as time does with what SQLAlchemy writes.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(element.clauses, **kwargs)} || ' seconds')"


@compiles(_FromNow, "postgresql")
def _postgresql(element: _FromNow, compiler: SQLCompiler, **kwargs: Any) -> str:
    # Not clock_timestamp(): it is volatile, so no index could serve a comparison with it.
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"
