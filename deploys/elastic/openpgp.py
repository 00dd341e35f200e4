"""The keys in an OpenPGP file, read without gpg on the laptop."""

from __future__ import annotations

from pysequoia import Cert


def fingerprints(key: bytes) -> tuple[str, ...]:
    """Return those of the primary keys in `key`, armored or not, in upper-case hexadecimal.

    Raise `ValueError` when it is not an OpenPGP file, or contains a key of an unknown version.
    """
    try:
        return tuple(certificate.fingerprint.upper() for certificate in Cert.split_bytes(key))
    except RuntimeError as error:  # its message continues with a backtrace
        raise ValueError(str(error).partition("\n")[0]) from error
