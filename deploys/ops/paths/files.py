"""Files, folders and links: written to a temporary path next to them, checked, then moved into place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import NOT_SHOWN, operation, record, text_diff
from deploys.ops.facts import OwnersFact, PathFact, PathState, StaysFact
from deploys.ops.paths import originals
from deploys.ops.paths.foreign import REMOVE, SETTLE
from deploys.ops.paths.templates import TEMPLATES, rendered
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import framed, script
from deploys.settings import supplies

__all__ = ["TEMPLATES", "rendered"]


def put(  # noqa: PLR0913 - operations of pyinfra are called so
    dest: str,
    content: str | bytes,
    *,
    owner: str = "root",
    group: str = "root",
    mode: str = "0644",
    secret: bool = False,
    check: str | None = None,
    **arguments: Any,
) -> OperationMeta:
    """Write a file with exactly this content and ownership.

    The content is sent on standard input to a temporary file next to `dest`, unreadable for others, and moved
    into place as a whole. `check` is a shell command in which `{}` stands for the temporary file (its name
    begins with a dot and ends like that of `dest`); when it fails, the old file stays and the operation fails
    with its output. `mode` has four octal digits. Of a `secret` file neither content nor difference is shown.
    An original there is copied, and restored on removal; see `deploys.ops.paths.originals`.

    In a folder of a user other than root the file is written with that user's rights, and so must belong to
    that user (see `deploys.ops.paths.foreign`).
    """
    arguments.setdefault("name", f"Write {dest}")
    data = content.encode() if isinstance(content, str) else content
    wanted = PathState("file", mode, owner, group)
    return _put(dest, data, wanted, secret, check, originals.owner_of(dest), **arguments)


def template(src: str, dest: str, values: Mapping[str, Any], **put_arguments: Any) -> OperationMeta:
    """Write the file `dest` rendered from `templates/<src>`; see `put` for the other arguments."""
    return put(dest, render(src, values), **put_arguments)


def render(src: str, values: Mapping[str, Any], overrides: Path | None = None) -> str:
    """Render `templates/<src>` with `values`; the user's own templates take precedence.

    Raises on a missing value.
    """
    own = overrides or supplies().template_overrides
    return rendered(src, values, (*((own,) if own else ()), TEMPLATES))


def directory(
    path: str, *, owner: str = "root", group: str = "root", mode: str = "0755", **arguments: Any
) -> OperationMeta:
    """Create a folder with this ownership; missing parent folders are created."""
    arguments.setdefault("name", f"Folder {path}")
    wanted = PathState("directory", mode, owner, group)
    return _directory(path, wanted, originals.owner_of(path), **arguments)


def kept_private(modes: Mapping[str, str], *, owner: str, **arguments: Any) -> OperationMeta:
    """Set `owner` and mode (by path) of files that a program creates itself; missing ones are skipped.

    Only owner and mode are checked: the files may be large, and in use.
    """
    arguments.setdefault("name", f"Keep private {next(iter(modes))}")
    return _kept_private(modes, owner, **arguments)


def link(path: str, target: str, **arguments: Any) -> OperationMeta:
    """Create a symbolic link, or switch it to `target` atomically."""
    arguments.setdefault("name", f"Link {path}")
    return _link(path, target, originals.owner_of(path), **arguments)


def absent(path: str, *, generated: tuple[str, ...] = (), **arguments: Any) -> OperationMeta:
    """Remove what this program has put at `path`; a folder with its content, of a link only the link.

    The original is restored. In /etc, files that were never this program's stay: from a folder are
    removed the files that this program wrote and those that match `generated`, patterns of paths in the
    folder that the component's packages and programs generate. The plan names what stays. A mount point, such
    as a folder on the data disk, is emptied.
    """
    arguments.setdefault("name", f"Remove {path}")
    return _absent(path, originals.owner_of(path), generated, **arguments)


def displaced(path: str, **arguments: Any) -> OperationMeta:
    """Set the original at `path` aside while the component is installed; a copy is kept."""
    arguments.setdefault("name", f"Set {path} aside")
    return _displaced(path, originals.owner_of(path), **arguments)


@operation
def _put(
    dest: str, content: bytes, wanted: PathState, secret: bool, check: str | None, component: str
) -> Iterator[StringCommand]:
    state: PathState = host.get_fact(PathFact, path=dest, content=not secret, owner=component)
    same_content = state.kind == "file" and state.sha256 == sha256(content).hexdigest()
    if same_content and not [*ownership(state, wanted)]:
        return
    lines = (*_differences(state, wanted, content, same_content, secret), *_replacing(state, dest, component))
    record(Change(dest, lines, secret))
    yield script(
        _PUT,
        stdin=framed(content),
        **originals.values(component),
        dest=dest,
        belongs=wanted.owner,
        group=wanted.group,
        mode=wanted.mode,
        suffix=Path(dest).suffix,
        check=check.replace("{}", '"$temporary"') if check else "",
    )


_PUT = program("deploys/ops/paths/scripts/put.sh")


def _replacing(state: PathState, path: str, component: str) -> Iterator[str]:
    if state.original == "foreign":
        copy = originals.kept_at(component, path)
        yield f"replaces a file that is not of clawd-provision: copied to {copy}, restored on removal"


def _differences(
    old: PathState, new: PathState, content: bytes, same_content: bool, secret: bool
) -> Iterator[str]:
    if not same_content:
        if secret:
            yield NOT_SHOWN
        elif old.kind == "file" and old.content is None:
            yield "content differs, too large to show"
        else:
            yield from text_diff(old.content, content)
    if old.kind in ("link", "directory", "other"):
        yield f"was a {old.kind}" if old.kind != "other" else "was not a regular file"
    elif old.kind == new.kind:
        yield from ownership(old, new)


def ownership(old: PathState, new: PathState) -> Iterator[str]:
    """Yield how mode, owner and group would change, as text."""
    for label, before, after in (
        ("mode", old.mode, new.mode),
        ("owner", old.owner, new.owner),
        ("group", old.group, new.group),
    ):
        if before != after:
            yield f"{label} {before} → {after}"


@operation
def _directory(path: str, wanted: PathState, component: str) -> Iterator[StringCommand]:
    state: PathState = host.get_fact(PathFact, path=path)
    if state == wanted:
        return
    new = (f"new folder {wanted.mode} {wanted.owner}:{wanted.group}",)
    record(Change(path, tuple(ownership(state, wanted)) if state.kind == "directory" else new))
    yield script(
        _DIRECTORY,
        **originals.values(component),
        path=path,
        belongs=wanted.owner,
        group=wanted.group,
        mode=wanted.mode,
        settle=SETTLE,
    )


_DIRECTORY = program("deploys/ops/paths/scripts/directory.sh")


@operation
def _kept_private(modes: Mapping[str, str], owner: str) -> Iterator[StringCommand]:
    there: dict[str, tuple[str, str]] = host.get_fact(OwnersFact, paths=tuple(modes))
    for path, (old_owner, old_mode) in there.items():
        mode = modes[path]
        found, wanted = PathState(owner=old_owner, mode=old_mode), PathState(owner=owner, mode=mode)
        if differences := tuple(ownership(found, wanted)):
            record(Change(path, differences))
            # The owner of the folder may replace the file by a link at any moment.
            settle = 'python3 -I -c "$settle" "$path" "$owner" "$mode"'
            yield script(settle, settle=SETTLE, path=path, owner=owner, mode=mode)


@operation
def _link(path: str, target: str, component: str) -> Iterator[StringCommand]:
    state: PathState = host.get_fact(PathFact, path=path, owner=component)
    if state.kind == "link" and state.target == target:
        return
    before = state.target if state.kind == "link" else state.kind
    record(Change(path, (f"link {before} → {target}", *_replacing(state, path, component))))
    yield script(_LINK, **originals.values(component), path=path, target=target)


_LINK = program("deploys/ops/paths/scripts/link.sh")


@operation
def _absent(path: str, component: str, generated: tuple[str, ...]) -> Iterator[StringCommand]:
    asked = {"generated": generated} if generated else {}
    state: PathState = host.get_fact(PathFact, path=path, owner=component, **asked)
    kept = state.original == "kept"
    others = state.original == "foreign" and path.startswith(f"{originals.ETC}/")
    if state.vacant or others or (state.kind == "absent" and not kept):
        return
    stays: tuple[str, ...] = ()
    if component and state.kind == "directory" and path.startswith(f"{originals.ETC}/"):
        stays = host.get_fact(StaysFact, path=path, owner=component, generated=generated)
    record(Change(path, ("original restored",) if kept else ("removed", *originals.staying(stays))))
    yield script(
        _ABSENT,
        **originals.values(component),
        path=path,
        remove=REMOVE,
        generated="\n".join(generated),
    )


_ABSENT = program("deploys/ops/paths/scripts/absent.sh")


@operation
def _displaced(path: str, component: str) -> Iterator[StringCommand]:
    state: PathState = host.get_fact(PathFact, path=path, owner=component)
    if state.kind == "absent":
        return
    record(Change(path, ("removed", *_replacing(state, path, component))))
    yield script(_DISPLACE, **originals.values(component), path=path)


_DISPLACE = program("deploys/ops/paths/scripts/displace.sh")
