from __future__ import annotations

import logging
import re

from clawd_runtime.logs import LineFormatter


def test_record_with_traceback_is_one_line():
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "it %s", ("failed",), (ValueError, error, error.__traceback__)
        )
    line = LineFormatter("%(message)s").format(record)
    assert "\n" not in line
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[ERROR\] it failed\\nTraceback", line)
    assert line.endswith("second")
