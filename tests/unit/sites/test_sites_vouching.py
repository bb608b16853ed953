"""The auditor at the centre compares a copy of a site's audit log with the checkpoints that the site handed in."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.support.site_centre import ACTOR, SiteTwin, open_office

from ashore.control.sites.sql import load_site, save_site
from ashore.control.sites.vouching import verify_site
from ashore.core.errors import InvalidRequest, NotFound
from ashore.data.audit import (
    PUBLIC_KEYS,
    AuditLink,
    Checkpoints,
    open_command_log,
    read_checkpoints,
    read_public_keys,
)  # fmt: skip
from ashore.kit.recorder import Act


@pytest.fixture
def site(tmp_path):
    office = open_office(tmp_path)
    audit, keys = tmp_path / "audit", tmp_path / "audit-keys"
    for number in range(3):
        log = open_command_log(AuditLink(path=str(audit), keys=str(keys)))
        log.record(Act(action="alias:set", actor="olga", resource=f"alias/{number}"))
        log.settle(5)
        log.close()
        Checkpoints(audit, keys).make(number + 1)
    made = SiteTwin(office, tmp_path, "north").join()
    with office.database.write() as connection:
        (key,) = read_public_keys(keys / PUBLIC_KEYS)
        save_site(connection, replace(load_site(connection, "north"), audit_key=key.text))
    office.publish()
    made.sync()
    made.log = audit
    made.lines = tuple(line.raw.decode() for line in read_checkpoints(audit / "checkpoints.log"))
    yield made
    office.database.close()


def test_a_log_that_is_as_it_was_verifies(site):
    site.office.take("north", site.report(checkpoints=site.lines[:1]))
    site.office.take("north", site.report(checkpoints=site.lines[-1:]))
    report, kept = verify_site(site.office.database, "north", site.log)
    assert report.ok and kept == 2 and report.num_records > 3


def test_a_log_whose_tail_was_cut_off_does_not(site):
    site.office.take("north", site.report(checkpoints=site.lines))
    file = site.log / "checkpoints.log"
    file.write_text("\n".join(site.lines[:2]) + "\n")
    report, _ = verify_site(site.office.database, "north", site.log)
    assert not report.ok


def test_a_site_that_contradicts_itself_is_counted_and_what_is_no_checkpoint_is_refused(site):
    site.office.take("north", site.report(checkpoints=site.lines))
    other = site.lines[1].replace('"at_us":2', '"at_us":9')
    site.office.take("north", site.report(checkpoints=(other,)))
    with pytest.raises(InvalidRequest):
        site.office.take("north", site.report(checkpoints=("AAAA {}",)))
    with site.office.database.read() as connection:
        assert load_site(connection, "north").forked == 1


def test_a_site_that_never_joined_has_nothing_to_verify(site):
    site.office.create(ACTOR, "south", "")
    for name in ("south", "nobody"):
        with pytest.raises(NotFound):
            verify_site(site.office.database, name, site.log)
