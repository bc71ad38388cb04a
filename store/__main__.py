"""`python -m store migrate`: brings the database that NIWAKI_DATABASE_URL names up to date."""

from __future__ import annotations

import argparse

from store.migration import migrate
from store.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store", description=__doc__)
    parser.add_argument("command", choices=["migrate"])
    parser.parse_args()
    settings = Settings()
    migrate(settings)


if __name__ == "__main__":
    main()
