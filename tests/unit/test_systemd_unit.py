"""The unit for systemd: what it says for which service, and how words are written so that systemd reads them back."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from ashore.core.errors import InvalidSpec
from ashore.kit.processes.notify import tell_manager
from ashore.machine.deployment import Service, render_unit

PLAIN = Service(
    command=["/opt/ashore/bin/ashore", "up", "smollm2"],
    reload_command=["/opt/ashore/bin/ashore", "reload"],
    home=Path("/var/lib/ashore"),
    user="ashore",
    models=["smollm2"],
    drain_timeout_s=30.0,
    readable=[Path("/opt/ashore/bin/ashore")],
)


def _lines(service: Service) -> list[str]:
    return [line for line in render_unit(service).splitlines() if line and not line.startswith("#")]


def test_a_home_under_var_lib_is_made_by_systemd_and_nothing_else_can_be_written() -> None:
    lines = _lines(PLAIN)
    assert {"ProtectSystem=strict", "StateDirectory=ashore", "StateDirectoryMode=0700"} <= set(lines)
    assert not [line for line in lines if line.startswith("ReadWritePaths=")]
    assert {"ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "CapabilityBoundingSet="} <= set(lines)


def test_another_home_and_the_folders_of_backups_are_named() -> None:
    lines = _lines(replace(PLAIN, home=Path("/srv/a home"), writable=[Path("/mnt/nas/backup")]))
    assert 'Environment="ASHORE_HOME=/srv/a home"' in lines
    assert {'ReadWritePaths="/srv/a home"', "ReadWritePaths=/mnt/nas/backup"} <= set(lines)


def test_what_lies_in_somebodys_home_or_in_tmp_is_not_hidden_from_itself() -> None:
    lines = _lines(replace(PLAIN, readable=[Path("/home/ann/ashore/.venv/bin/ashore"), Path("/tmp/ashore.toml")]))
    assert "ProtectHome=read-only" in lines
    assert "PrivateTmp=yes" not in lines


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("fake:echo?tok_per_s=20", "fake:echo?tok_per_s=20"),
        ("100%", '"100%%"'),
        ("$HOME", "$$HOME"),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("it's", '"it\'s"'),
        ("", '""'),
    ],
)
def test_words_of_a_command_are_read_back_as_they_were(word: str, written: str) -> None:
    assert f"ExecStart=ashore up {written}" in _lines(replace(PLAIN, command=["ashore", "up", word]))


def test_a_path_keeps_its_dollar_where_none_stands_for_a_variable() -> None:
    assert "Environment=ASHORE_HOME=/srv/$a" in _lines(replace(PLAIN, home=Path("/srv/$a")))


def test_a_line_break_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="a systemd unit cannot contain"):
        render_unit(replace(PLAIN, models=["a\nExecStartPre=/bin/false"]))


def test_a_low_port_is_the_one_thing_that_needs_a_capability() -> None:
    lines = _lines(replace(PLAIN, lowest_port=443))
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines


def test_an_engine_that_may_use_an_accelerator_sees_devices() -> None:
    assert "PrivateDevices=yes" not in _lines(replace(PLAIN, uses_devices=True))


def test_running_answers_have_their_time_before_systemd_kills() -> None:
    assert "TimeoutStopSec=360" in _lines(replace(PLAIN, drain_timeout_s=300.0))


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_all_facts_in_one_message(tmp_path: Path, abstract: bool) -> None:
    name = f"ashore-test-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind("\0" + name if abstract else name)
        tell_manager("READY=1", "STATUS=two\nlines", environ={"NOTIFY_SOCKET": "@" + name if abstract else name})
        assert manager.recv(1000) == b"READY=1\nSTATUS=two lines"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/at/all"])
def test_without_a_manager_that_listens_nothing_happens(address: str) -> None:
    tell_manager("READY=1", environ={"NOTIFY_SOCKET": address} if address else {})
