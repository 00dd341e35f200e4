"""`python -m tests.standins.telegram --port 8081 --token 1000:abc`."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from tests.standins.outbound import Reach
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.webhook import Rules


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="tests.standins.telegram", description="Stand-in for the Bot API")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--token", action="append", required=True, help="a bot's token; may be given again")
    parser.add_argument("--ca", type=Path, help="PEM file trusted in place of the public authorities")
    parser.add_argument("--resolve", action="append", default=[], metavar="NAME=ADDRESS")
    parser.add_argument(
        "--allow-port", action="append", type=int, default=[], help="in addition to 443 80 88 8443"
    )
    parser.add_argument("--allow-reserved-addresses", action="store_true", help="10.x, 127.x and the like")
    parser.add_argument("--pace", type=float, default=1.0, help="factor for pauses between repetitions")
    return parser.parse_args()


def main() -> None:
    """Serve until interrupted."""
    given = arguments()
    reach = Reach(dict(each.split("=", 1) for each in given.resolve), given.ca)
    rules = Rules(reach, frozenset(given.allow_port), given.allow_reserved_addresses, given.pace)
    app = TelegramStandin(given.token, rules).app
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
