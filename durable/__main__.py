"""`python -m durable`: the demo."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from durable.errors import DurableError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; its exit code: 0, 1 if a proof failed, 2 if something was wrong."""
    options = _parser().parse_args(arguments)
    try:
        return _demo(options.store, options.events)
    except DurableError as error:
        sys.stderr.write(f"durable demo: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("durable demo: interrupted\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m durable", description="Durable execution for asyncio.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run real webhooks through durable functions, kill the worker, and prove that nothing was lost",
        description="Sends GitHub webhooks to a worker process, kills it with SIGKILL in the middle, starts "
        "another, and proves from a ledger of side effects that every run completed and that no step that "
        "was committed ran twice.",
    )
    demo.add_argument("--store", metavar="URL", help="where to keep state (default: a temporary SQLite file)")
    demo.add_argument(
        "--events",
        metavar="FILE",
        type=Path,
        help='other events: one {"name": ..., "data": {...}} a line, plain or gzip',
    )
    return parser


def _demo(store: str | None, events: Path | None) -> int:
    from durable.demo import payloads  # noqa: PLC0415 - only the demo needs it
    from durable.demo.director import direct  # noqa: PLC0415 - as above
    from durable.demo.screen import Screen  # noqa: PLC0415 - as above

    loaded = payloads.load(events or payloads.SHIPPED)
    return 0 if asyncio.run(direct(Screen(sys.stdout), store, loaded)) else 1


if __name__ == "__main__":
    sys.exit(main())
