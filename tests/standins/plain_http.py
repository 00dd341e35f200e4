"""What clients of plain HTTP pass as `verify`, since httpx loads all public authorities for each client."""

import ssl

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no authority, so that no connection with TLS can succeed."""
