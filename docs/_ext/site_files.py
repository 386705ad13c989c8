"""Files beside the pages, and the promise that every public name has a page and an example."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

import gaslayers

logger = logging.getLogger(__name__)

PACKAGE = Path(gaslayers.__file__).parent


def public_modules() -> list[str]:
    """Every module that says by ``__all__`` which of its names are public."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            found.append(".".join(part for part in parts if part != "__init__"))
    return found


def find_names_without_page(api: str) -> list[str]:
    """The public names that the text of ``api.rst`` has neither where they are nor higher up."""
    modules = {module: importlib.import_module(module).__all__ for module in public_modules()}
    listed = set(api.split())

    def is_listed(module: str, name: str) -> bool:
        above = [other for other in modules if f"{module}.".startswith(f"{other}.")]
        return any(f"{other}.{name}" in listed for other in above if name in modules[other])

    return [
        f"{module}.{name}"
        for module, names in modules.items()
        for name in names
        if not is_listed(module, name)
    ]


def check_public_names(app: Sphinx) -> None:
    """Warn, which fails a strict build, of a public name without a page or without an example."""
    for name in find_names_without_page(Path(app.srcdir, "api.rst").read_text(encoding="utf-8")):
        logger.warning("api.rst: `%s` is public and has no page", name)
    if app.config.sphinx_gallery_conf["filename_pattern"] != r"\.py$":
        return  # only a part of the gallery ran
    used = json.loads(
        Path(app.srcdir, "api/backreferences/backreferences_all.json").read_text(encoding="utf-8")
    )
    for name in gaslayers.__all__:
        if f"gaslayers.{name}" not in used:
            logger.warning("examples/: `gaslayers.%s` is public and in no example", name)


def _first_paragraph(document: nodes.document) -> str:
    paragraph = next(iter(document.findall(nodes.paragraph)), None)
    return "" if paragraph is None else " ".join(paragraph.astext().split())


def write_llms_txt(app: Sphinx) -> None:
    """List the pages with a sentence each, as llmstxt.org describes."""
    base = app.config.html_baseurl
    env = app.env
    lines = [f"# {app.config.project}", "", f"> {_summary()}", "", "## Pages", ""]
    for docname in sorted(env.found_docs):
        if docname.startswith(("api/", "sg_")) or docname == "index":
            continue
        title = env.titles[docname].astext()
        words = _first_paragraph(env.get_doctree(docname)).partition(". ")[0].rstrip(".")
        lines.append(f"- [{title}]({base}{docname}.html): {words}.")
    lines += ["", "## API", ""]
    for docname in sorted(env.found_docs):
        if docname.startswith("api/"):
            lines.append(f"- [{docname.removeprefix('api/')}]({base}{docname}.html)")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _summary() -> str:
    return " ".join((gaslayers.__doc__ or "").split())


def write_switcher(app: Sphinx) -> None:
    """List the versions of the site, where its address is known."""
    if not app.config.html_baseurl:
        return
    entry = {
        "name": f"{app.config.version} (this one)",
        "version": app.config.version,
        "url": app.config.html_baseurl,
        "preferred": True,
    }
    path = Path(app.outdir, "_static", "switcher.json")
    path.write_text(json.dumps([entry], indent=1) + "\n", encoding="utf-8")


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write what stands beside the pages."""
    if exception is None and app.builder.format == "html":
        write_llms_txt(app)
        write_switcher(app)
        Path(app.outdir, ".nojekyll").touch()  # or GitHub's Pages would leave out _static


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what runs when the pages are read and when they are written."""
    app.connect("builder-inited", check_public_names, priority=950)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True}
