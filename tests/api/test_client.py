"""The client in Python: the same objects and errors over a database and over a server, on both databases."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

import summarydb
from indexer.config import Config
from indexer.errors import Deadline, Refuse, Report, Retry, SummaryDBError, Unreachable, UsageError
from summarydb import client, remote, stored
from summarydb.client import Connection
from tests.api.conftest import MARKUP_TAG, ODD_JOB, SCRIPT, Api
from tests.api.test_server import served
from tests.support.following import index_once, make
from tests.support.records import (
    hparams_experiment,
    hparams_start,
    ms_evaluation,
    ms_train,
    ms_version,
    png,
    tb_histogram,
    tb_hparams,
    tb_image,
    tb_scalar,
    tb_strings,
    tb_tensor,
    tb_version,
)
from webapi.app import create_app


@pytest.fixture(params=["database", "server"])
def way(request: pytest.FixtureRequest) -> str:
    """How the client reads."""
    name: str = request.param
    return name


@contextmanager
def opened(api: Api, way: str) -> Iterator[Connection]:
    """Connect to the API's database, or to a server over it."""
    if way == "database":
        with summarydb.connect(api.config.url) as db:
            yield db
        return
    with served(api) as (port, _stop, _thread), summarydb.connect(f"http://127.0.0.1:{port}/") as db:
        yield db


