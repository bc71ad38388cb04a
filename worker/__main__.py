"""`python -m worker run [--queues cpu,inspect]`: one worker. `python -m worker serve`: the whole embedded service."""

from __future__ import annotations

import argparse
import logging
import sys

from pydantic import ValidationError

from store.settings import Settings
from worker.sandbox.ladder import NoSandbox
from worker.service import open_worker
from worker.supervisor import serve
from worker.tasks import serve_queues


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="take jobs and inspections from queues, one at a time")
    run.add_argument("--queues", help="cpu, gpu, inspect, with commas between; default: the setting NIWAKI_QUEUES")
    commands.add_parser("serve", help="database, API and workers under one roof, on loopback")
    options = parser.parse_args()
    try:
        settings = Settings()
        if options.command == "run" and options.queues is not None:
            settings = Settings(queues=options.queues)
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
        )
        if options.command == "serve":
            return serve(settings)
        with open_worker(settings) as worker:
            serve_queues(worker)
    except (NoSandbox, ValidationError) as error:
        print(f"niwaki: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
