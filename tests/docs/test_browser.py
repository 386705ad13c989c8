"""The site in a real browser: errors, search, buttons, themes, accessibility, phone width."""

from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

PAGES = (
    "index.html",
    "get_started/first_block.html",
    "gallery/index.html",
    "gallery/blocks/dense_block.html",
    "gallery/memory/lean_against_plain.html",
    "gallery/memory/costs_before_running.html",
    "gallery/study/case_6_inception_8.html",
    "how_to/migrate.html",
    "concepts/lean.html",
    "concepts/study.html",
    "results/index.html",
    "api.html",
    "api/gaslayers.DenseBlock.html",
    "api/gaslayers.count.html",
    "architecture.html",
)
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def tab(browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    yield page
    context.close()


def open_page(tab, address, path, *, theme=None):
    if theme:
        tab.add_init_script(f"localStorage.setItem('mode', '{theme}')")
    tab.goto(f"{address}/{path}", wait_until="load")


@pytest.mark.parametrize("path", PAGES)
def test_page_loads_without_errors_and_from_here_alone(tab, address, path):
    faults = []
    tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else 0)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("requestfailed", lambda request: faults.append(request.url))
    tab.on("response", lambda reply: faults.append(reply.url) if reply.status >= 400 else 0)
    hosts = set()
    tab.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    open_page(tab, address, path)
    tab.wait_for_timeout(300)
    assert not faults
    assert hosts - {""} == {urlsplit(address).netloc}


def test_search_finds_a_block(tab, address):
    open_page(tab, address, "search.html?q=DenseBlock")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    links = tab.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
    assert any("api/gaslayers.DenseBlock" in link for link in links)


def test_copy_button_copies_the_code(tab, address):
    open_page(tab, address, "index.html")
    code = tab.inner_text("div.highlight-python pre")
    tab.hover("div.highlight-python")
    tab.click("div.highlight-python button.copybtn")
    tab.wait_for_timeout(200)
    assert tab.evaluate("navigator.clipboard.readText()").strip() == code.strip()


def test_theme_can_be_switched(tab, address):
    open_page(tab, address, "index.html", theme="light")
    before = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.click(".theme-switch-button")
    tab.click(".theme-change-button[data-mode=dark]")
    tab.wait_for_timeout(500)
    assert tab.get_attribute("html", "data-theme") == "dark"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != before


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_page_has_no_serious_accessibility_violation(tab, address, path, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    open_page(tab, address, path, theme=theme)
    assert tab.get_attribute("html", "data-theme") == theme
    found = axe.Axe().run(tab).response["violations"]
    serious = [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not serious, "\n".join(serious)


@pytest.mark.parametrize("path", PAGES)
def test_page_fits_a_phone(tab, address, path):
    tab.set_viewport_size(PHONE)
    open_page(tab, address, path)
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"{width} pixels wide"
