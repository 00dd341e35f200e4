"""Adds to the site what is not in `docs/`: pages elsewhere in the repository, and files that pages link to.

A MkDocs hook. Pages in the repository link to each other by relative paths, as they are read there; here
these links are turned to the place that a page or file has on the site. A link to nothing is left as it is,
and `mkdocs build --strict` reports it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "readme.md",
    "README.zh.md": "zh/readme.md",
    "ARCHITECTURE.md": "explanation/architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"deploys/{folder.name}/README.md": f"components/{folder.name}.md"
        for folder in sorted((ROOT / "deploys").iterdir())
        if (folder / "README.md").is_file()
    },
}
"""Pages outside `docs/`, by their path in the repository, and where they are on the site."""
LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that live elsewhere."""
    for source, there in PAGES.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page to their places on the site."""
    here = place(page.file.src_uri)

    def turned(match: re.Match[str]) -> str:
        return link_on_site(match[1], here, page.file.src_uri, files, config)

    kept = FENCED.findall(markdown)
    parts = [LINK.sub(turned, part) for part in FENCED.split(markdown)]
    return "".join(part + (kept[at] if at < len(kept) else "") for at, part in enumerate(parts))


def link_on_site(link: str, here: str, page: str, files: Files, config: Any) -> str:
    """Return `link` of the page `page`, which lies at `here` in the repository, as it is on the site."""
    parts = urlsplit(link)
    if parts.scheme or not parts.path or parts.path.startswith("/"):
        return link
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), parts.path))
    there = _on_site(target, files, config)
    if there is None:
        return link
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return posixpath.relpath(there, posixpath.dirname(page) or ".") + fragment


def place(page: str) -> str:
    """Return where a page of the site lies in the repository."""
    return next((source for source, there in PAGES.items() if there == page), f"docs/{page}")


def _on_site(target: str, files: Files, config: Any) -> str | None:
    """Return the place of a file of the repository on the site, adding it where it is not a page."""
    if target in PAGES:
        return PAGES[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    file = ROOT / target
    if not file.is_file():
        return None
    there = f"files/{target}"
    if files.get_file_from_path(there) is None:
        files.append(File.generated(config, there, abs_src_path=str(file)))
    return there
