"""Conditional requests (RFC 9110, section 13): entity tags and `If-None-Match`."""

from __future__ import annotations


def etag(value: str | int) -> str:
    return f'"{value}"'


def matches(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names the tag, by weak comparison."""
    if header is None:
        return False
    named = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in named or tag in named
