"""Ids: a prefix that tells the kind, then 26 characters that sort by time."""

from __future__ import annotations

import secrets
import time
from typing import Literal

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U

Prefix = Literal["mdl", "dst", "job", "art"]


def new_id(prefix: Prefix) -> str:
    """`mdl_`, `dst_`, `job_` or `art_`, and 128 bits: milliseconds since 1970 (48), then random ones (80)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
