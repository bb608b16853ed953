"""The centre: joining, assignments, waves, and reports that count once."""

from __future__ import annotations

import random
from base64 import b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from msgspec.structs import replace
from tests.support.site_centre import ACTOR, DAY_S, NOW_S, MemoryTree, SiteTwin, key_and_csr, open_office, parts_of

from ashore.control.sites.centre import MOST_STUCK, MOST_TRIES
from ashore.control.sites.joining import ask, take_answer
from ashore.control.sites.report import REPORT_BYTES, SiteReport, Usage, Vote, sign_report
from ashore.control.sites.sql import load_rollouts, load_site, load_sites, load_usage, save_site
from ashore.control.sites.waves import LOST_S, waves_of
from ashore.core.errors import Conflict, InvalidRequest, NotFound, SourceUnreachable, Unauthenticated


@pytest.fixture
def office(tmp_path):
    made = open_office(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def north(office, tmp_path):
    return SiteTwin(office, tmp_path, "north").join()


def sites_of(office):
    with office.database.read() as connection:
        return load_sites(connection)


def acts(office):
    return [one.action for one in office.recorder.acts]


def test_a_site_joins_by_its_token_and_the_token_works_once(office, north):
    assert office.reader(north.fingerprint) == "north"
    before = north.fingerprint
    assert north.join().fingerprint == before, "an answer that was lost on the way is given again"
    with pytest.raises(Unauthenticated):
        office.join(ask(north.token, key_and_csr("north")[1], north.audit.public.text))
    assert acts(office) == ["site:create", "site:join"]


def test_a_token_is_bound_to_its_site_ends_and_bears_few_wrong_tries(office, tmp_path):
    site, other = SiteTwin(office, tmp_path, "north"), SiteTwin(office, tmp_path, "south")
    asked = ask(site.token, site.csr(), site.audit.public.text)
    for body in (asked.replace(b'"north"', b'"south"'), asked.replace(b'"north"', b'"nobody"')):
        with pytest.raises(Unauthenticated):
            office.join(body)
    office.clock.advance(25 * 3_600)
    with pytest.raises(Unauthenticated):
        office.join(asked)
    other.token = office.create(ACTOR, "south", "")
    wrong = ask(site.token, other.csr(), "").replace(b'"north"', b'"south"')
    for _ in range(MOST_TRIES):
        with pytest.raises(Unauthenticated):
            office.join(wrong)
    with pytest.raises(Unauthenticated):
        other.join()


def test_who_stands_between_can_change_neither_the_key_nor_the_root(office, tmp_path):
    site = SiteTwin(office, tmp_path, "north")
    asked = ask(site.token, site.csr(), site.audit.public.text)
    thief = SiteTwin(office, tmp_path / "b", "thief")
    with pytest.raises(Unauthenticated):
        office.join(asked.replace(asked.partition(b'"csr":"')[2].partition(b'"')[0], b64encode(thief.csr())))
    answer = office.join(asked)
    with pytest.raises(Unauthenticated):
        take_answer(site.token, answer.replace(b'"root":"', b'"root":"AA'))
    with pytest.raises(Unauthenticated):
        take_answer(thief.token, answer)


def test_a_revoked_site_gets_nothing_at_once_and_may_join_again_with_a_new_token(office, north, tmp_path):
    office.publish()
    north.sync()
    north.sequence = 40
    office.take("north", north.report())
    office.revoke(ACTOR, "north")
    with pytest.raises(Unauthenticated):
        office.reader(north.fingerprint)
    with pytest.raises(Unauthenticated):
        office.take("north", north.report())
    office.publish()
    again = SiteTwin(office, tmp_path / "new", "north").join()
    office.publish()
    again.sync()
    assert again.want.sequence > north.want.sequence and again.want.taken == 41 and office.take("north", again.report())
    with office.database.read() as connection:
        assert load_site(connection, "north").report.sequence == 42, "a new machine whose clock is behind is heard"


def test_a_certificate_is_renewed_once_for_the_same_key_and_both_end_with_a_revocation(office, north):
    office.turn()
    with office.database.write() as connection:
        site = load_site(connection, "north")
        save_site(connection, replace(site, joined_s=site.joined_s - 3 * 365 * DAY_S))
    office.turn()
    north.sync()
    made = x509.load_pem_x509_certificate(north.want.certificate.encode())
    assert made.public_key() == north.key.public_key()
    assert made.not_valid_after_utc.timestamp() > office.now_s + 4 * 365 * DAY_S
    prints = (north.fingerprint, made.fingerprint(hashes.SHA256()).hex())
    assert [office.reader(one) for one in prints] == ["north", "north"]
    assert office.take("north", north.report())
    office.turn()
    sequence = north.want.sequence
    assert north.sync().want.sequence == sequence, "once"
    office.revoke(ACTOR, "north")
    for one in prints:
        with pytest.raises(Unauthenticated):
            office.reader(one)


def test_a_site_serves_what_it_is_assigned_by_name_of_a_released_model(office, north):
    office.release(ACTOR, parts_of("one"))
    with pytest.raises(NotFound):
        office.wishes({"chat": "other"}, "smoke")
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "one"}, "smoke"), "escalate": "overflow"})
    office.publish()
    found = north.sync()
    assert [one.name for one in found.parts.values()] == ["one"] and found.want.escalate == "overflow"
    before = found.want.sequence
    office.assign(ACTOR, "north", {"escalate": "overflow"})
    assert office.publish() == () and north.sync().want.sequence == before
    office.assign(ACTOR, "all", {"serve": office.wishes({"chat": ""}, "smoke")})
    office.publish()
    assert north.sync().want.serve == ()


