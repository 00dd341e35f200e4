"""Templates of files on hosts: ours, and those of the user's folder that replace them.

User templates are foreign text, so all templates are rendered in Jinja's sandbox: they read the given values,
change none, and cannot access anything else of this program or the computer.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.meta import find_referenced_templates
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inventory.errors import ClawdError

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"
HINT = "correct the template, or remove it to use the one that comes with the program"


@dataclass(frozen=True, slots=True)
class Override:
    """A file in the user's folder of templates, named by its path there.

    `replaces`: whether it overrides one of the program. `used`: whether a file of that folder includes it.
    `problem`: why it cannot be read, with file and line. `nearest`: the template with the most similar name.
    """

    name: str
    replaces: bool
    used: bool = False
    problem: str = ""
    nearest: str = ""

    @property
    def idle(self) -> bool:
        """Return whether no template uses the file."""
        return not self.replaces and not self.used


def rendered(src: str, values: Mapping[str, Any], folders: tuple[Path, ...] = (TEMPLATES,)) -> str:
    """Render the first `<folder>/<src>` with `values`. Pure except for reading the template.

    Raises `ClawdError` with file and line when a user's template cannot be rendered, and Jinja's own error
    when one of this program cannot.
    """
    try:
        return _environment(folders).get_template(src).render(**values)
    except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        if place := _place_in(folders, error):
            reason = str(error) or type(error).__name__
            raise ClawdError(f"{place}: the template cannot be rendered: {reason}", advice=HINT) from error
        raise


def overrides(folder: Path | None, ours: Path = TEMPLATES) -> tuple[Override, ...]:
    """Return the files in the user's folder of templates, in the order of names."""
    if folder is None or not folder.is_dir() or folder.resolve() == ours.resolve():
        return ()
    known = {str(path.relative_to(ours)) for path in ours.rglob("*") if path.is_file()}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    names = [str(path.relative_to(folder)) for path in files]
    included = {name for path in files for name in _included(path)}
    return tuple(
        Override(
            name,
            replaces=name in known,
            used=name in included,
            problem=_problem(path),
            nearest="" if name in known else next(iter(get_close_matches(name, known, 1, 0.6)), ""),
        )
        for name, path in zip(names, files, strict=True)
    )


def _hidden(path: Path, folder: Path) -> bool:
    """Return whether an editor or version control created the file."""
    return any(part.startswith(".") or part.endswith("~") for part in path.relative_to(folder).parts)


def _environment(folders: tuple[Path, ...]) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader([str(folder) for folder in folders]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _parser() -> ImmutableSandboxedEnvironment:
    return _environment(())


def _included(path: Path) -> Iterator[str]:
    """Yield the templates that one includes or imports by a constant name."""
    try:
        tree = _parser().parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TemplateError, RecursionError):
        return
    yield from (name for name in find_referenced_templates(tree) if name is not None)


def _problem(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return f"{path}: the template cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return f"{path}: the template is not text in UTF-8"
    try:
        _parser().compile(text)
    except TemplateSyntaxError as error:
        return f"{path}:{error.lineno}: the template cannot be read: {error.message}"
    except (TemplateError, RecursionError, ValueError) as error:
        return f"{path}: the template cannot be read: {error}"
    return ""


def _place_in(folders: tuple[Path, ...], error: BaseException) -> str:
    """Return `FILE:LINE` in a user's template where rendering failed; else an empty text."""
    own = tuple(f"{folder}/" for folder in folders if folder.resolve() != TEMPLATES)
    if isinstance(error, TemplateSyntaxError) and (error.filename or "").startswith(own or ("\0",)):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if own and frame.filename.startswith(own):
            return f"{frame.filename}:{frame.lineno}"
    return ""
