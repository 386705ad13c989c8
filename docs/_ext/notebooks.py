"""The examples as notebooks that run where they are unpacked, without this site's sources.

sphinx-gallery writes a notebook and a zip for each script. Here the notebook loses the pictures
that only the site can draw; one of the study gets its command line, and its zip the records that
it reads.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gallery import RECORDS
from record_role import replace_roles
from sphinx.application import Sphinx

from gaslayers.study import read_run

ADDRESS = os.environ.get("GASLAYERS_REPOSITORY_URL", "").rstrip("/")
INSTALL = (
    f'%pip install "gaslayers[study] @ git+{ADDRESS}"'
    if ADDRESS
    else "# Not on a package index yet: first run `pip install '.[study]'` in a clone of gaslayers."
)
COMMAND_LINE = """\
# A notebook has no command line: what the script would be given there stands here. The records are
# in the zip that the page of this notebook offers; a case run with "--preset", "quick" trains anew.
import sys

sys.argv[1:] = ["--records", "records/faithful"]"""

# Directives and references of this site mean nothing to a notebook.
_DIRECTIVE = re.compile(
    r"^\.\. (?:block-diagram|cost-table|executed)::.*\n(?:[ \t]+.*\n|\n)*", re.M
)
_ROLE = re.compile(r":(?:class|doc|func|meth|mod):`(?:~[\w.]*\.)?([^`]+)`")
_CASE = re.compile(r'^CASE = "(\w+)"', re.M)


def clean(notebook: dict[str, Any], *, is_study: bool) -> None:
    """Leave what a notebook can show, and say what the command line would."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            text = _DIRECTIVE.sub("", text + "\n").rstrip()
            cell["source"] = [_ROLE.sub(r"`\1`", replace_roles(text))]
    if is_study:
        notebook["cells"][0]["source"] = [f"{INSTALL}\n\n{COMMAND_LINE}"]


def records_of(script: Path) -> Iterator[Path]:
    """The files that a script of the study reads: those of its case, or of all."""
    case = _CASE.search(script.read_text(encoding="utf-8"))
    for folder in sorted(RECORDS.glob(f"{case[1] if case else '*'}-as_coded-seed*")):
        run = read_run(folder)  # so that a damaged one is not handed out
        yield from (folder / "record.json", folder / "curves.csv", *run.samples.values())
    if case:  # a case's page ends with what the audit has on it
        audit = RECORDS.parent / "audit"
        yield audit / "hypotheses.toml"
        for folder in sorted(path.parent for path in audit.rglob("record.json")):
            samples = read_run(folder).samples
            yield from (folder / "record.json", folder / "curves.csv", *samples.values())


def finish_notebooks(app: Sphinx) -> None:
    """Clean every notebook and pack it anew."""
    for path in sorted(Path(app.srcdir, "gallery").rglob("*.ipynb")):
        is_study = path.parent.name == "study"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        clean(notebook, is_study=is_study)
        path.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
        script = path.with_suffix(".py")
        with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as packed:
            for file in (script, path):
                packed.write(file, file.name)
            for file in records_of(script) if is_study else ():
                packed.write(file, file.relative_to(RECORDS.parent.parent))


def setup(app: Sphinx) -> dict[str, Any]:
    """Run after sphinx-gallery has written its pages."""
    app.connect("builder-inited", finish_notebooks, priority=900)
    return {"parallel_read_safe": True}