def test_a_report_counts_once_whatever_the_order(office, north, monkeypatch):
    office.publish()
    north.sync()
    usage = (Usage(day="2027-01-15", tenant="t", model="chat", requests=2, prompt_tokens=10, completion_tokens=5),)
    reports = []
    for _ in range(3):
        north.sequence += 7 * DAY_S  # sequences follow the clock
        reports.append(north.report(usage=usage))
    assert [office.take("north", one) for one in (reports[2], reports[0], reports[2], reports[1], reports[0])] == [
        True, True, False, True, False,
    ]  # fmt: skip
    with office.database.read() as connection:
        assert [row.requests for row in load_usage(connection, "north")] == [6]
    assert sites_of(office)["north"].report.sequence == north.sequence
    monkeypatch.setattr("ashore.control.sites.sql.KEPT_REPORTS", 2)
    assert office.take("north", north.report()) and not office.take("north", reports[0]), "nobody knows any more"


def test_a_report_of_another_key_or_another_site_or_too_long_is_refused(office, north, tmp_path):
    south = SiteTwin(office, tmp_path, "south").join()
    office.publish()
    north.sync()
    south.sync()
    for data in (south.report(), north.report()[:-1], b"", b"AAAA\n{}", b"x" * (REPORT_BYTES + 1)):
        with pytest.raises(InvalidRequest):
            office.take("north", data)
    forged = sign_report(SiteReport(site="south", sequence=9, at_s=0), north.key)
    with pytest.raises(InvalidRequest):
        office.take("north", forged)
    assert sites_of(office)["north"].report is None and sites_of(office)["south"].report is None


def test_a_site_that_lies_changes_its_own_row_alone(office, north, tmp_path):
    south = SiteTwin(office, tmp_path, "south").join()
    office.publish()
    north.sync()
    south.sync()
    before = sites_of(office)["south"]
    north.want = replace(north.want, sequence=2**40)
    north.sequence = 2**52
    office.take("north", north.report(votes=(Vote(model="m", rating="up"),), note="<script>"))
    office.turn()
    assert sites_of(office)["south"] == before
    assert north.sync().want.sequence == 2**40 + 1
    south.sync()


def test_votes_are_kept_only_where_they_are_allowed(office, north):
    office.publish()
    north.sync()
    office.take("north", north.report(votes=(Vote(model="m", rating="up"),)))
    office.assign(ACTOR, "north", {"votes": True})
    office.take("north", north.report(votes=(Vote(model="m", rating="down"),)))
    with office.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT rating FROM site_vote").all()
    assert [row[0] for row in rows] == ["down"]


def test_a_restored_centre_goes_on_above_what_a_site_has_seen(office, north):
    office.publish()
    old = sites_of(office)["north"]
    office.assign(ACTOR, "north", {"escalate": "quality"})
    for _ in range(5):  # more changes than seconds
        office.assign(ACTOR, "north", {"votes": True})
        office.assign(ACTOR, "north", {"votes": False})
    office.publish()
    north.sync()
    seen = north.want.sequence
    with office.database.write() as connection:  # the state of before
        save_site(connection, old)
    office.take("north", north.report())
    office.turn()
    north.sync()
    assert north.want.sequence > seen and north.want.escalate == "never"


