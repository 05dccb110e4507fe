"""What MindInsight 2.3.1 answered is what we answer."""

from __future__ import annotations

import pytest

from tests.mindinsight.conftest import Client
from tests.support import mindinsight

FAMILIES = mindinsight.families()


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_that_were_recorded(recorded: Client, family: str) -> None:
    """Status, error code, fields, types, orders and values of every recorded request are the same."""
    assert [] == list(mindinsight.replay(FAMILIES[family], recorded.send))


def test_there_are_recordings_of_every_family() -> None:
    """None got lost on the way into this repository."""
    assert 1925 == sum(map(len, FAMILIES.values()))
    assert 24 == len(FAMILIES)


def test_a_wrong_answer_is_noticed(recorded: Client) -> None:
    """The comparison fails where a value differs: else it would prove nothing."""
    altered = [
        {**one, "json": {"scalars": [{**s, "values": s["values"][:-1]} for s in one["json"]["scalars"]]}}
        for one in FAMILIES["20-scalars"]
        if one["status"] == 200 and one["json"]["scalars"]
    ]
    assert len(altered) == len(list(mindinsight.replay(altered, recorded.send)))
