"""Settings: who wins, what a LOGDIR means, and that every error names the place it came from."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import Config
from indexer.errors import Refuse, UsageError
from summarydb.settings import (
    SETTINGS,
    Setting,
    Settings,
    check_exposure,
    from_json,
    load,
    roots,
    split_logdir,
    to_json,
)


def named(*logdirs: str) -> list[tuple[str, str, bool]]:
    """Return name, last component of the path and whether it was named, of each root."""
    return [(root.name, root.path.name, root.named) for root in roots(logdirs)]


def test_defaults_are_those_of_config(tmp_path: Path) -> None:
    """Where nobody says anything, Config's own defaults hold."""
    assert Settings(Config()) == load({}, environ={}, directory=tmp_path)


def test_flags_win_over_variables_over_file(tmp_path: Path) -> None:
    """The nearest word counts: flag, variable, file, default, in this order."""
    (tmp_path / "summarydb.toml").write_text('port = 1\nthreads = 1\nreconcile = 1\nhost = "::1"\n')
    environ = {"SUMMARYDB_PORT": "2", "SUMMARYDB_THREADS": "2"}
    config = load({"port": "3", "threads": None}, environ=environ, directory=tmp_path).config
    assert (3, 2, 1.0, "::1", 10.0) == (
        config.port,
        config.threads,
        config.reconcile,
        config.host,
        config.query_seconds,
    )


def test_the_variable_config_names_the_file(tmp_path: Path) -> None:
    """SUMMARYDB_CONFIG wins over summarydb.toml of the current directory."""
    (tmp_path / "summarydb.toml").write_text("port = 1")
    other = tmp_path / "other.toml"
    other.write_text("port = 2")
    assert load({}, environ={"SUMMARYDB_CONFIG": str(other)}, directory=tmp_path).config.port == 2


def test_every_field_of_config_can_be_set(tmp_path: Path) -> None:
    """A field that nobody can set is a mistake; each has one flag, one variable and one key."""
    settable = {setting.field or setting.key for setting in SETTINGS if setting.field != "-"}
    assert {field.name for field in fields(Config)} == settable | {"roots"}


ADDRESSES = {"db", "host", "log-file"}
"""Any text may be an address or a path; what opens it says what is wrong."""
PLAIN = [s for s in SETTINGS if s.name not in ADDRESSES and not s.secret]


@pytest.mark.parametrize("one", PLAIN, ids=lambda setting: setting.name)
def test_an_error_names_flag_variable_or_key(one: Setting, tmp_path: Path) -> None:
    """Whoever reads the error knows which of the three places to look at."""
    with pytest.raises(UsageError, match=f"--{one.name}: 'x,'"):
        load({one.key: "x,"}, environ={}, directory=tmp_path)
    with pytest.raises(UsageError, match=f"SUMMARYDB_{one.key.upper()}: 'x,'"):
        load({}, environ={one.variable: "x,"}, directory=tmp_path)
    (tmp_path / "summarydb.toml").write_text(f'{one.key} = "x,"')
    with pytest.raises(UsageError, match=rf"summarydb\.toml, {one.key}: 'x,'"):
        load({}, environ={}, directory=tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", "-1"),
        ("port", "65536"),
        ("port", "80.5"),
        ("reconcile", "-1"),
        ("reconcile", "nan"),
        ("reconcile", "inf"),
        ("query_seconds", "0"),
        ("threads", "0"),
        ("max_record_bytes", "2147483648"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: str, tmp_path: Path) -> None:
    """A number that cannot be right is refused before anything starts."""
    with pytest.raises(UsageError, match=value):
        load({key: value}, environ={}, directory=tmp_path)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("off", False), ("false", False)])
def test_switches_are_words(text: str, value: bool, tmp_path: Path) -> None:
    """A switch is on or off in the words people use."""
    assert load({}, environ={"SUMMARYDB_POLLING": text}, directory=tmp_path).config.polling is value


