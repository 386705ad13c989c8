"""Sphinx configuration of the site.

Two addresses are settings of whoever publishes it, and no address is invented where they are unset:
GASLAYERS_DOCS_URL, where the site will stand, and GASLAYERS_REPOSITORY_URL, where its source is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

from api_costs import COSTS  # noqa: E402  (found by the line above)
from notebooks import INSTALL  # noqa: E402
from source_links import find_source  # noqa: E402

import gaslayers  # noqa: E402

project = "gaslayers"
author = "gaslayers contributors"
project_copyright = "gaslayers contributors"
release = version = gaslayers.__version__

docs_url = os.environ.get("GASLAYERS_DOCS_URL", "").rstrip("/")
repository_url = os.environ.get("GASLAYERS_REPOSITORY_URL", "").rstrip("/")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    # Of this site, in _ext/.
    "audit_page",
    "benchmark_records",
    "block_diagram",
    "cost_chart",
    "cost_table",
    "executed",
    "gpu_records",
    "mathml",
    "notebooks",
    "record_changes",
    "record_role",
    "recorded",
    "signatures",
    "site_files",
    "typed_figures",
]
extensions.append("sphinx.ext.linkcode" if repository_url else "sphinx.ext.viewcode")
if docs_url:
    extensions += ["sphinxext.opengraph", "sphinx_sitemap"]

nitpicky = True
# The bounds of a field, which pydantic writes into its type, and variables of types have no pages.
nitpick_ignore_regex = [
    ("py:class", r"annotated_types\.\w+"),
    ("py:class", r"types\.Annotated"),
    ("py:class", r"\d+(\.\d+)?"),
    ("py:class", r"gaslayers\.lean\.engine\.\w+\._Module"),
    ("py:class", r"collections\.abc\.Iterator"),
    ("py:class", r"torch\._C\.Generator"),
]
default_role = "py:obj"
exclude_patterns = ["_build", "api/backreferences", "gallery/**/*.ipynb", "gallery/**/*.py"]
templates_path = ["_templates"]

# -- API ------------------------------------------------------------------------------------------
autosummary_generate = True
autosummary_context = {"costs": COSTS}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    name: f"gaslayers._typing.{name}"
    for name in (
        "ActivationLayer",
        "BlockLayer",
        "ConvLayer",
        "MemoryEfficient",
        "NormLayer",
        "PoolLayer",
    )
}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Shape", "notes_style")]
napoleon_use_rtype = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Small inventories, written by tools/write_inventories.py and committed: real links, and a build
# that needs no network.
intersphinx_mapping = {
    name: (address, f"inventories/{name}.inv")
    for name, address in {
        "python": "https://docs.python.org/3/",
        "torch": "https://docs.pytorch.org/docs/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "matplotlib": "https://matplotlib.org/stable/",
        "einops": "https://einops.rocks/",
        "fabric": "https://lightning.ai/docs/fabric/stable/",
        "hypothesis": "https://hypothesis.readthedocs.io/en/latest/",
    }.items()
}


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The address of a name's source, where the repository's is known."""
    if domain != "py" or not info["module"]:
        return None
    place = find_source(info["module"], info["fullname"])
    return place and f"{repository_url}/blob/main/{place}"


# -- Gallery --------------------------------------------------------------------------------------
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "subsection_order": [
        "../examples/blocks",
        "../examples/losses",
        "../examples/composing",
        "../examples/memory",
        "../examples/study",
        "*",
    ],
    "within_subsection_order": "FileNameSortKey",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(^|[\\/])_",
    "doc_module": ("gaslayers",),
    "backreferences_dir": "api/backreferences",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"matplotlib\.",
    "image_srcset": ["2x"],
    "reset_modules": ("gallery.reset",),  # a string: a function would not be pickled
    "reset_argv": "gallery.arguments_of",
    "write_computation_times": False,  # that page loads its table's script from another host
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "first_notebook_cell": INSTALL,
}

# -- HTML -----------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}  # unset, a first visit logs an error
html_title = f"gaslayers {version}"
html_baseurl = f"{docs_url}/" if docs_url else ""
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/logo.svg"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_sidebars = {"index": [], "changelog": [], "results/index": []}
html_theme_options = {
    "logo": {
        "text": "gaslayers",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_end": ["theme-switcher"],
}
if repository_url:
    html_theme_options["navbar_end"] = ["theme-switcher", "navbar-icon-links"]
    html_theme_options["icon_links"] = [
        {"name": "Source", "url": repository_url, "icon": "fa-brands fa-git-alt"}
    ]
if docs_url:
    # site_files writes the list of versions; its entries need an address, so it needs the site's.
    html_theme_options["check_switcher"] = False
    html_theme_options["switcher"] = {
        "json_url": f"{docs_url}/_static/switcher.json",
        "version_match": version,
    }
    html_theme_options["navbar_start"] = ["navbar-logo", "version-switcher"]
    ogp_site_url = html_baseurl
    ogp_social_cards = {"enable": True, "line_color": "#0072B2"}
    sitemap_url_scheme = "{link}"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

myst_enable_extensions: list[str] = []
myst_heading_anchors = 3