@pytest.fixture
def db(api: Api, way: str) -> Iterator[Connection]:
    """A connection."""
    with opened(api, way) as made:
        yield made


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists come in pages of three."""
    for module in (client, stored, remote):
        monkeypatch.setattr(module, "PAGE", 3)
    monkeypatch.setattr(stored, "SERIES", 3)


# Lists ----------------------------------------------------------------------------------------------------------------
def test_all_jobs_are_listed_whatever_the_pages(small_pages: None, db: Connection) -> None:
    """Pages are followed, filters and order are those of REST, a limit ends the list."""
    assert [7, 2, 1, 8, 5, 4, 6, 3] == [job.id for job in db.jobs()]
    assert ["./a", "./a"] == [job.train_id for job in db.jobs(q="/A", sort="id")]
    assert [2] == [job.id for job in db.jobs(cache_status="CACHING")]
    assert [3] == [job.id for job in db.jobs(root="exp")]
    assert [7, 2, 1, 8] == [job.id for job in db.jobs(limit=4)]
    assert [1, 2] == [job.id for job in db.jobs(plugin="scalars", sort="id")]


def test_a_job_is_found_by_id_train_id_and_root(db: Connection) -> None:
    """Whatever names a job in REST names it here, odd names and all, and so does the job itself."""
    assert "./a" == db.job(1).train_id
    assert 3 == db.job("exp:./a").id
    assert 6 == db.job(ODD_JOB).id
    assert 8 == db.job("./100%_Done").id
    job = db.job("./b/c")
    assert (2, "runs", "CACHING", 20) == (job.id, job.root, job.cache_status, job.point_count)
    assert ["events.3"] == job.files()["name"].tolist()


def test_tags_are_a_table_with_statistics(small_pages: None, db: Connection) -> None:
    """A row a tag; NaN is NaN, names are as in the file."""
    tags = db.tags(1)
    assert ["Accuracy/top1", "extreme", "loss", "loss", "nul\0tag␛", "restarted", "weird"] == sorted(
        name for name in tags["name"] if name != MARKUP_TAG
    )
    assert 10 == dict(zip(tags["name"], tags["point_count"], strict=True))["Accuracy/top1"]
    assert np.float64 == tags["last_value"].dtype
    assert {"name", "plugin", "metadata"} <= set(tags.columns)
    assert ["loss"] == db.job(1).tags(plugin="custom")["name"].tolist()


# Points ---------------------------------------------------------------------------------------------------------------
def test_a_curve_is_numpy_arrays(small_pages: None, db: Connection) -> None:
    """All points of a series, by step, as 64-bit numbers; steps may be bounded."""
    curve = db.series("./b/c", "loss")
    np.testing.assert_array_equal(np.arange(20), curve.step)
    np.testing.assert_array_equal(np.arange(20.0), curve.value)
    np.testing.assert_array_equal(50.0 + np.arange(20), curve.wall_time)
    assert ["int64", "float64", "float64"] == [str(c.dtype) for c in (curve.step, curve.wall_time, curve.value)]
    assert ("./b/c", "loss", "scalars", 20, False) == (
        curve.train_id, curve.tag, curve.plugin, curve.total, curve.downsampled,
    )  # fmt: skip
    assert [4, 5, 6] == db.job(2).series("loss", from_step=4, to_step=6).step.tolist()
    assert 0 == len(db.series(2, "loss", from_step=100))
    assert 0 == len(db.series(2, "empty"))


def test_a_thin_curve_keeps_its_shape(db: Connection) -> None:
    """With max_points it has no more, and says of how many."""
    curve = db.series(2, "loss", max_points=6)
    assert 6 >= len(curve)
    assert (0, 19) == (curve.step[0], curve.step[-1])
    assert (20, True) == (curve.total, curve.downsampled)


def test_numbers_that_are_not_finite_and_steps_at_the_ends(db: Connection) -> None:
    """NaN, infinities and steps of all 64 bits come as they were written; what has no time has NaN, or NaT."""
    weird = db.series(1, "weird")
    np.testing.assert_array_equal([math.nan, math.inf, -math.inf, 0.5], weird.value)
    np.testing.assert_array_equal([1.0, math.inf, 3.0, 4.0], weird.wall_time)
    assert [False, True, False, False] == np.isnat(weird.time).tolist()
    assert np.datetime64("1970-01-01T00:00:03") == weird.time[2]
    extreme = db.series(1, "extreme")
    assert [-(2**63), 2**53 + 1, 2**63 - 1] == extreme.step.tolist()
    assert [5e-324, 1.7976931348623157e308] == extreme.value[1:].tolist()
    custom = db.series(1, "loss", plugin="custom")
    assert [True] == np.isnan(custom.wall_time).tolist()


def test_restarts_are_left_out_or_shown(small_pages: None, db: Connection) -> None:
    """What a later file overtook is seen only by who asks for it; seq tells it apart."""
    assert [1, 1, 2, 2, 2, 2] == db.series(1, "restarted").value.tolist()
    assert 9 == len(db.series(1, "restarted", restarts="all"))
    every = db.scalars(1, "restarted", restarts="all")
    assert [(2, 0), (2, 1)] == [(row["step"], row["seq"]) for row in every.rows() if row["step"] == 2]


def test_many_curves_are_one_long_table(small_pages: None, db: Connection) -> None:
    """A row a point of every series that is asked for, by series and step, with who it is."""
    both = db.scalars(tags="loss")
    assert 31 == len(both)
    assert {("./a", "scalars"), ("./a", "custom"), ("./b/c", "scalars")} == set(
        zip(both["train_id"], both["plugin"], strict=True)
    )
    of_two = db.scalars([db.job(2)], ["loss", "empty"], from_step=18)
    assert [18, 19] == of_two["step"].tolist()
    everything = db.scalars()
    assert 10 + 10 + 1 + 1 + 3 + 4 + 6 + 20 == len(everything)  # images have points, and no numbers
    nothing = db.scalars(2, "loss", from_step=100)
    assert (0, "int64", "float64") == (len(nothing), str(nothing["step"].dtype), str(nothing["value"].dtype))


def test_what_tables_become(db: Connection) -> None:
    """pandas, arrow and polars have the same cells under the same names."""
    table = db.scalars(1, ["weird", "Accuracy/top1"])
    frame, arrow, polars = table.to_pandas(), table.to_arrow(), table.to_polars()
    assert table.columns == list(frame.columns) == arrow.column_names == polars.columns
    for name in ("step", "value"):
        np.testing.assert_array_equal(table[name], frame[name].to_numpy())
        np.testing.assert_array_equal(table[name], arrow[name].to_numpy())
        np.testing.assert_array_equal(table[name], polars[name].to_numpy())
    assert table["tag"].tolist() == frame["tag"].tolist() == arrow["tag"].to_pylist() == polars["tag"].to_list()
    curve = db.series(1, "Accuracy/top1")
    assert [10, 10, 10] == [len(curve.to_pandas()), curve.to_arrow().num_rows, len(curve.to_polars())]
    jobs = db.jobs()
    assert [8, 8, 8] == [len(jobs.to_pandas()), jobs.to_arrow().num_rows, len(jobs.to_polars())]
    with pytest.raises(KeyError, match="no column 'valve': there are job, train_id"):
        table["valve"]


# SQL ------------------------------------------------------------------------------------------------------------------
def test_sql_gives_a_table(db: Connection) -> None:
    """Columns by name, doubles numbered, NULL among numbers NaN; a limit is told."""
    found = db.sql("SELECT step, value, step FROM v_scalars WHERE tag = 'weird' ORDER BY step")
    assert ["step", "value", "step_2"] == found.columns
    np.testing.assert_array_equal([math.nan, math.inf, -math.inf, 0.5], found["value"])
    assert not found.truncated
    cut = db.sql("SELECT step FROM v_scalars WHERE tag = 'weird' ORDER BY step", limit=2)
    assert ([0, 1], True) == (cut["step"].tolist(), cut.truncated)
    assert (["step"], 0) == ((none := db.sql("SELECT step FROM v_scalars WHERE 1 = 0")).columns, len(none))


# Errors ---------------------------------------------------------------------------------------------------------------
WRONG: list[tuple[Callable[[Connection], object], str]] = [
    (lambda db: db.job("./nobody"), "no job './nobody'"),
    (lambda db: db.job("./a"), "of several roots"),
    (lambda db: db.jobs(sort="beauty"), "sort"),
    (lambda db: db.jobs(cache_status="GONE"), "cache_status"),
    (lambda db: db.tags(4711), "no job '4711'"),
    (lambda db: db.series(1, "lost"), "has a tag 'lost'"),
    (lambda db: db.series(1, "loss"), "of several plugins: give plugin=, one of 'scalars', 'custom'"),
    (lambda db: db.series(2, "loss", plugin="images"), "no tag 'loss' of plugin 'images'"),
    (lambda db: db.series(1, MARKUP_TAG), "holds no numbers: payloads"),
    (lambda db: db.series(1, "weird", max_points=-1), "max_points"),
    (lambda db: db.scalars(restarts="some"), "restarts"),
    (lambda db: db.scalars("./nobody"), "no job './nobody'"),
    (lambda db: db.scalars(tags=["loss", "lost"]), "no job has a tag 'lost'"),
    (lambda db: next(db.payloads("nothings")), "nothing at /api/v1/nothings"),
    (lambda db: next(db.payloads("../jobs")), "no kind of payload"),
    (lambda db: next(db.payloads("images", dims="1")), "dims"),
    (lambda db: db.sql("DELETE FROM jobs"), "one SELECT or WITH"),
    (lambda db: db.sql("SELECT nothing FROM jobs"), "nothing"),
    (lambda db: db.compare("lost"), "has a tag 'lost'"),
    (lambda db: db.hparams(where=["lr"]), "where"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_what_cannot_be_is_reported_in_words(wrong: Callable[[Connection], object], words: str, db: Connection) -> None:
    """A job, tag or parameter that cannot be is a Report, whichever way it is read, with what was wrong in it."""
    with pytest.raises(Report, match=words.replace("(", r"\(")):
        wrong(db)


def test_a_server_may_ask_for_a_token(api: Api) -> None:
    """Without it nothing is read, and the message says what to pass; with it all is."""
    app = create_app(replace(api.config, token="s3cret"), api.reader)
    with served(replace(api, app=app)) as (port, _stop, _thread):
        url = f"http://localhost:{port}"
        with pytest.raises(Refuse, match="asks for a token"):
            summarydb.connect(url).jobs()
        with pytest.raises(Refuse, match="asks for a token"):
            summarydb.connect(url, token="wrong").jobs()
        assert 8 == len(summarydb.connect(url, token="s3cret").jobs())


def test_a_server_may_have_a_prefix(api: Api) -> None:
    """Behind a prefix lists and payloads are found."""
    app = create_app(replace(api.config, url_prefix="/tb"), api.reader)
    with served(replace(api, app=app)) as (port, _stop, _thread):
        db = summarydb.connect(f"http://localhost:{port}/tb/")
        assert 8 == len(db.jobs())


class Strange(BaseHTTPRequestHandler):
    """A server of something else."""

    status = 200
    headers_: dict[str, str] = {}  # noqa: RUF012  # tests set it
    body = b"<html>"

    def do_GET(self) -> None:  # as http.server calls it
        """Answer what the test says."""
        self.send_response(self.status)
        for name, value in {**self.headers_, "Content-Length": str(len(self.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


PROBLEM = b'{"title": "t", "detail": "later", "status": 503}'
STRANGE: list[tuple[int, dict[str, str], bytes, type[SummaryDBError], str]] = [
    (200, {}, b"<html>", Refuse, "is no summarydb"),
    (404, {}, b"<html>", Refuse, "answers 404 and is no summarydb"),
    (302, {"Location": "http://evil.example/"}, b"", Refuse, "sends us to http://evil.example/"),
    (200, {"Content-Encoding": "gzip"}, b"no gzip", Unreachable, "broke off"),
    (503, {}, PROBLEM, Retry, "later"),
    (429, {}, PROBLEM, Retry, "later"),
    (504, {}, PROBLEM, Deadline, "later"),
    (403, {}, PROBLEM, Refuse, "later"),
    (500, {}, PROBLEM, Refuse, "later"),
]


@pytest.mark.parametrize(("status", "headers", "body", "family", "words"), STRANGE)
def test_what_a_server_answers_is_one_of_our_families(
    status: int, headers: dict[str, str], body: bytes, family: type[SummaryDBError], words: str
) -> None:
    """Whatever answers, the error says what the caller may do; a token goes to no other server."""
    kind = type("Handler", (Strange,), {"status": status, "headers_": headers, "body": body})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(family, match=words):
                summarydb.connect(f"http://127.0.0.1:{server.server_port}", token="t")
        finally:
            server.shutdown()
            thread.join()


def test_nobody_answers(tmp_path: Path) -> None:
    """A closed port is Unreachable, one that keeps silent passes the deadline, a missing file is refused."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Deadline, match=r"did not answer within 0.05 s"):
            summarydb.connect(f"http://127.0.0.1:{port}", seconds=0.05)
    with pytest.raises(Unreachable, match="check that `summarydb up` runs there"):
        summarydb.connect(f"http://127.0.0.1:{port}")
    with pytest.raises(Refuse, match="no such file"):
        summarydb.connect(tmp_path / "no.db")
    for url in ("http://", "http://a:b@c/", "http://h:x/", "mysql://h/d", "", "http://h/?token=x"):
        with pytest.raises(Refuse):
            summarydb.connect(url)
    with pytest.raises(UsageError, match="a token is for"):
        summarydb.connect(tmp_path / "no.db", token="t")


