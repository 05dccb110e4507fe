"""TensorBoard's pages in a real browser over our database: each page draws what the run holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.conftest import DATA
from tests.support.browser import needs_browser, opened
from tests.support.pages import Pages, pages
from tests.support.program import command, eventually, run

RUNS = (
    "audio-new",
    "custom-scalars",
    "graph",
    "hist-new",
    "hist-old",
    "images-new",
    "images-old",
    "mesh",
    "pr-curves",
    "scalars-simple",
    "scalars-tensor",
    "text",
)
# Elements lie in shadow trees within shadow trees: this looks for those that have a size, within hosts of one name.
FIND = """
const found = [];
const look = (root, host) => {
  for (const element of root.querySelectorAll('*')) {
    const size = element.getBoundingClientRect();
    if (host === arguments[0] && size.width && size.height && element.matches(arguments[1])) found.push(element);
    if (element.shadowRoot) look(element.shadowRoot, element.tagName.toLowerCase());
  }
};
look(document, '');
return found.map(element => element.textContent);
"""
pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser without a window."""
    with opened(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def shown(path: Path, logdir: Path) -> Iterator[Pages]:
    """Serve a directory's runs with `summarydb tensorboard`."""
    url = f"sqlite:///{path / 'runs.db'}"
    assert 0 == run("index", "--once", str(logdir), "--db", url, cwd=path).returncode
    with pages(command("tensorboard", "--db", url, "--port", "0"), path, "pages") as made:
        yield made


@pytest.fixture(scope="module")
def tensorboards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Runs of TensorBoard: so few that pages select all of them."""
    path = tmp_path_factory.mktemp("tensorboards")
    for name in RUNS:
        shutil.copytree(DATA / "tensorboard" / name, path / "runs" / name)
    shutil.copytree(DATA / "tensorboard" / "hparams", path / "runs" / "hparams", ignore=lambda *_: {"torch"})
    yield from shown(path, path / "runs")


@pytest.fixture(scope="module")
def mindspores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Runs of MindSpore."""
    yield from shown(tmp_path_factory.mktemp("mindspores"), DATA / "mindspore")


def drawn(browser: webdriver.Chrome, host: str, selector: str) -> list[str]:
    """Return the texts of a page's elements that have a size: those in shadow trees of `host`, empty: in none."""
    found: list[str] = browser.execute_script(FIND, host, selector)
    return found


PAGES = {  # host, selector of what a page draws in it, and how often it does at least
    "timeseries": ("", "card-view canvas", 1),
    "scalars": ("vz-line-chart2", "path.line", 3),
    "images": ("tf-image-loader", "img", 2),
    "histograms": ("vz-histogram-timeseries", "path.outline", 5),
    "distributions": ("vz-distribution-chart", "path.area", 3),
    "graphs": ("tf-graph-scene", "g.node", 2),
    "hparams": ("vaadin-grid", "td", 12),
    "text": ("tf-markdown-view", "td, p", 3),
    "pr_curves": ("vz-line-chart2", "path.line", 1),
    "custom_scalars": ("vz-line-chart2", "path.line", 3),
    "mesh": ("tf-mesh-loader", "canvas", 1),
    "audio": ("tf-audio-loader", "audio", 2),
}
OF_MINDSPORE = ("timeseries", "scalars", "images", "histograms", "graphs", "text")


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_tensorboards_runs_draw(browser: webdriver.Chrome, tensorboards: Pages, page: str) -> None:
    """Every page has what it draws of these runs, and shows no error."""
    look_at(browser, tensorboards, page)


@pytest.mark.parametrize("page", OF_MINDSPORE)
def test_pages_of_mindspores_runs_draw(browser: webdriver.Chrome, mindspores: Pages, page: str) -> None:
    """MindSpore's numbers, images, histograms, graphs and lineage are drawn, too."""
    look_at(browser, mindspores, page, "&tagFilter=loss" if page == "scalars" else "")
    if page == "text":
        eventually(lambda: any("learning_rate" in cell for cell in drawn(browser, "tf-markdown-view", "td")))


def look_at(browser: webdriver.Chrome, served: Pages, page: str, more: str = "") -> None:
    """Open a page, and wait until it has drawn."""
    host, selector, count = PAGES[page]
    browser.get("about:blank")
    browser.get(f"{served.url}/#{page}{more}")
    eventually(lambda: len(drawn(browser, host, selector)) >= count)
    assert "No dashboards are active" not in browser.find_element(By.TAG_NAME, "body").text