def test_switches_and_numbers_of_the_file_have_their_own_types(tmp_path: Path) -> None:
    """TOML's true, 7 and 2.5 need no quotes."""
    (tmp_path / "summarydb.toml").write_text("kernel = false\nport = 7\nreconcile = 2.5\n")
    config = load({}, environ={}, directory=tmp_path).config
    assert (False, 7, 2.5) == (config.kernel, config.port, config.reconcile)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"prot = 1", "unknown setting 'prot'"),
        (b"port = [1]", "port: a list"),
        (b"port =", "no TOML"),
        (b"\xff", "no TOML"),
        (b"logdir = 3", "logdir: write a path"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    """A typing error in the file is told, not passed over."""
    (tmp_path / "summarydb.toml").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        load({}, environ={}, directory=tmp_path)


def test_a_missing_file_is_refused_only_where_it_was_asked_for(tmp_path: Path) -> None:
    """No summarydb.toml is fine; SUMMARYDB_CONFIG must exist."""
    missing = str(tmp_path / "no.toml")
    with pytest.raises(UsageError, match=r"SUMMARYDB_CONFIG: .*no\.toml does not exist"):
        load({}, environ={"SUMMARYDB_CONFIG": missing}, directory=tmp_path)


def test_an_unnamed_root_is_called_by_its_last_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs` and another `runs` become `runs` and `runs-2`; the same directory twice is one root."""
    for place in ("a/runs", "b/runs", "c/runs"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    expected = [("runs", "runs", False), ("runs-2", "runs", False), ("runs-3", "runs", False)]
    assert expected == named("a/runs", "b/runs", "a/../a/runs", "c/runs")


def test_a_name_comes_before_the_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`name:path` names a root, and an unnamed one gives way."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [("runs-2", "runs", False), ("runs", "more", True)] == named("runs", "runs:more")


def test_a_directory_named_and_unnamed_is_the_named_one(tmp_path: Path) -> None:
    """Naming a directory once is enough."""
    assert [("mine", tmp_path.name, True)] == named(str(tmp_path), f"mine:{tmp_path}")


@pytest.mark.skipif(sys.platform == "win32", reason="a colon is no part of a file's name there")
def test_a_path_that_exists_as_written_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory called `a:b` can be indexed."""
    (tmp_path / "lr:0.1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [("lr:0.1", "lr:0.1", False)] == named("lr:0.1")


@given(st.sampled_from("abcxyzABCXYZ"), st.text(max_size=20))
def test_one_letter_is_a_drive(letter: str, rest: str) -> None:
    r"""`C:\runs` is a path, wherever it is read."""
    assert split_logdir(f"{letter}:{rest}") == (None, f"{letter}:{rest}")


@pytest.mark.parametrize("text", ["sub/dir:x", "name:", ":path", "plain", "s3://bucket/x", "file:///x"])
def test_what_is_no_name(text: str) -> None:
    """A name has no separators, and both sides of the colon hold something."""
    assert split_logdir(text) == (None, text)


@pytest.mark.parametrize("text", ["s3://bucket/runs", "gs://b", "hdfs://h/x", "name:s3://bucket/runs", "abfss://x@y/z"])
def test_remote_directories_are_refused_in_words(text: str) -> None:
    """Nobody waits for a download that never comes."""
    with pytest.raises(Refuse, match="remote directories are not supported"):
        roots([text])


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """A typing error in a path is told."""
    with pytest.raises(Refuse, match=r"nowhere does not exist"):
        roots([str(tmp_path / "nowhere")])


def test_a_file_is_no_logdir(tmp_path: Path) -> None:
    """LOGDIR is the directory, not an event file in it."""
    (tmp_path / "events").write_bytes(b"")
    with pytest.raises(Refuse, match=r"is not a directory"):
        roots([str(tmp_path / "events")])


def test_a_directory_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission is told apart from absence. The error comes from the system call: root may read everything."""

    def denied(path: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(Refuse, match="may not be read: check its permissions"):
        roots([str(tmp_path)])


def test_a_name_given_to_two_directories_is_refused(tmp_path: Path) -> None:
    """A named root is known by its name, so it can be one directory only."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="give each its own name"):
        roots([f"mine:{tmp_path / 'a'}", f"mine:{tmp_path / 'b'}"])


def test_two_names_for_one_directory_are_refused(tmp_path: Path) -> None:
    """Its jobs would be there twice."""
    with pytest.raises(UsageError, match="one name is enough"):
        roots([f"mine:{tmp_path}", f"yours:{tmp_path}"])


def test_logdirs_of_the_variable_and_the_file(tmp_path: Path) -> None:
    """LOGDIR arguments win over SUMMARYDB_LOGDIR, that over `logdir` of the file."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    (tmp_path / "summarydb.toml").write_text(f"logdir = ['{three}']")
    several = {"SUMMARYDB_LOGDIR": f"{one};first:{two}"}
    assert ["three"] == [root.name for root in load({}, environ={}, directory=tmp_path).config.roots]
    assert ["one", "first"] == [root.name for root in load({}, environ=several, directory=tmp_path).config.roots]
    assert ["three"] == [root.name for root in load({}, [three], environ=several, directory=tmp_path).config.roots]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_may_always_be_served(host: str) -> None:
    """Loopback needs no permission."""
    check_exposure(Settings(Config(host=host)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_served_only_when_asked_for(host: str) -> None:
    """Nobody opens all runs to a network by accident."""
    with pytest.raises(UsageError, match="--allow-anonymous"):
        check_exposure(Settings(Config(host=host)))
    check_exposure(Settings(Config(host=host), allow_anonymous=True))


def test_settings_travel_to_the_children(tmp_path: Path) -> None:
    """What `up` read once is what its children work with, whatever bytes a path holds."""
    odd = os.fsencode(tmp_path) + (b"/r\xff" if os.name == "posix" and sys.platform != "darwin" else b"/r")
    Path(os.fsdecode(odd)).mkdir()
    settings = Settings(Config(url="postgresql://u@h/d", roots=roots([os.fsdecode(odd)]), port=0), verbose=True)
    assert settings == from_json(json.loads(json.dumps(to_json(settings))))


# What the web is told -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["x,", "two words", "", "ä", 'quote"', "a\nb", "=="])
def test_a_token_that_no_header_carries_is_refused_unseen(text: str) -> None:
    """The error names the place, and never what a secret was to be."""
    with pytest.raises(UsageError, match="--token: it ") as caught:
        load({"token": text}, environ={})
    assert not text or text not in str(caught.value)


def test_a_token_is_in_no_repr() -> None:
    """Whatever logs the settings does not log the secret."""
    settings = load({"token": "s3cret"}, environ={})
    assert "s3cret" not in repr(settings)
    assert "s3cret" == settings.config.token


def test_settings_reach_the_children_as_they_are() -> None:
    """Lists come out of the pipe as the tuples they were."""
    flags = {
        "token": "s3cret",
        "allowed_hosts": "Runs.example, [::1]",
        "cors_origins": "https://a.example,http://b.example:3000",
        "url_prefix": "/team/summarydb/",
        "trusted_proxy": "127.0.0.1,10.0.0.0/8",
        "access_log": "true",
    }
    settings = load(flags, environ={})
    assert settings == from_json(json.loads(json.dumps(to_json(settings))))
    config = settings.config
    assert ("runs.example", "[::1]") == config.allowed_hosts
    assert ("https://a.example", "http://b.example:3000") == config.cors_origins
    assert "/team/summarydb" == config.url_prefix
    assert ("127.0.0.1/32", "10.0.0.0/8") == config.trusted_proxy


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("url_prefix", ["summarydb", "/a//b", "/a/../b", "/a b", "//evil.example", "/api", "/static/x", "/v1", "/ä"]),
        ("allowed_hosts", ["a b", "a:80", "http://a", "a,,b", "a/b"]),
        ("cors_origins", ["a.example", "https://a.example/", "https://a.example/x", "null", "ftp://a", "https://*.a"]),
        ("trusted_proxy", ["localhost", "1.2.3", "10.0.0.1/8", "*"]),
    ],
)
def test_what_the_web_cannot_be_told_is_refused(key: str, values: list[str]) -> None:
    """A setting that would be silently of no use, or open more than it says, is an error."""
    for value in values:
        with pytest.raises(UsageError):
            load({key: value}, environ={})


def test_other_machines_need_a_token_or_a_word(tmp_path: Path) -> None:
    """Beyond loopback a token or --allow-anonymous is asked for."""
    with pytest.raises(UsageError, match="SUMMARYDB_TOKEN"):
        check_exposure(load({"host": "0.0.0.0"}, environ={}, directory=tmp_path))
    check_exposure(load({"host": "0.0.0.0"}, environ={"SUMMARYDB_TOKEN": "s3cret"}, directory=tmp_path))
    check_exposure(load({"host": "0.0.0.0", "allow_anonymous": "true"}, environ={}, directory=tmp_path))