@pytest.mark.parametrize(
    ("num", "text", "sizes"),
    [(100, "1,10%,100%", [1, 9, 90]), (3, "1,10%,100%", [1, 2]), (5, "50%", [3, 2]), (1, "1,10%,100%", [1])],
)
def test_waves_hold_every_site_once(num, text, sizes):
    names = [f"s{number}" for number in range(num)]
    waves = waves_of(names, text)
    assert [len(one) for one in waves] == sizes and [name for one in waves for name in one] == names
    for wrong in ("", "x", "101%", "1;2", "-1"):
        with pytest.raises(InvalidRequest):
            waves_of(names, wrong)


class Lossy(MemoryTree):
    """Loses one request of a hundred."""

    def __init__(self, tree, seed):
        super().__init__()
        self.tree, self.dice = tree, random.Random(seed)

    def read(self, path, *, start=0, limit):
        if self.dice.random() < 0.01:
            raise SourceUnreachable("the link broke")
        return self.tree.read(path, start=start, limit=limit)


def go_on(office, sites, links, seen, turns=30):
    """Let each site that has news sync and report, until the roll-out ends."""
    for _ in range(turns):
        office.clock.advance(61)
        office.turn()
        with office.database.read() as connection:
            rollout = load_rollouts(connection)[0]
            wanted = {name: site.want.sequence for name, site in load_sites(connection).items()}
        if rollout.state != "running":
            return rollout
        for site, link in zip(sites, links, strict=True):
            if seen[site.name] < wanted[site.name]:
                try:
                    site.sync(link)
                except SourceUnreachable:
                    continue
                seen[site.name] = site.want.sequence
                office.take(site.name, site.report())
    return rollout


def test_a_hundred_sites_get_a_good_version_in_waves_and_a_bad_one_stops_in_the_first(office, tmp_path):
    sites = [SiteTwin(office, tmp_path, f"s{number:03}").join() for number in range(100)]
    links = [Lossy(office.tree, number) for number in range(100)]
    for name in ("one", "two", "bad"):
        office.release(ACTOR, parts_of(name))
    office.assign(ACTOR, "all", {"serve": office.wishes({"chat": "one"}, "none")})
    office.publish()
    seen = {name: one.want.sequence for name, one in sites_of(office).items()}

    good = office.start(ACTOR, "all", office.wishes({"chat": "two"}, "smoke"), "1,10%,100%", 60)
    assert [len(one) for one in good.waves] == [1, 9, 90]
    with pytest.raises(Conflict):
        office.start(ACTOR, "s005", good.serve, "1", 0)
    assert go_on(office, sites, links, seen).state == "done"
    two, bad = parts_of("two").digest, parts_of("bad").digest
    assert {site.serving["chat"] for site in sites} == {two}

    for site in sites:
        site.bad = frozenset((bad,))
    office.start(ACTOR, "all", office.wishes({"chat": "bad"}, "smoke"), "1,10%,100%", 60)
    stopped = go_on(office, sites, links, seen)
    assert (stopped.state, stopped.wave) == ("stopped", 0) and stopped.why.startswith("s000: chat went back")
    assert [name for name, one in sites_of(office).items() if one.want.serve[0].model == bad] == []
    assert "site:rollout-stopped" in acts(office) and sum(site.want.serve[0].model == bad for site in sites) == 1


def test_a_roll_out_is_paused_and_stopped_by_hand(office, north):
    for name in ("one", "two"):
        office.release(ACTOR, parts_of(name))
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "one"}, "none")})
    made = office.start(ACTOR, "all", office.wishes({"chat": "two"}, "smoke"), "1,100%", 0)
    office.steer(ACTOR, made.id, "paused")
    office.turn()
    assert office.steer(ACTOR, made.id, "running").state == "running"
    office.steer(ACTOR, made.id, "stopped")
    assert sites_of(office)["north"].want.serve[0].name == "one"
    with pytest.raises(NotFound):
        office.steer(ACTOR, made.id, "running")


def test_a_silent_site_holds_its_wave_for_a_day_unless_no_other_serves_the_version(office, tmp_path):
    a, b, _ = (SiteTwin(office, tmp_path, name).join() for name in ("a", "b", "c"))
    office.release(ACTOR, parts_of("one"))
    office.start(ACTOR, "all", office.wishes({"chat": "one"}, "none"), "1,100%", 0)

    def stand():
        office.turn()
        office.turn()
        with office.database.read() as connection:
            found = load_rollouts(connection)[0]
        return found.wave, found.state, found.why

    office.clock.advance(LOST_S + 60)
    assert stand() == (0, "running", "waits for a"), "nothing shows that the version is good"
    for site in (a, b):
        site.sync()
        office.take(site.name, site.report())
        assert stand() == (1, "running", "waits for b, c" if site is a else "waits for c")
    office.clock.advance(LOST_S + 60)
    assert stand() == (1, "done", "went on without c")


