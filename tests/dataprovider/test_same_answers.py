"""Every call answers as TensorBoard's own data server does, over all of the sample data; what differs is listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DATA
from tests.support.viewer import ALL_SAMPLES, EVERYTHING, KINDS, ask, names, plain, plugins, rustboard, tensorboards_own

OURS_ALONE = {
    # A series of nothing but 64-bit floats: theirs has no points, and so is not listed. We show what was written.
    ("scalars-torch", "double"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """TensorBoard's own data server over the sample data, with every point."""
    binary = rustboard()
    if binary is None:
        pytest.skip("the wheel tensorboard-data-server has no program for this machine")
    directory = tmp_path_factory.mktemp("own")
    with tensorboards_own(binary, DATA / "tensorboard", directory, f"--samples-per-plugin={ALL_SAMPLES}") as stub:
        yield stub


def test_runs_are_the_same(own: Any, stub: Any) -> None:
    """Both list the same runs with the same start."""
    from tensorboard.data.proto import data_provider_pb2 as messages

    expected, actual = (
        {run.name: run.start_time for run in server.ListRuns(messages.ListRunsRequest()).runs} for server in (own, stub)
    )
    assert expected == actual
    assert list(actual) == sorted(actual, key=lambda name: (actual[name], name))
    assert names(stub) == list(actual)


def test_plugins_are_the_same(own: Any, stub: Any) -> None:
    """Both know the same plugins, those of series without points too."""
    assert plugins(own) == plugins(stub)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_the_same(own: Any, stub: Any, kind: str) -> None:
    """Both list the same series with the same metadata, whatever the plugin."""
    for plugin in plugins(own):
        expected, actual = (ask(server, f"List{kind}", plugin) for server in (own, stub))
        assert expected == {key: value for key, value in actual.items() if key not in OURS_ALONE}
        assert OURS_ALONE.isdisjoint(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_the_same(own: Any, stub: Any, kind: str) -> None:
    """Both give the same points, to the bit, and the same bytes of every blob."""
    for plugin in plugins(own):
        expected, actual = (ask(server, f"Read{kind}", plugin, points=EVERYTHING) for server in (own, stub))
        assert expected.keys() == actual.keys()
        for key in expected:
            theirs, ours = plain(own, kind, expected[key]), plain(stub, kind, actual[key])
            if key in OURS_ALONE:
                assert ([], 100) == (theirs, len(ours))
            else:
                assert theirs == ours, key


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_as_many_and_end_alike(own: Any, stub: Any, kind: str) -> None:
    """Of a long series both give as many points as were asked for, the last among them."""
    for plugin in plugins(own):
        for k in (0, 1, 3):
            expected, actual = (ask(server, f"Read{kind}", plugin, points=k) for server in (own, stub))
            assert expected.keys() == actual.keys()
            for key in expected.keys() - OURS_ALONE:
                theirs, ours = expected[key].step, actual[key].step
                assert len(theirs) == len(ours)
                assert list(theirs[-1:]) == list(ours[-1:])


def test_wrong_requests_end_with_the_same_status(own: Any, stub: Any) -> None:
    """A request that cannot be right ends with the same status on both, and so does what asks for nothing."""
    from tensorboard.data.proto import data_provider_pb2 as messages

    from tests.support.viewer import request, status

    key = next(
        ref.blob_key
        for data in ask(own, "ReadBlobSequences", "images", points=1).values()
        for sequence in data.values
        for ref in sequence.blob_refs
    )
    cases = [("ReadBlob", messages.ReadBlobRequest(blob_key=text)) for text in ("", "x", "!!", "W10", key[:-2], key)]
    for kind in KINDS:
        cases += [
            (f"List{kind}", getattr(messages, f"List{kind}Request")()),
            (f"List{kind}", request(f"List{kind}", "")),
            (f"List{kind}", request(f"List{kind}", "no such plugin")),
            (f"Read{kind}", request(f"Read{kind}", "scalars")),
            (f"Read{kind}", request(f"Read{kind}", "scalars", points=-1)),
            (f"Read{kind}", request(f"Read{kind}", "scalars", points=2**62)),
        ]
    for call, message in cases:
        assert status(own, call, message) == status(stub, call, message), (call, message)


@pytest.mark.parametrize(
    ("runs", "tags"),
    [
        (None, []),
        ([], None),
        ([], []),
        (["long"], None),
        (["long", "long", "no such run"], ["no such tag"]),
        (None, ["loss", "loss"]),
        (["."], ["root/loss"]),
        (["LONG"], None),
    ],
)
def test_filters_choose_the_same(own: Any, stub: Any, runs: list[str] | None, tags: list[str] | None) -> None:
    """Absent and empty filters, unknown and doubled names choose the same series on both."""
    for call, more in (("ListScalars", {}), ("ReadScalars", {"points": 1})):
        expected, actual = (ask(server, call, "scalars", runs=runs, tags=tags, **more) for server in (own, stub))
        assert expected.keys() == actual.keys() - OURS_ALONE


def test_data_is_where_it_should_be() -> None:
    """The sample data is all there: a comparison of nothing would always hold."""
    assert 60 < len({path.parent for path in Path(DATA / "tensorboard").rglob("*tfevents*")})
