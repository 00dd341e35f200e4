"""The project of a host: a host stores the id of the project that set it up, and trusts its authority.

A folder `.clawd` without both belongs to another laptop or another project. A run with it would take the host
over: it would sign all certificates again with its own authority, which clients do not trust.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from deploys.ops.programs import program
from deploys.tls.authority import known_authorities
from deploys.tls.certificate import public_key_sha256
from inventory import state
from inventory.errors import UNREADABLE, HostError
from inventory.load import LoadedInventory
from provision.connection.session import Session

RECORD = "/var/lib/clawd/state/project.json"
JOURNAL = "/var/lib/clawd/state/journal.jsonl"


@dataclass(frozen=True, slots=True)
class Belonging:
    """The project of a host: its id and name, the authorities that the host trusts, and who ran last.

    `authorities` are SHA-256 digests of their public keys, in hexadecimal.
    """

    id: str = ""
    project: str = ""
    authorities: frozenset[str] = frozenset()
    last_by: str = ""

    @classmethod
    def parse(cls, output: str) -> Belonging:
        """Parse the probe's output; invalid lines are ignored."""
        answer: dict[str, str] = {}
        authorities = set()
        for line in output.splitlines():
            kind, _, rest = line.partition("=")
            if kind == "authority":
                authorities.add(rest.strip())
            elif kind in ("project", "journal"):
                answer[kind] = rest
        project, last = _fields(answer.get("project", "")), _fields(answer.get("journal", ""))
        return cls(
            project.get("id", ""), project.get("name", ""), frozenset(authorities), last.get("who", "")
        )


def _fields(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return (
        {key: item for key, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else {}
    )


_PROBE = program("provision/preflight/scripts/ownership.sh")


def read(session: Session, host: str) -> Belonging:
    """Return the project of a host. Raises `HostError` when it cannot be read."""
    script = f"record={RECORD} journal={JOURNAL}\n{_PROBE}"
    done = session.run(host, script, timeout=30)
    if not done.succeeded:
        raise HostError(
            f"{host}: cannot read which project it belongs to: {done.stderr.strip()}", advice=UNREADABLE
        )
    return Belonging.parse(done.stdout)


def check(loaded: LoadedInventory, session: Session, *, adopt: bool = False) -> None:
    """Raise `HostError` for hosts with a project or an authority that this folder does not have.

    With `adopt` they are taken over instead.
    """
    answers = session.everywhere(lambda host: read(session, host))
    if adopt:
        return
    problems = [
        f"{host}: {problem}"
        for host, answer in answers.items()
        if (problem := foreign(loaded, answer)) is not None
    ]
    if problems:
        raise HostError("\n".join(problems), advice=_advice(loaded, answers))


def foreign(loaded: LoadedInventory, answer: Belonging) -> str | None:
    """Return why a host is not part of this folder's project; `None` when it is, or has no project yet."""
    ours = state.project_id(loaded.state_folder)
    by = f"; the last run there was by {answer.last_by}" if answer.last_by else ""
    if answer.id and answer.id != ours:
        named = f" {answer.project}" if answer.project else ""
        if ours is None and answer.project in ("", loaded.inventory.project):
            return f"it belongs to the project{named}, which {loaded.state_folder} does not know{by}"
        return f"it belongs to another project{named}{by}"
    # Compare keys, because an authority is renewed with the same key to sign more names.
    known = {public_key_sha256(item) for item in known_authorities(loaded.state_folder)}
    if answer.authorities and not answer.authorities & known:
        return f"it trusts a certificate authority that {loaded.state_folder} does not have{by}"
    return None


def _advice(loaded: LoadedInventory, answers: Mapping[str, Belonging]) -> str:
    folder = loaded.state_folder
    source = next(
        (answer.last_by for answer in answers.values() if answer.last_by), "the laptop that ran `up` before"
    )
    copied = (
        f"copy the folder {folder.parent.name}/{folder.name} (project.json and ca/) from {source} to {folder}"
    )
    others = {answer.project for answer in answers.values() if answer.project} - {loaded.inventory.project}
    if others:
        copied = (
            f"use the inventory of {', '.join(sorted(others))} for it; if only the name changed, {copied}"
        )
    return (
        f"{copied}; or take the host over with `--adopt`, which signs its certificates again: then clients "
        "need the new ca.pem"
    )


def claim(loaded: LoadedInventory, session: Session, *, adopt: bool = False) -> None:
    """Record on every host of the run that it belongs to this project. Raises `HostError` on failure.

    A folder without an id gets one: with `adopt` the id of the hosts, if all of them have the same.
    """
    answers = session.everywhere(lambda host: read(session, host))
    ids = {answer.id for answer in answers.values() if answer.id}
    identity = state.remember_project(loaded.state_folder, ids.pop() if adopt and len(ids) == 1 else None)
    project = loaded.inventory.project

    def write(host: str) -> None:
        if (answers[host].id, answers[host].project) == (identity, project):
            return
        content = json.dumps({"id": identity, "name": project})
        script = (
            f"umask 077; mkdir -p {shlex.quote(RECORD.rpartition('/')[0])} && cat >{RECORD}.new && "
            f"sync {RECORD}.new && mv {RECORD}.new {RECORD}"
        )
        done = session.run(host, script, stdin=content, timeout=20)
        if not done.succeeded:
            raise HostError(
                f"{host}: cannot record which project it belongs to: {done.stderr.strip()}",
                advice="free disk space on /var/lib, then run `up` again",
            )

    session.everywhere(write)