def test_a_centre_without_keys_says_what_to_do(tmp_path):
    office = open_office(tmp_path)
    office.tree = MemoryTree()
    with pytest.raises(NotFound) as caught:
        office.create(ACTOR, "north", "")
    assert "ashore site keys create" in caught.value.hint
    office.database.close()


def test_a_stick_brings_reports_back(office, north):
    office.publish()
    north.sync()
    stick = MemoryTree()
    for number in (1, 2):
        stick.put(f"reports/north/{number}.json", north.report())
    stick.put("reports/other/1.json", north.report())
    stick.put("reports/north/x/y.json", b"")
    assert office.collect(stick) == 2 and stick.files == {}
    assert NOW_S == int(office.clock.now_s()) == sites_of(office)["north"].seen_s


def test_reports_that_cannot_be_read_or_removed_hold_up_no_other(office, north, tmp_path, caplog):
    office.publish()
    north.sync()

    class Odd(MemoryTree):
        def remove(self, path):
            if "stays" in path:
                raise PermissionError(13, "Permission denied")
            super().remove(path)

        def read(self, path, *, start=0, limit):
            if "closed" in path:
                raise SourceUnreachable(f"{path} cannot be read")
            return super().read(path, start=start, limit=limit)

    tree = Odd()
    for name in ("1", "2closed", "3stays", "10long"):
        tree.put(f"reports/north/{name}.json", north.report())
    assert office.collect(tree) == office.collect(tree) + 3 == 3
    assert sorted(tree.files) == ["reports/north/2closed.json", "reports/north/3stays.json"]
    assert caplog.text.count("cannot read or remove") == 1, "the log says it once"
    for number in range(MOST_STUCK):
        tree.put(f"reports/north/{number}closed.json", b"")
    tree.put("reports/north/1000closed-not.json", north.report())
    assert office.collect(tree) == 0, "the tree may be away"


def test_a_report_cannot_drive_the_assignment_of_its_site_out_of_what_is_read(office, north):
    office.publish()
    north.sync()
    for want in (1 << 53, (1 << 53) - 1, 1 << 41):
        north.want = replace(north.want, sequence=want)
        with pytest.raises(InvalidRequest, match="cannot be read"):
            office.take("north", north.report())
    north.want = replace(north.want, sequence=1 << 40)
    office.take("north", north.report())
    office.assign(ACTOR, "north", {"rate": 7})
    assert sites_of(office)["north"].want.sequence == (1 << 40) + 2


def test_a_stick_has_what_one_site_needs_and_says_which_reports_were_taken(office, north, tmp_path):
    SiteTwin(office, tmp_path, "south").join()
    for name in ("one", "two"):
        parts = parts_of(name)
        office.tree.put(parts.files[0].segments[0].path, b"1234")
        office.release(ACTOR, parts)
    office.assign(ACTOR, "all", {"serve": office.wishes({"chat": "one"}, "none")})
    stick = MemoryTree()
    assert office.export(ACTOR, "north", stick) == 4
    found = north.sync(stick)
    assert [one.name for one in found.parts.values()] == ["one"] and found.want.taken == 0
    assert not [path for path in stick.files if "south" in path]
    assert [path for path in stick.files if path.startswith("segments/")] == [parts_of("one").files[0].segments[0].path]
    office.take("north", north.report())
    again = MemoryTree()
    assert office.export(ACTOR, "north", again) == 0 and north.sync(again).want.taken == 1


def test_what_a_site_reports_is_bounded(office, north, monkeypatch):
    monkeypatch.setattr("ashore.control.sites.sql.MOST_ROWS", 3)
    office.publish()
    north.sync()
    for day in range(1, 9):
        office.take("north", north.report(usage=(Usage(day=f"2027-01-{day:02}", tenant="t", model="m", requests=1),)))
    with office.database.read() as connection:
        assert [row.day for row in load_usage(connection, "north")] == [
            "2027-01-08", "2027-01-07", "2027-01-06", "2027-01-05",
        ]  # fmt: skip
