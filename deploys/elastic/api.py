"""Call the HTTP APIs of Elasticsearch and Kibana, from the host that they run on.

A small program runs on the host and reads the logins from files there, which only root may read: no password
is in a command, a plan or an answer. It reads first what is there already, and writes only what is missing or
different.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script

MANAGER = "clawd-provision"


@dataclass(frozen=True, slots=True)
class ElasticServer:
    """A server over TLS, as the host sees it. `ca` is a file of the host."""

    port: int
    ca: str
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `login` is a file of the host: `USER:PASSWORD`, or a bearer token as `NAME=TOKEN`.

    In `body`, `secret_in(FILE)` stands for the password in FILE. `raw` is sent as it is, with `content_type`.
    `keep` is a file to write `NAME=SECRET` to, that name, and the keys in the answer that lead to the secret.
    """

    method: str
    path: str
    login: str
    body: Any = None
    raw: str = ""
    content_type: str = "application/json"
    keep: tuple[str, str, tuple[str, ...]] | None = None
    accepted: tuple[int, ...] = (200, 201)

    def spec(self) -> dict[str, Any]:
        """Return the call as JSON-able data, for the program on the host."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class WantedObject:
    """An object that should exist. `holds` decides from status and body of `probe` whether it does."""

    name: str
    probe: Call
    writes: tuple[Call, ...]
    holds: Callable[[int, Any], bool] = field(compare=False)


def secret_in(file: str) -> dict[str, str]:
    """Return a placeholder in a body for the password in `file` on the host."""
    return {"$secret": file}


def stored(
    server: ElasticServer, wanted: tuple[WantedObject, ...], *, name: str, **arguments: Any
) -> OperationMeta:
    """Write those of `wanted` to `server` that their probes do not find."""
    return _stored(server, wanted, name=name, **arguments)


def marked(body: dict[str, Any]) -> dict[str, str]:
    """Return metadata that names the program an object belongs to, and the digest of its content."""
    written = json.dumps(body, sort_keys=True).encode()
    return {"managed_by": MANAGER, "digest": sha256(written).hexdigest()[:16]}


def contains(there: Any, wanted: Any) -> bool:
    """Return whether `there` has everything of `wanted`; servers add defaults and turn numbers into texts."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            name in there and contains(there[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(contains(one, other) for one, other in zip(there, wanted, strict=True))
        )
    return str(there).lower() == str(wanted).lower()


class AnswersFact(Fact):
    """Status and body of each of some reading calls; status 0 where no server answers."""

    def command(self, server: ElasticServer, calls: tuple[Call, ...]) -> str:
        """Return the program with its calls. There is no secret among them."""
        return command(server, calls, reading=True)

    @staticmethod
    def default() -> tuple[tuple[int, Any], ...]:
        """Return no answer."""
        return ()

    def process(self, output: list[str]) -> tuple[tuple[int, Any], ...]:
        """Turn the program's JSON into pairs."""
        return tuple((status, body) for status, body in json.loads(output[-1]))


def command(server: ElasticServer, calls: tuple[Call, ...], *, reading: bool) -> str:
    """Return the shell command for `calls`: it prints the answers, or fails at the first not accepted."""
    return assignments(program=PROGRAM, spec=_spec(server, calls, reading)) + 'python3 -c "$program" "$spec"'


def holds(server: ElasticServer, call: Call, expression: str) -> str:
    """Return a shell command that succeeds when `expression` is true of `status` and `body` of `call`.

    `expression` is in Python. The command prints both when it fails.
    """
    return _judged(
        server,
        call,
        f"""try:
    held = {expression}
except (KeyError, TypeError):
    held = False
sys.exit(0 if held else "%s %s" % (status or "no answer:", str(body)[:300]))
""",
    )


def printed(server: ElasticServer, call: Call, expression: str) -> str:
    """Return a shell command that prints the Python `expression` of the `body` of an answered `call`."""
    return _judged(server, call, f"if status in {call.accepted}:\n    print({expression})\n")


def _judged(server: ElasticServer, call: Call, ending: str) -> str:
    program = f"{PROGRAM.replace('print(json.dumps(answers))', 'status, body = answers[-1]')}\n{ending}"
    spec = _spec(server, (call,), True)
    return f"/usr/bin/python3 -c {shlex.quote(program)} {shlex.quote(spec)}"


def _spec(server: ElasticServer, calls: tuple[Call, ...], reading: bool) -> str:
    asked = {"calls": [call.spec() for call in calls], "reading": reading}
    return json.dumps({"address": server.address, "port": server.port, "ca": server.ca, **asked})


@operation
def _stored(server: ElasticServer, wanted: tuple[WantedObject, ...]) -> Iterator[StringCommand]:
    answers = host.get_fact(AnswersFact, server=server, calls=tuple(item.probe for item in wanted))
    absent = (0, None)
    answered = (*answers, *[absent] * (len(wanted) - len(answers)))
    missing = [item for item, answer in zip(wanted, answered, strict=True) if not item.holds(*answer)]
    if not missing:
        return
    for item in missing:
        record(Change(item.name, ("written",)))
    yield script(command(server, tuple(call for item in missing for call in item.writes), reading=False))


PROGRAM = program("deploys/elastic/scripts/call_api.py")
