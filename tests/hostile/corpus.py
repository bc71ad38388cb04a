"""Every hostile file. All are made here, by code; none is stored."""

from __future__ import annotations

from tests.hostile import archives, containers, graphs, headers, pickles, pictures, programs
from tests.hostile.case import Case

CASES: dict[str, Case] = {
    case.name: case
    for family in (pickles, archives, programs, headers, containers, graphs, pictures)
    for case in family.CASES
}
