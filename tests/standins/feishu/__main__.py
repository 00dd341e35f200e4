"""`python -m tests.standins.feishu --port 8082`."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.outbound import Reach


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = Credentials()
    parser = argparse.ArgumentParser(prog="tests.standins.feishu", description="Stand-in for Feishu")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8082)
    parser.add_argument("--app-id", default=known.app_id)
    parser.add_argument("--app-secret", default=known.app_secret)
    parser.add_argument("--encrypt-key", default=known.encrypt_key)
    parser.add_argument("--verification-token", default=known.verification_token)
    parser.add_argument("--ca", type=Path, help="PEM file trusted in place of the public authorities")
    parser.add_argument("--resolve", action="append", default=[], metavar="NAME=ADDRESS")
    parser.add_argument("--pace", type=float, default=1.0, help="factor for pauses between repetitions")
    return parser.parse_args()


def main() -> None:
    """Serve until interrupted."""
    given = arguments()
    credentials = Credentials(given.app_id, given.app_secret, given.encrypt_key, given.verification_token)
    reach = Reach(dict(each.split("=", 1) for each in given.resolve), given.ca)
    app = FeishuStandin(credentials, reach, given.pace).app
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
