"""Proof that a server has another host key than the one that it presents.

A server may have several host keys and offer only some of them, so that it shows one that is not known
although it holds one that is. OpenSSH's servers prove that they hold a key by a signature over the identifier
of the connection (OpenSSH's PROTOCOL, section 2.5). A machine in between has another identifier in its own
connection to the server, so it cannot pass such a signature on.
"""

from __future__ import annotations

from collections.abc import Iterable

import paramiko
from paramiko.pkey import UnknownKeyType

PROVE = "hostkeys-prove-00@openssh.com"
SHA1 = "ssh-rsa"
"""The signature algorithm of this name proves nothing; keys of this name are valid."""


def proven(transport: paramiko.Transport, keys: Iterable[bytes]) -> bytes | None:
    """Return the first of `keys`, in SSH's binary form, that the server proves to have; `None` for none.

    Call it after the login: servers prove nothing before. Raises `EOFError` if the connection ends.
    """
    return next((key for key in keys if _proves(transport, key)), None)


def _proves(transport: paramiko.Transport, key: bytes) -> bool:
    answer = transport.global_request(PROVE, (key,), wait=True)
    if not transport.is_active():
        raise EOFError("it closed the connection")
    if answer is None:
        return False
    try:
        signature = answer.get_string()
        if paramiko.Message(signature).get_text() == SHA1:
            return False
        public = paramiko.PKey.from_type_string(paramiko.Message(key).get_text(), key)
        return bool(public.verify_ssh_sig(_signed(transport, key), paramiko.Message(signature)))
    except (paramiko.SSHException, UnknownKeyType, ValueError):
        return False


def _signed(transport: paramiko.Transport, key: bytes) -> bytes:
    signed = paramiko.Message()
    signed.add_string(PROVE)
    signed.add_string(transport.session_id or b"")
    signed.add_string(key)
    return signed.asbytes()
