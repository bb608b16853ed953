"""`[[feed]]` as an operator writes it."""

from __future__ import annotations

import pytest

from ashore.core.errors import InvalidSpec
from ashore.machine.config import parse_spec

ALLOW = '[egress]\nallow = ["siem.corp.example"]\n'


def test_a_feed_is_a_table_of_a_list() -> None:
    spec = parse_spec(ALLOW + '[[feed]]\nname = "siem"\nto = "syslog+tls://siem.corp.example"\n')
    (feed,) = spec.listening.feed.items  # type: ignore[attr-defined]
    assert feed.url == "https://siem.corp.example:6514" and feed.kind == "syslog+tls"
    assert parse_spec("").listening.feed.items == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('to = "syslog+tls://other.example:6514"', "egress"),
        ('to = "syslog+tcp://siem.corp.example:514"', "expected syslog"),
        ('to = "hec+http://siem.corp.example:8088"', "in clear"),
        ('to = "hec+https://u:p@siem.corp.example"', "expected syslog"),
        ('to = "elastic+https://siem.corp.example:9200"', "names no index"),
        ('to = "file://etc/log"', "expected syslog"),
        ('to = "syslog+tls://siem.corp.example:99999"', "out of range"),
        ('to = "otlp+https://siem.corp.example"\nform = "cef"', "cef"),
        ('to = "syslog+tls://siem.corp.example"\nca_file = "ca.pem"', "relative path"),
        ('to = "syslog+tls://siem.corp.example"\nclient_cert = "/c.pem"', "both or neither"),
        ('to = "syslog+tls://siem.corp.example"\n[[feed]]\nname = "siem"\nto = "file:///a"', "same name"),
    ],
)
def test_what_cannot_be_a_feed_is_refused(line: str, said: str) -> None:
    with pytest.raises(InvalidSpec) as fault:
        parse_spec(f'{ALLOW}[[feed]]\nname = "siem"\n{line}\n')
    assert said in fault.value.in_one_line
