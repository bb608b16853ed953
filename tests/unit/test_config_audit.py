"""`[audit]`: nothing in it switches the record off or shortens it below what the law asks."""

from __future__ import annotations

import pytest

from ashore.core.errors import InvalidSpec
from ashore.data.audit import AuditSection
from ashore.machine.config import parse_spec


def test_the_defaults_and_every_key() -> None:
    assert parse_spec("").audit == AuditSection() == parse_spec("[audit]").audit
    told = parse_spec(
        '[audit]\ndurability = "strict"\ncontent = "sealed"\nretention_days = 1095\ncheckpoint_s = 5\n'
        'anchors = ["/mnt/anchor", "s3://audit/anchor", "syslog+tcp://10.0.0.9:6514"]\n'
        'archive = "s3://audit/old"\narchive_after_days = 60\n'
        "archive_every_s = 600\n"
    ).audit
    assert told == AuditSection(
        durability="strict",
        content="sealed",
        retention_days=1095,
        checkpoint_s=5.0,
        anchors=("/mnt/anchor", "s3://audit/anchor", "syslog+tcp://10.0.0.9:6514"),
        archive="s3://audit/old",
        archive_after_days=60,
        archive_every_s=600.0,
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("retention_days = 179", r"six months.*Art\. 23\(3\)"),
        ("retention_days = 0", "six months"),
        ("retention_days = true", "expected a whole number, 180 to 36500"),
        ("enabled = false", "cannot be switched off"),
        ("enabled = true", "cannot be switched off"),
        ('durability = "none"', "durability"),
        ('content = "clear"', "content"),
        ("checkpoint_s = 0", "above 0"),
        ("checkpoint_s = 86400", "at most 3600"),
        ('anchors = ["relative"]', "relative"),
        ('archive = "ftp://x"', "archive"),
        ("archive_after_days = 0", "archive_after_days"),
        ("archive_every_s = 0", "above 0"),
        ("archive_every_s = 90000", "at most 86400"),
        ("retention = 200", "unknown key"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        parse_spec(f"[audit]\n{line}")


def test_the_shortest_retention_is_180_days() -> None:
    assert parse_spec("[audit]\nretention_days = 180").audit.retention_days == 180
