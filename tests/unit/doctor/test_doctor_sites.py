"""What the doctor says of a site that hears nothing, and of signatures of a centre that end."""

from __future__ import annotations

import json
from pathlib import Path
from time import gmtime, strftime

import msgspec

from ashore.control.doctor import Readings, diagnose, load_rules
from ashore.control.doctor.probes.home import read_sites
from ashore.control.sites import Status
from ashore.kit.settings import Home

DAY_S = 86_400
NOW_S = 1_800_000_000


def sign(folder: Path, name: str, version: int, days: float) -> None:
    """Write what the doctor reads of a signed file."""
    folder.mkdir(parents=True, exist_ok=True)
    expires = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(NOW_S + days * DAY_S))
    (folder / name).write_text(json.dumps({"signatures": [], "signed": {"version": version, "expires": expires}}))


def found(home: Path, after_days: float = 0, rule: str = "D945") -> list[str]:
    told = diagnose(Readings(sites=read_sites(Home(root=home), NOW_S + after_days * DAY_S)), load_rules()).findings
    assert {one.rule for one in told} <= {rule}
    return [one.what for one in told]


def test_a_centre_whose_signatures_end(tmp_path: Path) -> None:
    tree = tmp_path / "sites/tree/metadata"
    assert found(tmp_path) == []
    sign(tree, "1.root.json", 1, 3)
    sign(tree, "2.root.json", 2, 365)
    sign(tree, "timestamp.json", 9, 3)
    assert found(tmp_path) == []
    assert found(tmp_path, 2.5) == ["timestamp of the centre ends in 12 hours"]
    assert found(tmp_path, 360) == [
        "timestamp of the centre ended 8568 hours ago",
        "root of the centre ends in 120 hours",
    ]


def test_a_site_that_hears_nothing(tmp_path: Path) -> None:
    sign(tmp_path / "sites/trusted", "timestamp.json", 9, 3)
    status = Status(
        site="north", centre="https://centre.example", at_s=NOW_S, phase="idle", sequence=1, serving={}, failed={},
        news_s=NOW_S, until_s=NOW_S + 10 * DAY_S, hold_until_s=0, frozen=False, waiting=0, note="the link is cut",
    )  # fmt: skip
    (tmp_path / "sites/status.json").write_bytes(msgspec.json.encode(status))
    assert found(tmp_path) == []
    assert found(tmp_path, 9.5, "D945") == [
        "this site has had no news of https://centre.example for 10 days; it may serve 0.5 days more",
        "timestamp of the centre ended 156 hours ago",
    ]
