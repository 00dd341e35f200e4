"""Shell scripts as pyinfra commands, with quoted values and exact input."""

from __future__ import annotations

import shlex
from base64 import b64encode
from hashlib import sha256

from pyinfra.api import StringCommand

from deploys.ops.programs import program


def assignments(**values: str | int) -> str:
    """Return `name='value'` lines, quoted for the shell."""
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def script(body: str, *, stdin: str | None = None, **values: str | int) -> StringCommand:
    """Return `body` as one command, which reads `values` as shell variables.

    Everything in `body` and `values` is visible in the host's process list: pass secrets in `stdin`.
    """
    text = assignments(**values) + body.strip()
    return StringCommand(text) if stdin is None else StringCommand(text, _stdin=stdin)


def checking(program: str, **values: str | int) -> str:
    """Return the command that runs `program` for `check` of `files.put`, with the new file as `$new`."""
    return f"(\nnew={{}}\n{assignments(**values)}{program})"


def framed(content: bytes) -> str:
    """Return `content` as two lines: its SHA-256, and the content in base64.

    pyinfra sends text and ends it with a newline; in this form any bytes arrive unchanged, and the reader
    (`RECEIVE`) detects a connection that breaks off midway.
    """
    return f"{sha256(content).hexdigest()}\n{b64encode(content).decode()}\n"


RECEIVE = program("deploys/ops/scripts/receive.sh")
