"""The report as a browser shows it: wide and on a phone, light and dark, without a word to any other machine."""

import json
import os
import shutil

import numpy as np
import pytest

from predicted_data import make_dataset
from pipeline.answers import predictions
from pipeline.evaluation import evaluate as evaluation

CLASSES, PICTURES = 60, 240
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium by Selenium. Skips where there is none; CI, which installs one, says that there must be."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        if os.environ.get("FIELDMARK_BROWSER"):
            pytest.fail("chromium and chromedriver were to be installed, and are not on PATH")
        pytest.skip("no chromium with chromedriver here")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for one in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(one)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def single_label(tmp_path_factory):
    """Sixty classes without shards: drawings, tables of several pages and warnings."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    labels = np.arange(PICTURES) % CLASSES
    data = make_dataset(folder / "records", labels.tolist(), train_counts=range(3, 3 + CLASSES))
    logs = rng.normal(size=(PICTURES, CLASSES)) + 3 * np.eye(CLASSES)[labels]
    predictions.write(str(folder / "val"), [(list(data.examples("val")["id"]), logs)], {
        "examples": PICTURES, "class_ids": data.class_ids, "split": "val", "model_dir": "",
        "dataset": {"classes": data.classes_digest()}})
    evaluation.run_evaluation(data.directory, evaluation.Request(
        predictions=[str(folder / "val")], report=str(folder / "report.html")))
    return folder / "report.html"


@pytest.fixture(scope="module")
def with_pictures(tiny_multi_label_data, tmp_path_factory):
    """Several labels a picture, with galleries."""
    data, folder = tiny_multi_label_data, tmp_path_factory.mktemp("page")
    examples = data.examples("train")
    logs = np.log(np.random.default_rng(0).uniform(0.05, 0.9, (len(examples), 3)))
    predictions.write(str(folder / "train"), [(list(examples["id"]), logs)], {
        "examples": len(examples), "class_ids": data.class_ids, "split": "train", "model_dir": "", "kind": "sigmoid",
        "dataset": {"classes": data.classes_digest()}, "seen": {"splits": [], "pictures": 0}})
    evaluation.run_evaluation(data.directory, evaluation.Request(
        predictions=[str(folder / "train")], report=str(folder / "report.html")))
    return folder / "report.html"


def _opened(browser, path, width: int) -> None:
    browser.get_log("performance"), browser.get_log("browser")  # what was before is not this page's
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    browser.get(path.as_uri())


def _requests(browser) -> list[str]:
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize("page", ["single_label", "with_pictures"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_whole_quiet_and_no_wider_than_the_window(browser, request, page, width):
    path = request.getfixturevalue(page)
    _opened(browser, path, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    assert [one for one in _requests(browser) if not one.startswith("data:")] == [path.as_uri()]
    pictures = browser.execute_script("return [...document.images].map(one => { one.loading = 'eager'; return one.src; })")
    assert bool(pictures) == (page == "with_pictures")
    headings = browser.execute_script("return [...document.querySelectorAll('nav a')].map(one => "
                                      "[one.textContent, document.querySelector(one.hash).textContent])")
    assert headings and all(link == heading for link, heading in headings)


def test_ink_follows_the_colour_scheme(browser, single_label):
    colours = {}
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": scheme}]})
        _opened(browser, single_label, 390)
        colours[scheme] = browser.execute_script(
            "const brightness = one => one.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);"
            "return [brightness(getComputedStyle(document.querySelector('svg text, svg use')).color),"
            " brightness(getComputedStyle(document.body).backgroundColor)]")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colours["light"][0] < 200 and colours["light"][1] > 600
    assert colours["dark"][0] > 500 and colours["dark"][1] < 120


def test_tables_are_searched_sorted_and_turned_over(browser, single_label):
    _opened(browser, single_label, 1280)

    def cells(column: int) -> list[str]:
        return browser.execute_script("return [...document.querySelectorAll('.paged tbody tr')].map("
                                      "row => row.cells[arguments[0]].textContent)", column)

    def click(selector: str) -> None:
        browser.find_element("css selector", selector).click()

    first = cells(0)
    assert len(first) == 20
    click(".paged .bar button[aria-label='next page']")
    second = cells(0)
    assert len(second) == 20 and not set(first) & set(second)
    click(".paged th:nth-child(2) button")  # in train: the largest first, then the smallest
    assert cells(1) == [str(3 + CLASSES - 1 - number) for number in range(20)]
    click(".paged th:nth-child(2) button")
    assert cells(1) == [str(3 + number) for number in range(20)]
    browser.find_element("css selector", ".paged input").send_keys("species 41")
    assert "species 41" in cells(0)
    assert all("species 41" in row for row in browser.execute_script(
        "return [...document.querySelectorAll('.paged tbody tr')].map(row => row.textContent)"))