def test_without_an_address_settings_count(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect()` opens what the command line would."""
    monkeypatch.setenv("SUMMARYDB_DB", api.config.url)
    with summarydb.connect() as db:
        assert 8 == len(db.jobs())


# Notebooks ------------------------------------------------------------------------------------------------------------
def test_what_shows_itself_is_escaped(db: Connection) -> None:
    """Names of jobs and tags are text in a notebook, whatever they hold."""
    shown = [
        db.jobs()._repr_html_(),
        db.job(6)._repr_html_(),
        db.tags(1)._repr_html_(),
        db.scalars(1)._repr_html_(),
        db.series(1, "weird")._repr_html_(),
        db.sql(f"SELECT '{SCRIPT}' AS \"{SCRIPT}\"")._repr_html_(),
        db._repr_html_(),
        *(payload._repr_html_() for payload in db.payloads("images")),
    ]
    for html in shown:
        assert "<script" not in html
        assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in shown[0]
    assert "&quot;&gt;&lt;img" in shown[2]


def test_a_curve_draws_itself(db: Connection) -> None:
    """A line through its points, cut where a value is missing; nothing where there is none."""
    assert 1 == db.series(2, "loss")._repr_html_().count("<polyline")
    assert "not finite" in db.series(1, "weird")._repr_html_()
    assert "<svg" not in db.series(2, "empty")._repr_html_()
    assert "<svg" in db.series(1, "extreme")._repr_html_()


# Payloads and runs ----------------------------------------------------------------------------------------------------
IMAGE = png(3, 2)


@pytest.fixture
def rich(engine: Engine, config: Config, reader: Engine, way: str, tmp_path: Path) -> Iterator[Connection]:
    """A connection to a database with payloads, a lineage and hyperparameters, as an indexer writes them."""
    grid = np.arange(6, dtype="<f4").reshape(2, 3)
    make(
        tmp_path / "more",
        {
            "rich/events.out.tfevents.1700000000.x": tb_version(1.7e9)
            + tb_image("picture", 1, IMAGE, 1.7e9, width=3, height=2)
            + tb_histogram("spread", 2, [1.0, 2.0], [3.0, 4.0], 1.7e9)
            + tb_tensor("grid", 3, grid.shape, grid.tobytes(), 1.7e9)
            + tb_strings("words", 4, ["žluťoučký".encode(), b"<b>"], 1.7e9)
            + tb_hparams("experiment", hparams_experiment(("", "loss")))
            + tb_hparams("session_start_info", hparams_start({"lr": 0.5, "status": 1.0}))
            + tb_scalar("loss", 1, 0.25, 1.7e9),
            "line/events.out.events.summary.1700000000.1.x_lineage": ms_version(1.0)
            + ms_train(0.125)
            + ms_evaluation('{"accuracy": 0.75}'),
        },
    )
    index_once(engine, tmp_path / "more")
    with opened(Api.over(config, reader), way) as made:
        yield made


def test_payloads_are_read_when_they_are_asked_for(rich: Connection) -> None:
    """Images are bytes, tensors and histograms arrays in their shapes, texts are text."""
    (image,) = rich.payloads("images", "./rich")
    assert IMAGE == image.content()
    assert ("picture", 1, 0, "image/png", 3) == (
        image.tag, image.step, image.ordinal, image.content_type, image.metadata["width"],
    )  # fmt: skip
    assert 'src="data:image/png;base64,' in image._repr_html_()
    (histogram,) = rich.payloads("histograms", tags="spread")
    assert ["left", "right", "count"] == histogram.metadata["columns"].split(",")
    assert [3.0, 4.0] == histogram.array()[-2:, 2].tolist()
    (tensor,) = rich.payloads("tensors", tags="grid")
    assert [[0, 1, 2], [3, 4, 5]] == tensor.array().tolist()
    texts = list(rich.job("./rich").payloads("texts"))
    assert ["žluťoučký", "<b>"] == [text.text() for text in texts]
    with pytest.raises(Report, match=r"'picture' of '\./rich', step 1 is no array"):
        image.array()


def test_lineage_and_hyperparameters_are_tables(rich: Connection) -> None:
    """A row a run, a column a key; a key that is called as a column gets a prefix."""
    lineage = rich.lineage()
    assert ["./line"] == lineage["train_id"].tolist()
    assert [0.125] == lineage["learning_rate"].tolist()
    runs = rich.job("./rich").hparams()
    assert ([0.5], [1.0], [0.25]) == tuple(runs[name].tolist() for name in ("lr", "hparam/status", "metric/loss"))
    assert ["./rich"] == rich.hparams(where=["lr:lt:1"])["train_id"].tolist()
    assert 0 == len(rich.hparams(where=["lr:gt:1"]))
    best = rich.compare("loss", sort="best")
    assert (0.25, "./rich") == (best["best_value"][0], best["train_id"][0])
