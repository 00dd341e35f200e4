"""JSON from elsewhere."""

from __future__ import annotations

import json
from typing import Any


def read_foreign_json(data: bytes | str) -> Any:
    r"""Return the value of `data`. Raise `ValueError`, and nothing else, for whatever is no JSON.

    Nesting beyond what Python can follow and numbers beyond what it converts are none. Bytes that are no
    UTF-8 become U+FFFD; halves of characters (`\ud83d`) are kept, because the other half may come later.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
