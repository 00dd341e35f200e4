"""The site: no broken link, nothing loaded from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generator import site
from tests.docs.pages import ROOT, component_pages

pytestmark = pytest.mark.slow

ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//[^>]*stylesheet|"
    r"<link[^>]*stylesheet[^>]*\shref=\"?(?:https?:)?//|@import\s+url\(\"?(?:https?:)?//"
)


def built(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site from a folder of pages, without network where that can be forbidden."""
    settings = (ROOT / "mkdocs.yml").read_text()
    settings = settings.replace("docs_dir: docs", f"docs_dir: {source}")
    settings = settings.replace("hooks: [", f"hooks: [{ROOT}/")
    (target.parent / "mkdocs.yml").write_text(settings)
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    apart = ["unshare", "--net"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*apart, *words, "--config-file", target.parent / "mkdocs.yml"],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built without network."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = built(ROOT / "docs", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_has_every_page(html: Path) -> None:
    pages = {str(page.relative_to(html)) for page in html.rglob("*.html")}
    assert {"index.html", "tutorial.html", "zh/tutorial.html", "reference/settings.html"} <= pages
    assert {f"components/{name}.html" for name in component_pages()} <= pages


def test_site_loads_nothing_from_other_servers(html: Path) -> None:
    files = [file for suffix in ("html", "css") for file in html.rglob(f"*.{suffix}")]
    assert len(files) > 40
    assert [file.name for file in files if ELSEWHERE.search(file.read_text())] == []


def test_resource_of_another_server_is_found() -> None:
    assert ELSEWHERE.search('<script src="https://unpkg.com/mermaid"></script>')
    assert ELSEWHERE.search('<link href="https://fonts.example.com/css" rel="stylesheet">')
    assert not ELSEWHERE.search('<script src="../assets/javascripts/bundle.js"></script>')


@pytest.mark.parametrize("link", ["howto/nothing.md", "../deploys/nothing/README.md", "tutorial.md#nothing"])
def test_broken_link_fails_the_build(link: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.write(f"\n[broken]({link})\n")
    done = built(tmp_path / "docs", tmp_path / "site")
    assert done.returncode != 0
    assert "nothing" in done.stdout + done.stderr


def test_links_to_component_pages_are_rewritten_to_pages_of_the_site() -> None:
    assert site.place("components/base.md") == "deploys/base/README.md"
    assert site.place("howto/index.md") == "docs/howto/index.md"
    assert {file for file in site.PAGES if not (ROOT / file).is_file()} == set()


def test_links_of_pages_exist_in_the_repository() -> None:
    broken = []
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / source for source in site.PAGES)]
    for page in pages:
        text = site.FENCED.sub("", page.read_text())
        for link in site.LINK.findall(text):
            path = link.partition("#")[0]
            if path and "://" not in path and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert len(pages) > 40
    assert broken == []
