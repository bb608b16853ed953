"""Looks, what is kept of them, support bundles."""

from __future__ import annotations

import errno
import tarfile
from pathlib import Path

import pytest

from ashore.cli import doctor
from ashore.cli.bootstrap import as_served
from ashore.control.doctor import Readings, diagnose, load_rules
from ashore.control.doctor.bundle import clean, clean_log, contents, write
from ashore.control.doctor.calls import Applied, found_of
from ashore.control.doctor.history import History
from ashore.control.doctor.look import Between, Look
from ashore.control.doctor.model import Diagnosis, Unknown
from ashore.control.doctor.samples import Samples
from ashore.control.doctor.survey import LATE
from ashore.core.errors import EnvironmentFault
from ashore.data.path import StateLink, Topology, write_topology
from ashore.kit.settings import Home, Settings


def look(at_s: float, boot: str = "b", **numbers: float) -> Look:
    return Look(at_s=at_s, mono_s=at_s, boot=boot, numbers=numbers)


def test_two_looks_give_rates_and_one_gives_none() -> None:
    between = Between(look(10, a=5, b=9), look(14, a=25, b=3, c=7))
    assert (between.grew("a"), between.per_s("a")) == (20, 5)
    assert between.grew("b") == 0, "it began anew"
    assert between.grew("c") == 0, "the first look lacks it"
    alone = Between(None, look(14, a=25))
    assert (alone.span_s, alone.grew("a"), alone.now("a")) == (0, 0, 25)
    assert Between(look(10, boot="before", a=1), look(14, a=25)).grew("a") == 0, "another start of the machine"


def test_a_clock_that_was_set_is_seen_against_the_other_clock() -> None:
    after = Look(at_s=100.0, mono_s=14.0, boot="b", numbers={})
    assert Between(look(10), after).stepped_s == pytest.approx(86.0)


def test_looks_are_kept_for_since_and_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    assert history.at(0) is None
    assert [history.keep(look(at_s, n=at_s)) for at_s in (1000, 1010, 1060, 1120)] == [True, False, True, True]
    found = history.at(1055)
    assert found is not None and found.numbers == {"n": 1060}
    monkeypatch.setattr("ashore.control.doctor.history.MOST_LOOKS", 2)
    history.keep(look(1200))
    assert sorted(float(path.name) for path in (tmp_path / "doctor" / "looks").iterdir()) == [1120, 1200]
    (tmp_path / "doctor" / "looks" / "0000001200.000").write_bytes(b"broken")
    found = history.at(1200)
    assert found is not None and found.at_s == 1120


PAGE_1 = """ashore_errors_total{code="a"} 3
ashore_ttft_seconds_sum{model="m"} 1.0
ashore_ttft_seconds_count{model="m"} 2
ashore_t_seconds_bucket{model="m",le="0.1"} 1
ashore_t_seconds_bucket{model="m",le="1.0"} 1
ashore_t_seconds_bucket{model="m",le="+Inf"} 1
"""
PAGE_2 = """ashore_errors_total{code="a"} 5
ashore_errors_total{code="b"} 1
ashore_ttft_seconds_sum{model="m"} 7.0
ashore_ttft_seconds_count{model="m"} 4
ashore_t_seconds_bucket{model="m",le="0.1"} 2
ashore_t_seconds_bucket{model="m",le="1.0"} 21
ashore_t_seconds_bucket{model="m",le="+Inf"} 21
"""


def test_what_two_pages_of_metrics_say_together() -> None:
    samples = Samples(PAGE_2, PAGE_1)
    assert {has["code"]: grew for has, grew in samples.grown("ashore_errors_total")} == {"a": 2, "b": 1}
    assert samples.mean("ashore_ttft_seconds", model="m") == 3.0
    assert samples.quantile("ashore_t_seconds", 0.05, model="m") == 0.1
    assert samples.quantile("ashore_t_seconds", 0.5, model="m") == 1.0
    assert Samples(PAGE_1, PAGE_1).quantile("ashore_t_seconds", 0.5, model="m") == 0.0
    assert Samples(PAGE_1, PAGE_2).growth("ashore_errors_total") == 3, "the server began anew"


