"""How figures are written on pages: units that fit their size, three digits where they are measured."""

from __future__ import annotations

from datetime import UTC, datetime

_BYTES = ("bytes", "kB", "MB", "GB", "TB")
_SHORT = ("", " k", " M", " G", " T")


def bytes_(value: float) -> str:
    """1727015 → "1.73 MB": decimal units (IEC 80000-13)."""
    return f"{int(value)} bytes" if value < 1000 else _scaled(value, _BYTES, " ")


def count(value: float) -> str:
    """431080 → "431,080"."""
    return f"{int(value):,}"


def short(value: float) -> str:
    """2293000 → "2.29 M"."""
    return str(int(value)) if value < 1000 else _scaled(value, _SHORT, "")


def seconds(value: float) -> str:
    """6.02e-05 → "60.2 µs"; 184 → "3 min 4 s"."""
    if value == 0:
        return "0 s"
    if value >= 100:
        minutes, rest = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value * 1e6)} µs"


def percent(value: float) -> str:
    """0.9712 → "97.12 %"."""
    return f"{value * 100:.2f} %"


def moment(value: datetime | str) -> str:
    """2026-11-24 15:41 UTC."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _scaled(value: float, units: tuple[str, ...], gap: str) -> str:
    place = 0
    while value >= 999.5 and place < len(units) - 1:
        value /= 1000
        place += 1
    return f"{_three(value)}{gap}{units[place]}"


def _three(value: float) -> str:
    """Three digits that count, none after them: 60.2, 1.73, 128."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
