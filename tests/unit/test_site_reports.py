"""What a site hands in reaches the centre once, whatever the link and the power do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ashore.control.sites.identity import SECRET, site_key
from ashore.control.sites.report import SiteReport, open_report, sign_report
from ashore.control.sites.reports import Reports, Sources
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest, SourceUnreachable
from ashore.data.audit.checkpoints import BEGINNING, CHECKPOINTS, Checkpoint, SignedLine, heads_root, signed_line
from ashore.data.audit.signing import new_signing_key
from ashore.data.authority.budgets import SqlAuthority, Usage
from ashore.data.feedback.model import Vote
from ashore.data.feedback.sql import save_vote
from ashore.kit.state import Database, execute, open_state
from ashore.kit.state.secrets import list_secrets

DAY_S = 86_400


class Centre:
    """Takes reports in, once for each sequence, over a link that breaks before or after they arrive."""

    def __init__(self, key: bytes, luck: random.Random) -> None:
        self.key, self.luck, self.reports = key, luck, dict[int, SiteReport]()
        self.is_cut, self.sent = False, 0

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        raise SourceUnreachable("nothing is read here")

    def put(self, path: str, body: bytes) -> None:
        if self.is_cut or self.luck.random() < 0.3:
            raise SourceUnreachable("the link is cut")
        self.sent += 1
        report = open_report(body, self.key)
        assert path == f"reports/shanghai/{report.sequence}.json"
        self.reports.setdefault(report.sequence, report)
        if self.luck.random() < 0.3:
            raise SourceUnreachable("the answer was lost")


class Home:
    """The home of a site, whose users, auditors and voters go on whatever the link does."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, ManualClock()
        self.database: Database = open_state("", default=root / "state.db", snapshots=root / "snap", clock=self.clock)
        self.used: Counter[tuple[str, str, str]] = Counter()
        self.votes, self.lines = 0, list[str]()
        self._signer, self._previous = new_signing_key(), BEGINNING
        self._day: Counter[tuple[str, str, str]] = Counter()

    def live(self, quarters: int, *, tenants: int = 2) -> None:
        """Let six hours pass, so many times."""
        for _ in range(quarters):
            self.clock.advance(6 * 3600)
            day = datetime.fromtimestamp(self.clock.now_s(), UTC).date().isoformat()
            for tenant in range(tenants):
                self._day[day, f"t{tenant}", "chat"] += 3
                self.used[day, f"t{tenant}", "chat"] += 3
            rows = [
                Usage(day=key[0], tenant=key[1], user="ann", model=key[2], requests=number, prompt_tokens=7 * number)
                for key, number in self._day.items()
                if key[0] == day
            ]
            SqlAuthority(self.database).report("w", (), rows)
            self._sign()
            self._vote()

    def _sign(self) -> None:
        checkpoint = Checkpoint(
            at_us=int(self.clock.now_s() * 1e6), chains=(), home=self._signer.public.key_id,
            key_id=self._signer.public.key_id, number=len(self.lines) + 1, previous=self._previous,
            root=heads_root(()),
        )  # fmt: skip
        line = signed_line(checkpoint, self._signer)
        self._previous = SignedLine(0, line, True).hash
        self.lines.append(line.decode())
        with (self.root / CHECKPOINTS).open("ab") as file:
            file.write(line + b"\n")

    def _vote(self) -> None:
        self.votes += 1
        now_ms = int(self.clock.now_s() * 1000)
        vote = Vote(
            feedback_id=f"f{self.votes:06}", tenant="t0", account="ann", answer_id=f"a{self.votes}", voter="ann",
            model="chat", release="chat-1", rating="up", score=None, tags=("short",), digest="", num_tokens=1,
            key_id="", question="", answer="", correction="", preferred="", said=str(self.votes), answered_ms=now_ms,
            created_ms=now_ms, changed_ms=now_ms,
        )  # fmt: skip
        with self.database.write() as connection:
            save_vote(connection, vote)

    def reports(self) -> Reports:
        """As the agent has them after a start."""
        return Reports(self.root / "reports.json", "shanghai", site_key(self.database))

    def hand_in(self, centre: Centre, *, rounds: int = 3) -> None:
        """As the agent does it; it is killed after each step."""
        sources = Sources(database=self.database, audit=self.root, models=("chat",))
        for _ in range(rounds):
            more = self.reports().make({"version": "1"}, sources, self.clock.now_s())
            try:
                self.reports().hand_in(centre)
            except SourceUnreachable:
                continue
            if not more:
                return


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    one = Home(tmp_path)
    yield one
    one.database.close()


