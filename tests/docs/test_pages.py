"""The files of the built site: links, anchors, pictures, and nothing from another host."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import gaslayers
import gaslayers.study

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


class _Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.path = path
        self.anchors, self.links, self.images, self.loaded = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)
        if tag in ("img", "script", "iframe", "video", "source") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and "stylesheet" in attributes.get("rel", ""):
            self.loaded.append(attributes["href"])


@cache
def read(path):
    return _Page(path)


@pytest.fixture(scope="module")
def pages(site):
    found = sorted(site.rglob("*.html"))
    assert len(found) > 40
    return [read(path) for path in found]


def target_of(page, reference):
    parts = urlsplit(reference)
    path = Path(page.path.parent, unquote(parts.path)) if parts.path else page.path
    return path.resolve(), unquote(parts.fragment)


def test_every_internal_link_and_anchor_resolves(pages):
    broken = []
    for page in pages:
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path, fragment = target_of(page, link)
            if not path.exists() or (
                fragment and path.suffix == ".html" and fragment not in read(path).anchors
            ):
                broken.append(f"{page.path.name}: {link}")
    assert not broken, "\n".join(broken)


def test_every_picture_is_there_and_has_alt_text(pages):
    missing = []
    for page in pages:
        for image in page.images:
            exists = image["src"].startswith("data:") or target_of(page, image["src"])[0].exists()
            # The title stands beside a thumbnail, the name beside the logo: twice would be noise.
            is_decoration = image["src"].endswith(("_thumb.png", "logo.svg")) and "alt" in image
            if not exists or not (is_decoration or image.get("alt", "").strip()):
                missing.append(f"{page.path.name}: {image}")
    assert not missing, "\n".join(missing)


def test_no_page_loads_anything_from_another_host(pages):
    foreign = [
        f"{page.path.name}: {address}"
        for page in pages
        for address in page.loaded
        if urlsplit(address).netloc
    ]
    assert not foreign, "\n".join(foreign)


def test_every_example_has_a_page_that_ran(site):
    scripts = [path for path in (ROOT / "examples").glob("*/*.py") if not path.name.startswith("_")]
    assert len(scripts) >= 11
    for script in scripts:
        page = site / "gallery" / script.parent.name / f"{script.stem}.html"
        text = page.read_text(encoding="utf-8")
        minutes, seconds = re.search(r"\((\d+) minutes ([\d.]+) seconds\)", text).groups()
        assert 60 * int(minutes) + float(seconds) > 0, f"{script.name} did not run"
        # Drawn by the page itself, or a picture of the study's report, which is inline.
        shows = "sphx-glr-single-img" in text or '<img src="data:image/png' in text
        assert shows, f"{script.name} shows no figure"


@pytest.mark.parametrize("name", sorted(set(gaslayers.study.__all__) - {"PRESETS"}))
def test_every_name_of_the_study_has_a_page(site, name):
    text = (site / "api" / f"gaslayers.study.{name}.html").read_text(encoding="utf-8")
    assert f'id="gaslayers.study.{name}"' in text


def test_no_list_of_unused_names_is_shown(site):
    shown = {path.name for path in site.rglob("*.html")}
    assert "sg_api_usage.html" not in shown
    texts = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    assert not [text for text in texts if "Unused API" in text]


@pytest.mark.parametrize("name", gaslayers.__all__)
def test_every_public_name_has_a_page_with_an_example(site, name):
    text = (site / "api" / f"gaslayers.{name}.html").read_text(encoding="utf-8")
    assert "sphx-glr-thumbcontainer" in text


def test_other_projects_can_link_here(site):
    InventoryFile = pytest.importorskip("sphinx.util.inventory").InventoryFile  # noqa: N806
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    assert {f"gaslayers.{name}" for name in gaslayers.__all__} <= (
        inventory["py:class"].keys() | inventory["py:function"].keys()
    )
    assert "gaslayers.DenseBlock" in (site / "llms.txt").read_text(encoding="utf-8")


def test_numbers_of_the_results_page_are_the_records(site):
    text = (site / "results" / "index.html").read_text(encoding="utf-8")
    records = ROOT / "benchmarks/records"
    lean, eager, alone, counting = (
        json.loads((records / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("lean", "lean_eager", "lean_without_kernels", "counting")
    )
    rows = [row for work in lean["work"].values() for row in work["rows"].values()]
    ways = ("plain eager", "gaslayers", "gaslayers, recompute")
    summed = [*eager["work"].values(), *alone["work"].values()]
    rows += [work["rows"][way] for work in summed for way in ways if way in work["rows"]]
    for row in rows:
        assert f"<p>{row['kept_bytes'] / 2**20:.2f} MiB</p>" in text
        assert f"<p>{row['time_ratio']:.2f}</p>" in text
    for network in counting["networks"].values():
        for row in [*network["macs"].values(), *network["peak"].values()]:
            assert "value" not in row or f"<p>{row['value']:,}</p>" in text
    for path in (ROOT / "examples/records/quick").glob("*/record.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        assert f"<p>{run['discriminator_parameters']:,}</p>" in text
        assert f"<p>{run['config_hash'][:12]}</p>" in text


def test_sitemap_names_the_pages_where_they_will_stand(site):
    sitemap = site / "sitemap.xml"
    if not sitemap.exists():
        pytest.skip("built without GASLAYERS_DOCS_URL")
    index = (site / "index.html").read_text(encoding="utf-8")
    base = re.search(r'<link rel="canonical" href="([^"]+)index.html"', index)[1]
    found = re.findall(r"<loc>(.*?)</loc>", sitemap.read_text(encoding="utf-8"))
    assert len(found) > 40
    assert all((site / address.removeprefix(base)).is_file() for address in found)