SECRETS = {
    "a key": "using ash_AbCd1234efgh5678 now",
    "a header": "Authorization: Bearer sk-abcdefghijklmnop",
    "a password in an address": "postgresql://ashore:hunter22@db.bank.example:5432/x",
    "a password with signs in an address": "redis://:hunter22/x@y@cache:6379/0",
    "a word in a setting": 'password = "hunter22"',
    "several words in a setting": "passwd: 'my hunter22'",
    "a key of a cloud": "AWS_SECRET_ACCESS_KEY=hunter22/K7MDENG",
    "a secret of a client": "client_secret=hunter22&grant_type=x",
    "a signed address": "GET https://s3/x?X-Amz-Credential=hunter22/2026&X-Amz-Signature=hunter22&se=1",
    "a client over IPv6": "from 2001:db8::10:3:4:5 closed",
    "a token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
    "a client": "connection of 10.3.4.5 closed",
    "a person": "mail to alice.b@bank.example",
    "a prompt": '{"prompt": "my account is 12345"}',
    "a private key": "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----",
}
PLANTED = (
    "AbCd1234", "abcdefghijklmnop", "2001:db8", "10:3:4:5", "hunter22", "eyJzdWIi", "10.3.4.5",
    "alice.b", "12345", "MIIabc",
)  # fmt: skip


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_no_secret_and_no_content_gets_through(text: str) -> None:
    cleaned = clean(text)
    assert not [word for word in PLANTED if word in cleaned], cleaned


def test_figures_times_and_names_stay() -> None:
    line = '2026-11-29 08:00:12,123 ashore.data: tokens=500 max_tokens: 5 std::bad_alloc tokens_total{model="chat"} 7'
    assert clean(line) == line


def test_of_a_log_only_lines_of_ours_are_kept_and_no_words_of_an_error() -> None:
    text = (
        "2026-11-28 10:00:00,1 INFO ashore.host: loaded\nwhat a library printed of a request\n"
        'Traceback (most recent call last):\n  File "x.py", line 3, in f\nValueError: my account is 777\n'
    )
    assert clean_log(text).splitlines() == [
        "2026-11-28 10:00:00,1 INFO ashore.host: loaded",
        "Traceback (most recent call last):",
        '  File "x.py", line 3, in f',
        "ValueError: (left out)",
    ]


def test_a_bundle_on_a_full_disk_names_its_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tarfile.TarFile.addfile", full)
    with pytest.raises(EnvironmentFault, match=r"bundle\.tar\.gz cannot be written: No space left"):
        write(tmp_path / "bundle.tar.gz", {"readings.json": "{}"})
    assert not list(tmp_path.iterdir())


def test_a_bundle_holds_nothing_of_what_was_planted_in_every_source(tmp_path: Path) -> None:
    home = Home(root=tmp_path / "home")
    home.create()
    everything = "\n".join(SECRETS.values())
    (home.logs / "api.log").write_text(f"2026-11-28 10:00:00 INFO x\n{everything}\n")
    (home.root / "first-key").write_text("ash_AbCd1234efgh5678")
    readings = Readings()
    settings = {
        "redis": {"url": "redis://u:hunter22@10.3.4.5/0"},
        "cache": {"url": f"redis://u:{'hunter22' * 40}@cache/0"},
        "console": {"providers": [{"client_id": "console", "client_secret": "hunter22"}]},
        "note": everything,
    }
    files = contents(home, readings, diagnose(readings, load_rules()), settings, everything)
    path = tmp_path / "bundle.tar.gz"
    write(path, files)
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        texts = {one.name: (tar.extractfile(one) or pytest.fail()).read().decode() for one in tar.getmembers()}
    assert {"ashore-bundle/readings.json", "ashore-bundle/logs/api.log"} <= set(texts)
    for name, text in texts.items():
        assert not [word for word in PLANTED if word in text], name
    with pytest.raises(FileExistsError):
        write(path, files)


def test_the_state_of_a_server_is_the_one_that_it_was_started_with(tmp_path: Path) -> None:
    """`[state] url` stands in ashore.toml, and the shell of who looks need not have it."""
    settings = Settings(home=Home(root=tmp_path))
    assert as_served(settings) is settings
    settings.home.run.mkdir(parents=True)
    write_topology(Topology(state=StateLink(url="postgresql://db.corp/ashore")), settings.home.topology)
    assert as_served(settings).state_url == "postgresql://db.corp/ashore"
    other = Settings(home=settings.home, state_url="sqlite:////x")
    assert as_served(other) is other
    settings.home.topology.write_text("{")
    assert as_served(settings) is settings


def test_the_doctor_says_why_rules_were_not_judged_and_that_nothing_would_be_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unknown = (
        Unknown(rule="D701", missing="gpus: no nvidia-smi here"),
        Unknown(rule="D702", missing="gpus: no nvidia-smi here"),
        Unknown(rule="D906", missing=f"backup: {LATE}"),
    )
    found = found_of(Diagnosis(at_s=0, span_s=2.0, findings=(), unknown=unknown, rules=9), running=True)
    doctor.show(found)
    doctor._show_applied(Applied(items=()))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("nothing is wrong: 9 rules asked over 2 s, 3 could not be judged")
    assert said[1:] == [
        "  2 not judged: no nvidia-smi here",
        "  1 not judged: not read in time; look for longer: --for 10s",
        "nothing to change: no finding has a safe change",
    ]
