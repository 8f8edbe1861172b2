"""The demo page in a real browser (Debian's chromium and chromium-driver)."""

import base64
import contextlib
import shutil
import subprocess
import time

import httpx
import pytest

from tests import serving_models
from tests.category_bundle import (
    MAIN_CATEGORIES,
    SECOND_CATEGORY,
    categories_of,
    maker_of,
    price_of,
    save_category_bundle,
)
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

pytestmark = pytest.mark.slow

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver's key of an element


class Browser:
    """The few commands of the W3C WebDriver protocol that the tests need."""

    def __init__(self, driver_port, profile):
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{driver_port}", timeout=LONG_SECONDS)
        options = {
            "args": [
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--window-size=1200,900"),
                f"--user-data-dir={profile}",
            ]
        }
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        body = {"capabilities": {"alwaysMatch": capabilities}}
        created = self._http.post("/session", json=body).raise_for_status().json()
        self._session = f"/session/{created['value']['sessionId']}"

    def command(self, path, **body):
        response = self._http.post(f"{self._session}/{path}", json=body)
        assert response.is_success, response.text
        return response.json()["value"]

    def open(self, url):
        self.command("url", url=url)

    def script(self, code, *args):
        return self.command("execute/sync", script=code, args=list(args))

    def element(self, selector):
        found = self.command("element", using="css selector", value=selector)
        return f"element/{found[_ELEMENT]}"

    def click(self, selector):
        self.command(f"{self.element(selector)}/click")

    def type(self, selector, text):
        self.command(f"{self.element(selector)}/value", text=text)

    def texts(self, selector):
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)",
            selector,
        )

    def items(self, selector):
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.dataset.item)",
            selector,
        )

    def set_slider(self, selector, value):
        self.script(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', { bubbles: true }))",
            selector,
            value,
        )

    def console_errors(self):
        entries = self.command("se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self, path):
        shot = self._http.get(f"{self._session}/screenshot").json()["value"]
        path.write_bytes(base64.b64decode(shot))

    def close(self):
        self._http.delete(self._session)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = shutil.which("chromedriver")
    assert driver, "install Debian's chromium and chromium-driver to run the slow tests"
    profile = tmp_path_factory.mktemp("profile")
    with (profile / "log").open("w+") as log:
        process = subprocess.Popen([driver, "--port=0"], stdout=log)

        def port():
            text = (profile / "log").read_text()
            return text.partition("successfully on port ")[2].partition(".")[0]

        wait_until(lambda: port().isdigit())
        browser = Browser(port(), profile / "chromium")
        yield browser
        with contextlib.suppress(httpx.HTTPError):
            browser.close()
        process.terminate()
        process.wait()


@pytest.fixture
def page(browser, server):
    browser.open("about:blank")
    browser.open(f"{server.url}/#model=mind")
    wait_until(lambda: browser.texts(".interest h2") == ["Popular items"])
    yield browser
    assert browser.console_errors() == []


def _add(page, query, item):
    page.type("#query", query)
    wait_until(lambda: item in page.items("#matches [role=option]"))
    page.click(f'#matches [data-item="{item}"]')
    wait_until(lambda: item in page.items("#history li"))
    _settle(page)


def _settle(page):
    busy = "return document.querySelector('#results').ariaBusy"
    wait_until(lambda: page.script(busy) == "false")


def test_a_history_is_built_by_title_and_forms_interests(page, server):
    for query, item in (("title 19", "19"), ("Title 42", "42"), ("77", "77"), ("title 5", "5")):
        _add(page, query, item)
    history = ["19", "42", "77", "5"]
    assert page.items("#history li") == history
    page.set_slider("#k", 6)
    wait_until(lambda: {len(r) for r in _rows(page).values()} == {6})

    body = {"inputs": {"history": [history], "k": 24}}
    found = server.http.post("/v1/models/mind:predict", json=body).json()["outputs"]
    pairs = list(zip(found["item_ids"][0], found["interest_index"][0], strict=True))
    assert _rows(page) == {n: [i for i, m in pairs if m == n][:6] for n in (0, 1)}
    # Each history item forms one interest.
    assert sorted(page.texts(".formed .chip")) == sorted(f"Title {i}" for i in history)


def _rows(page):
    return {
        int(interest): page.items(f'.interest[data-interest="{interest}"] .items li')
        for interest in page.script(
            "return [...document.querySelectorAll('.interest')].map((e) => e.dataset.interest)"
        )
    }


def test_the_history_can_be_changed_and_shared(page, server):
    _add(page, "title 19", "19")
    page.click(".items li button")  # a recommended item becomes history
    wait_until(lambda: len(page.items("#history li")) == 2)
    address = page.script("return location.href")
    shared = page.items("#history li")
    page.open("about:blank")
    page.open(address)
    wait_until(lambda: page.items("#history li") == shared)
    _settle(page)
    page.click("#history li button")
    wait_until(lambda: page.items("#history li") == shared[1:])
    _settle(page)
    page.click("#clear")
    wait_until(lambda: page.texts(".interest h2") == ["Popular items"])


def test_the_number_of_rows_follows_its_slider(page):
    for query, item in (("title 19", "19"), ("Title 42", "42")):
        _add(page, query, item)
    wait_until(lambda: len(_rows(page)) == 2)
    page.set_slider("#interests", 1)
    wait_until(lambda: len(_rows(page)) == 1)


def test_diversity_and_category_appear_where_items_have_categories(page, browser, server):
    assert page.script("return document.querySelector('#diversity-row').offsetHeight") == 0
    assert page.script("return document.querySelector('#new-filter').offsetHeight") == 0
    browser.open("about:blank")
    browser.open(f"{server.url}/#model=shop&history=3,9")
    wait_until(lambda: len(_rows(page)) == 2)
    _settle(page)
    assert page.script("return document.querySelector('#diversity-row').offsetHeight") > 0

    shown = _rows(page)
    assert page.texts(".items li .categories") == [
        ", ".join(sorted(categories_of(item))) for row in shown.values() for item in row
    ]

    page.set_slider("#diversity", 1)
    wait_until(lambda: _rows(page) != shown)
    _settle(page)
    body = {"inputs": {"history": [["3", "9"]], "k": 32, "diversity": 1.0}}
    found = server.http.post("/v1/models/shop:predict", json=body).json()["outputs"]
    pairs = list(zip(found["item_ids"][0], found["interest_index"][0], strict=True))
    assert _rows(page) == {n: [i for i, m in pairs if m == n][:8] for n in (0, 1)}

    values = "return [...document.querySelectorAll('#category-names option')].map((e) => e.value)"
    assert set(page.script(values)) == {*MAIN_CATEGORIES, SECOND_CATEGORY}
    _filter(page, "allow_categories", "war")
    wait_until(lambda: _categories(page) == {"war"})
    address = page.script("return location.href")
    assert "diversity=1&filter=allow_categories%3Awar" in address
    browser.open("about:blank")
    browser.open(address)
    wait_until(lambda: _categories(page) == {"war"})
    _filter(page, "allow_categories", "noir")
    wait_until(lambda: _categories(page) == {"war", "noir"})
    assert page.texts("#filters .chip") == ["category is war ✕", "category is noir ✕"]
    page.click("#filters .chip")  # the first goes
    wait_until(lambda: _categories(page) == {"noir"})


def _filter(page, by, value):
    page.set_slider("#filter-by", by)
    page.type("#filter-value", value)
    page.click("#new-filter button[type=submit]")


def test_other_features_filter_too(browser, tmp_path):
    save_category_bundle(tmp_path / "shop" / "1", filters=True)
    with RunningServer(model_base_path=str(tmp_path / "shop"), model_name="shop") as server:
        browser.open(f"{server.url}/#history=3,9")
        wait_until(lambda: len(_rows(browser)) == 2)
        options = browser.texts("#filter-by option")
        assert options == [
            *("category is", "category is not", "maker is", "maker is not"),
            *("price at least", "price at most"),
        ]
        _filter(browser, "deny_maker", maker_of("7"))
        _filter(browser, "min_price", "100")
        _filter(browser, "max_price", "500")
        _filter(browser, "max_price", "120")  # a bound takes the place of the one before

        def shown():
            return [item for row in _rows(browser).values() for item in row]

        wait_until(lambda: len(browser.texts("#filters .chip")) == 3)
        wait_until(lambda: shown() and all(100 <= price_of(item) <= 120 for item in shown()))
        _settle(browser)
        assert maker_of("7") not in {maker_of(item) for item in shown()}


def _categories(page):
    return {
        name for row in _rows(page).values() for item in row for name in categories_of(item)[:1]
    }


def test_unknown_items_are_marked(page, server):
    page.open("about:blank")
    page.open(f"{server.url}/#model=mind&history=19,nonsense")
    wait_until(lambda: page.texts("#history .unknown") == ["nonsense (unknown)"])


def test_titles_are_text_not_markup(page):
    _add(page, "<b>", "13")
    assert page.texts("#history li span") == ["<b>Bold</b> & co"]
    assert page.script("return document.querySelectorAll('#history b').length") == 0


def test_nothing_is_fetched_from_elsewhere(page, server):
    _add(page, "title 19", "19")
    time.sleep(0.2)
    urls = page.script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert urls
    assert [url for url in urls if not url.startswith((server.url, "data:"))] == []


def test_an_item_goes_out_of_stock_and_another_is_added(browser, live_shop, tmp_path):
    serving_models.push(live_shop, tmp_path / "shop", 1)
    with RunningServer(
        model_base_path=str(tmp_path / "shop"),
        model_name="shop",
        live_catalogue=str(tmp_path / "log"),
    ) as server:
        browser.open(f"{server.url}/#history=3,9")
        wait_until(lambda: len(_rows(browser)) == 2)
        _settle(browser)
        shown = _rows(browser)
        gone = next(iter(shown.values()))[0]
        browser.click(f'.items [data-item="{gone}"] button.hide')
        wait_until(lambda: browser.items("#hidden-items button") == [gone])
        wait_until(lambda: gone not in {item for row in _rows(browser).values() for item in row})
        browser.click("#hidden-items button")
        wait_until(lambda: _rows(browser) == shown)

        browser.type("#new-id", "brand-new")
        browser.type("#new-title", "Brand new")
        browser.type("#new-feature-point", "1.5")
        browser.type("#new-feature-category", "war, fresh")
        browser.click("#new-item button")
        # Of one category, all items have a place on the page.
        _filter(browser, "allow_categories", "war")
        browser.set_slider("#k", 30)
        wait_until(lambda: "Brand new" in browser.texts(".items .title"))
        assert server.http.get("/v1/models/shop/items").json()["live_items"] == 1
