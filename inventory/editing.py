"""Changes of an inventory file by a command, with comments, order and tags kept."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from inventory.errors import ClawdError

InventoryChange = Callable[[MutableMapping[str, Any]], None]
"""A function that changes the whole mapping of the file in place."""
LONGEST_LINE = 1 << 16


def changed(text: str, change: InventoryChange) -> str:
    """Return the text of an inventory after `change`. Only the lines that it concerns differ.

    ruamel.yaml has one indentation for the whole file. So it writes the file without and with the change, and
    only the lines in which these differ are taken from it.
    """
    without, written = _written(text, lambda data: None), _written(text, change)
    lines = text.splitlines(keepends=True)
    if len(lines) != len(without):  # it has folded or joined lines: then take what it writes
        return "".join(written)
    opcodes = SequenceMatcher(None, without, written, autojunk=False).get_opcodes()
    return "".join(
        "".join(lines[i1:i2] if kind == "equal" else written[j1:j2]) for kind, i1, i2, j1, j2 in opcodes
    )


def _written(text: str, change: InventoryChange) -> list[str]:
    yaml = _yaml(text)
    data = yaml.load(text)
    change(data)
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue().splitlines(keepends=True)


@contextmanager
def edited(path: Path, change: InventoryChange) -> Iterator[None]:
    """Change the file while entered; an exception inside puts its former content back.

    Raises `ClawdError` when the file is changed by another program in the meantime and cannot be restored.
    """
    before = path.read_text(encoding="utf-8")
    after = changed(before, change)
    _write(path, after)
    try:
        yield
    except BaseException:
        if path.read_text(encoding="utf-8") != after:
            raise ClawdError(
                f"{path}: was changed by another program, so its former content was not put back",
                advice="compare it with your version control",
            ) from None
        _write(path, before)
        raise


def _write(path: Path, text: str) -> None:
    """Replace the file, or the one that it links to, by a new one.

    It has the same mode and, if this user may give it away, the same owner.
    """
    file = path.resolve()
    # Readable only by its owner until it has the owner and mode of the former one.
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".new", dir=file.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            _permit_as(descriptor, file.stat())
            stream.write(text)
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _permit_as(descriptor: int, former: os.stat_result) -> None:
    """Give a file the owner and mode of the former one.

    Where the group cannot be the same, it gets no rights.
    """
    mode = stat.S_IMODE(former.st_mode)
    for owner in (former.st_uid, -1):
        with suppress(PermissionError):
            os.fchown(descriptor, owner, former.st_gid)
            break
    else:
        mode &= ~stat.S_IRWXG
    os.fchmod(descriptor, mode)


def _yaml(text: str) -> YAML:
    """Return a reader and writer that indents as `text` does."""
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = LONGEST_LINE
    root = YAML(typ="rt").compose(text)
    mapping = next((step for step in _steps(root) if step), 2)
    dash = next((step for step in _dashes(root) if step is not None), 2)
    yaml.indent(mapping=mapping, sequence=dash + 2, offset=dash)
    return yaml


def _steps(node: Node | None) -> Iterator[int]:
    """Yield by how many columns mappings within block mappings are indented."""
    for key, value in node.value if isinstance(node, MappingNode) and not node.flow_style else ():
        if isinstance(value, MappingNode) and not value.flow_style:
            yield value.start_mark.column - key.start_mark.column
            yield from _steps(value)


def _dashes(node: Node | None) -> Iterator[int]:
    """Yield by how many columns the dashes of lists within block mappings are indented."""
    for key, value in node.value if isinstance(node, MappingNode) and not node.flow_style else ():
        if isinstance(value, SequenceNode) and not value.flow_style:
            yield value.start_mark.column - key.start_mark.column
        else:
            yield from _dashes(value)
