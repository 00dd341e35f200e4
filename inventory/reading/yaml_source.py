"""Reading of inventory files.

ruamel.yaml composes YAML to nodes, which are read without constructing objects: a date stays text, no tag can
create an object, and all mistakes of the file are reported, not only the first.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, MarkedYAMLWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node
from ruamel.yaml.reader import ReaderError

from inventory.errors import ClawdError
from inventory.reading.source import Source, SourcePosition, unreadable
from inventory.reading.yaml_walk import nested_too_deeply, place_of, walk

LARGEST_FILE = 1_000_000

_QUOTED_WORD = re.compile(r" ['\"][\w.!/:-]{2,}['\"]")


def read(path: Path, shown_as: str | None = None) -> Source:
    """Read the file at `path`.

    `shown_as` is the name used in messages. Mistakes that leave the rest of the file readable are in
    `Source.mistakes`. Raises `InventoryError` for the others, `ClawdError` when the file cannot be read.
    """
    file = shown_as or str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ClawdError(
            f"cannot read {file}: {error.strerror}",
            advice="check the path, and that you may read the file",
        ) from error
    return parse(_decode(raw, file), file)


def parse(text: str, file: str) -> Source:
    """Return the content of YAML text; see `read`."""
    node = _compose(text, file)
    if node is None:
        raise unreadable(
            file, SourcePosition(1, 1), "the file is empty", "declare at least `hosts` and `models`"
        )
    if not isinstance(node, MappingNode):
        raise unreadable(
            file,
            place_of(node),
            "the file is not a mapping",
            "write keys with values: `hosts:`, `models:`, …",
        )
    return walk(node, file)


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > LARGEST_FILE:
        raise unreadable(
            file,
            SourcePosition(1, 1),
            "the file is larger than 1 MB",
            "give the path of an inventory; they have a few kilobytes",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        raise unreadable(
            file,
            _place_of_offset(before, len(before)),
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            "save the file as UTF-8",
        ) from None


def _compose(text: str, file: str) -> Node | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except ReaderError as error:
        place = _place_of_offset(text, error.position)
        problem = f"character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise unreadable(file, place, problem, "remove this invisible character") from error
    except (MarkedYAMLError, MarkedYAMLWarning) as error:
        mark = error.problem_mark or error.context_mark
        place = SourcePosition(mark.line + 1, mark.column + 1) if mark else SourcePosition(1, 1)
        # The line and what the parser quotes from it are left out: both may contain a secret.
        problem = _QUOTED_WORD.sub("", str(error.problem or error.context or "this is not YAML")).strip()
        raise unreadable(file, place, problem, _syntax_advice(problem)) from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise unreadable(
            file,
            SourcePosition(1, 1),
            "the file is not YAML",
            "look for an invalid number or escape such as \\U00110000",
        ) from error
    except RecursionError:
        raise nested_too_deeply(file, SourcePosition(1, 1)) from None
    return node


def _syntax_advice(problem: str) -> str:
    for words, advice in (
        ("\\t", "indent with spaces, not with tabs"),
        ("mapping values are not allowed", "check the indentation, and quote a string that contains `: `"),
        ("undefined alias", "quote a string that begins with `*`, or define the anchor before it"),
        ("another document", "write one inventory in each file: remove the `---`"),
        ("end of stream", "close the quotation mark or bracket"),
        ("cannot start any token", "quote a string that begins with a special character"),
        ("block end", "indent the key like the keys around it"),
        ("',' or ", "close the bracket, or put a comma between the items"),
        ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ):
        if words in problem:
            return advice
    return "check indentation, quotation marks and brackets here and on the line above"


def _place_of_offset(text: str, offset: int) -> SourcePosition:
    before = text[:offset]
    return SourcePosition(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)
