"""The chart of costs: its numbers are the records', it answers to a pointer and to the theme."""

import json
from pathlib import Path

import pytest

from gaslayers.models import CASES

pytestmark = pytest.mark.slow

RECORDS = Path(__file__).resolve().parents[2] / "examples" / "records" / "faithful"
CHART = ".cost-chart .chart"
FIELDS = {"plain": "saved_bytes_plain", "lean": "saved_bytes"}


@pytest.fixture(scope="module")
def records():
    paths = [RECORDS / f"{case}-as_coded-seed0" / "record.json" for case in CASES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


@pytest.fixture
def tab(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("if (!localStorage.mode) localStorage.mode = 'light'")
    page.goto(f"{address}/results/index.html", wait_until="load")
    page.wait_for_selector(f"{CHART} .point")
    yield page
    context.close()


def test_chart_shows_the_records(tab, records):
    traces = tab.evaluate(f"document.querySelector('{CHART}').data")
    assert [trace["name"] for trace in traces] == list(FIELDS)
    for trace in traces:
        kept = [record["memory_predicted"][FIELDS[trace["name"]]] for record in records]
        assert trace["x"] == [record["discriminator_parameters"] for record in records]
        assert [y * 2**20 for y in trace["y"]] == kept
        assert [[case, size] for case, size, _ in trace["customdata"]] == [
            [case, size] for case, size in zip(CASES, kept, strict=True)
        ]


def test_pointing_at_a_mark_names_its_case_and_cost(tab, records):
    tab.locator(f"{CHART} .point").first.hover(force=True)  # a transparent layer lies above it
    said = tab.locator(f"{CHART} .hoverlayer").text_content()
    assert CASES[0] in said
    assert f"{records[0]['discriminator_parameters']:,} parameters" in said
    assert f"{records[0]['memory_predicted']['saved_bytes_plain']:,} bytes kept, plain" in said


def test_chart_takes_the_colours_of_the_theme(tab):
    colours = f"document.querySelector('{CHART}').data.map(trace => trace.marker.color)"
    light = tab.evaluate(colours)
    assert len(set(light)) == len(FIELDS)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.wait_for_function(f"{colours}[0] !== '{light[0]}'")
    assert set(tab.evaluate(colours)).isdisjoint(light)


def test_plotly_is_loaded_where_there_is_a_chart_alone(site):
    pages = {
        path.relative_to(site).as_posix()
        for path in site.rglob("*.html")
        if "plotly.min.js" in path.read_text(encoding="utf-8")
    }
    assert pages == {"results/index.html"}


def test_site_is_small(site):
    size = sum(path.stat().st_size for path in site.rglob("*") if ".doctrees" not in path.parts)
    assert size <= 60 * 2**20