def public_of(home: Home) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return site_key(home.database).private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("tenants", [2, 40], ids=["few", "many"])
def test_a_month_without_a_link_loses_and_doubles_nothing(home: Home, tenants: int) -> None:
    centre = Centre(public_of(home), random.Random(7))
    for _ in range(3):
        home.live(4, tenants=tenants)
        home.hand_in(centre)
    centre.is_cut = True
    for _ in range(31):
        home.live(4, tenants=tenants)
        home.hand_in(centre)
    centre.is_cut = False
    home.live(1, tenants=tenants)
    home.hand_in(centre, rounds=1000)
    home.hand_in(centre, rounds=1000)

    reports = [centre.reports[sequence] for sequence in sorted(centre.reports)]
    counted: Counter[tuple[str, str, str]] = Counter()
    prompts = 0
    for report in reports:
        for row in report.usage:
            counted[row.day, row.tenant, row.model] += row.requests
            prompts += row.prompt_tokens
    assert counted == home.used and prompts == 7 * sum(home.used.values())
    assert [line for report in reports for line in report.checkpoints] == home.lines
    assert sum(len(report.votes) for report in reports) == home.votes
    assert centre.sent > len(reports), "some came twice"
    assert (reports[0].drift, reports[-1].drift) == (None, 0), "two weeks alike"


def test_checkpoints_of_one_hour_are_handed_in_as_its_last_one(home: Home) -> None:
    home.live(1)
    for _ in range(100):
        home.clock.advance(30)
        home._sign()
    reports, sources = home.reports(), Sources(database=home.database, audit=home.root)
    reports.make({}, sources, home.clock.now_s())
    (report,) = reports.spool.waiting
    assert len(report.checkpoints) <= 3 and report.checkpoints[-1] == home.lines[-1]
    assert not report.votes, "no model's votes were allowed"


def test_a_report_of_another_site_is_not_taken(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    reports = home.reports()
    reports.make({}, Sources(database=home.database, audit=home.root), home.clock.now_s())
    with pytest.raises(InvalidRequest, match="not signed"):
        open_report(sign_report(reports.spool.waiting[0], reports.key.private), public_of(other))
    other.database.close()


def test_a_report_on_a_stick_waits_until_the_centre_has_it(home: Home) -> None:
    centre, reports = Centre(public_of(home), random.Random(1)), home.reports()
    sources = Sources(database=home.database, audit=home.root)
    reports.make({}, sources, home.clock.now_s())
    for _ in range(20):
        try:
            reports.hand_in(centre, acknowledges=False)
        except SourceUnreachable:
            continue
    assert reports.spool.waiting and len(centre.reports) == 1
    reports.taken(reports.spool.sequence - 1)
    assert reports.spool.waiting
    reports.taken(reports.spool.sequence)
    assert not home.reports().spool.waiting


def test_reports_that_wait_outlive_the_key_and_the_name_that_they_were_made_with(home: Home) -> None:
    sources = Sources(database=home.database, audit=home.root)
    home.live(1)
    home.reports().make({}, sources, home.clock.now_s())
    with home.database.write() as connection:
        execute(connection, "DELETE FROM secret WHERE name = :name", name=SECRET)  # `ashore site leave`, then join
    centre = Centre(public_of(home), random.Random(1))
    again = Reports(home.root / "reports.json", "shanghai", site_key(home.database))
    while again.spool.waiting:
        with suppress(SourceUnreachable):
            again.hand_in(centre)
    (report,) = centre.reports.values()
    assert sum(one.requests for one in report.usage) == sum(home.used.values())


def test_a_report_is_above_those_that_the_centre_has_though_the_clock_is_behind(home: Home) -> None:
    reports = home.reports()
    reports.taken(1_900_000_000)
    reports.make({}, Sources(database=home.database, audit=home.root), 1_000_000.0)
    assert home.reports().spool.waiting[0].sequence == 1_900_000_001


def test_the_key_of_the_site_is_a_secret_of_its_state(home: Home) -> None:
    key = site_key(home.database)
    assert key.pem() == site_key(home.database).pem()
    with home.database.read() as connection:
        assert SECRET in [one.name for one in list_secrets(connection, leave="")]
