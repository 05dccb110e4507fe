"""MindInsight's own page in a real browser over our database: each view draws what the runs hold, and nothing fails.

Its front-end is no part of ours: it is taken from MINDINSIGHT_UI, or from the mindinsight package where that is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.conftest import DATA
from tests.support.browser import needs_browser, opened
from tests.support.explaining import inference, metadata, occlusion, sample
from tests.support.program import append, eventually, started
from tests.support.records import png
from webapi.mindinsight import bundle

FRONT_END = bundle.directory(bundle.named(os.environ.get("MINDINSIGHT_UI", bundle.AUTO)))
pytestmark = [
    needs_browser,
    pytest.mark.skipif(
        FRONT_END is None,
        reason="no front-end of MindInsight: `pip install --no-deps --target DIR mindinsight`, MINDINSIGHT_UI=DIR",
    ),
]
FILE = "events.out.events.summary.5.0.x_explain"
JOBS = ("graph", "histograms", "images", "landscape", "lineage-adam-0.01", "lineage-sgd-0.001", "scalars", "tensors")
# What is drawn: pixels of a chart that are no grey, pictures that arrived, elements that have a size, or text.
DRAWN = """
const [kind, selector] = arguments;
const sized = element => { const size = element.getBoundingClientRect(); return size.width && size.height; };
const found = [...document.querySelectorAll(selector)].filter(sized);
const coloured = canvas => {
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0);
  const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
  for (let at = 0; at < pixels.length; at += 4)
    if (pixels[at + 3] && Math.max(pixels[at], pixels[at + 1], pixels[at + 2])
        - Math.min(pixels[at], pixels[at + 1], pixels[at + 2]) > 30) return true;
  return false;
};
if (kind === 'chart') return found.filter(coloured).length;
if (kind === 'picture') return found.filter(image => image.complete && image.naturalWidth > 1).length;
if (kind === 'broken') return found.filter(image => image.complete && !image.naturalWidth).length;
return found.length;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page over runs of every kind, below a prefix, as behind a reverse proxy."""
    path = tmp_path_factory.mktemp("page")
    for name in (*JOBS, "explain-saliency"):
        shutil.copytree(DATA / "mindspore" / name, path / "runs" / name)
    records = [
        metadata(["cat", "dog"], ["Gradient"], ["Faithfulness"]),
        sample(0, "0.png", [0]),
        inference(0, [0], [0.75], [0.5]),
        occlusion(0, 0, "gaussian:2", (0.5, [2, 3, 4, 5]), (0.25, [0, 0, 8, 8])),
    ]
    append(path / "runs/occluded" / FILE, records)
    (path / "runs/occluded/0.png").write_bytes(png(16, 16))
    flags = ("--port", "0", "--url-prefix", "/below", "--mindinsight-ui", str(FRONT_END))
    with started("up", str(path / "runs"), *flags, cwd=path) as up:
        eventually(lambda: up.get("/health")["status"] == "ok")
        eventually(lambda: {job["cache_status"] for job in up.get("/jobs")["items"]} == {"CACHED"})
        yield f"{up.url}/mindinsight/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, page: str) -> Iterator[webdriver.Chrome]:
    """A browser whose user reads English."""
    with opened(tmp_path_factory.mktemp("browser")) as driver:
        driver.get(page)
        driver.execute_script("localStorage.setItem('milang', 'en-us'); localStorage.setItem('graphShowGuide', 'true')")
        yield driver


def of(view: str, job: str, key: str = "train_id") -> str:
    """Return where a view of a job is."""
    return f"{view}?{key}={quote(f'./{job}', safe='')}"


CHART, PICTURE, ELEMENT, NODE = ("chart", "canvas"), ("picture", "img[src*=image]"), "element", ("element", "g.node")
VIEWS: dict[str, tuple[str, Sequence[tuple[tuple[str, str], int]], Sequence[str]]] = {
    # where it is, what it draws and how often at least, what it says
    "list": ("/summary-manage", [((ELEMENT, ".el-table__row"), len(JOBS))], ["./scalars", "runs"]),
    "dashboard": (of("/train-manage/training-dashboard", "graph", "id"), [(CHART, 1), (NODE, 1)], ["loss/scalar"]),
    "scalars": (of("/train-manage/scalar", "scalars"), [(CHART, 3)], ["metrics/acc top1/scalar"]),
    "images": (of("/train-manage/image", "images"), [(PICTURE, 4)], ["Step:16"]),
    "histograms": (of("/train-manage/histogram", "histograms"), [(CHART, 5)], ["w/constant/histogram"]),
    "tensors": (of("/train-manage/tensor", "tensors"), [((ELEMENT, ".slick-cell"), 9)], ["DT_FLOAT32", "66.00000"]),
    "graph": (of("/train-manage/graph", "graph"), [(NODE, 1)], ["Default"]),
    "landscape": (of("/train-manage/loss-analysis", "landscape"), [(CHART, 2)], []),
    "data map": (of("/train-manage/data-map", "lineage-adam-0.01"), [((ELEMENT, "svg g.node"), 3)], ["Batch"]),
    "model lineage": ("/model-traceback", [(CHART, 1)], ["./lineage-adam-0.01", "0.5156", "SGD"]),
    "data lineage": ("/data-traceback", [(CHART, 1)], ["./lineage-sgd-0.001", "GeneratorDataset"]),
    "comparison": ("/compare-analysis/scalar", [(CHART, 3)], ["./scalars", "./graph", "loss/scalar"]),
    "explanations": ("/explain", [((ELEMENT, ".el-table__row"), 2)], ["./explain-saliency"]),
    "saliency": (of("/explain/saliency-map", "explain-saliency", "id"), [(PICTURE, 6)], ["GradCAM", "0.839"]),
    "occlusion": (of("/explain/conterfactual-interpretation", "occluded", "id"), [(PICTURE, 4)], ["cat"]),
    "scores": (of("/explain/xai-metric", "explain-saliency", "id"), [], ["Faithfulness", "0.818174"]),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_show_what_runs_hold(browser: webdriver.Chrome, page: str, view: str) -> None:
    """Each view draws its data, says no error, and neither a policy nor a route stops anything."""
    where, drawn, said = VIEWS[view]
    browser.get("about:blank")
    failures(browser)  # forgets the last view's
    browser.get(f"{page}#{where}")

    def count(what: tuple[str, str]) -> Any:
        return browser.execute_script(DRAWN, *what)

    for what, least in drawn:
        assert eventually(lambda what=what, least=least: count(what) >= least), (view, what)  # type: ignore[misc]
    for text in said:
        assert eventually(lambda text=text: text in content(browser)), (view, text)  # type: ignore[misc]
    assert 0 == count(("broken", "img"))
    assert 0 == count((ELEMENT, ".el-message--error"))
    assert [] == failures(browser)


def test_a_scope_of_a_graph_opens(browser: webdriver.Chrome, page: str) -> None:
    """Whoever clicks twice on a scope sees the operators in it, laid out with their edges."""
    browser.get("about:blank")
    browser.get(f"{page}#{VIEWS['graph'][0]}")

    def nodes() -> list[WebElement]:
        return browser.find_elements(By.CSS_SELECTOR, "g.node")

    for _ in range(3):  # a click while the page still puts things in place is lost
        (scope,) = eventually(nodes)
        ActionChains(browser).double_click(scope).perform()
        with suppress(AssertionError):
            assert eventually(lambda: len(nodes()) > 10, seconds=10)
            break
    assert len(nodes()) > 10
    assert len(browser.find_elements(By.CSS_SELECTOR, "g.edge")) > 10
    assert "conv1-Conv2d" in content(browser)


def test_a_remark_that_is_not_stored_is_no_success(browser: webdriver.Chrome, page: str) -> None:
    """The web only reads: whoever edits a remark there is told so."""
    browser.get("about:blank")
    browser.get(f"{page}#/model-traceback")

    def shown(selector: str) -> list[WebElement]:
        return [one for one in browser.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]

    eventually(lambda: shown(".el-table .el-icon-edit"))[0].click()
    eventually(lambda: shown(".el-table input[type=text]"))[0].send_keys("good")
    eventually(lambda: shown(".el-table .el-icon-check"))[0].click()
    (said,) = eventually(lambda: shown(".el-message"))
    assert "el-message--error" in (said.get_attribute("class") or "")


def failures(browser: webdriver.Chrome) -> list[str]:
    """Return what failed since the last look: scripts, requests, and what a policy stopped."""
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


def content(browser: webdriver.Chrome) -> str:
    """Return a page's text, also where it has to be scrolled to."""
    found: str = browser.execute_script("return document.body.textContent")
    return found


def test_a_second_visit_is_as_the_first(browser: webdriver.Chrome, page: str) -> None:
    """What the browser has, it keeps: it asks, hears 304, and its policy is still the page's own."""
    for _ in range(2):
        browser.get("about:blank")
        failures(browser)
        browser.get(f"{page}#/summary-manage")
        assert eventually(lambda: "./scalars" in content(browser))
        assert [] == failures(browser)
