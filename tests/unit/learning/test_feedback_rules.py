"""Votes, receipts, consent and erasure, over a state of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from ashore.control.feedback import calls
from ashore.control.feedback.calls import ConsentIn, ForgetIn, LearningDesk, explain, set_consent
from ashore.core.chat import Message
from ashore.core.clock import ManualClock
from ashore.core.errors import (
    BudgetExceeded,
    Conflict,
    DiskFull,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
)
from ashore.core.ids import RequestId, TenantId
from ashore.data.audit import RequestNote, SqlSubjectKeys
from ashore.data.authority import Authority, PolicyAuthority, Principal
from ashore.data.authority.policy import Binding, Policy, Role, parse_rule
from ashore.data.feedback import Feedback, Receipts, Score, feedback_of_score
from ashore.data.feedback import receipts as receipts_module
from ashore.data.feedback.consent import Consents
from ashore.data.feedback.dataset import make_dataset, rows_of
from ashore.data.feedback.receipts import MOST_WAITING
from ashore.data.feedback.runs import Run, num_gone, save_examples, save_run
from ashore.data.feedback.service import FeedbackService, Given
from ashore.data.feedback.sql import count_votes, prune, votes_on
from ashore.data.feedback.texts import SealedTexts
from ashore.data.feedback.votes import AT_ONCE, MOST_CORRECTION_CHARS, MOST_VOTERS, PER_S, VotePace, answer_key
from ashore.data.http.face import key_of_basic
from ashore.data.jobs import ROW_BYTES
from ashore.data.jobs.quota import stored_bytes
from ashore.data.jobs.reserve import RESERVED_BYTES
from ashore.data.path import NOWHERE, Delta, GenerationRequest
from ashore.kit.call import Actor
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, execute
from ashore.kit.state.sqlite import open_scratch


@dataclass
class House:
    """Feedback over a state in memory."""

    database: Database
    clock: ManualClock
    counted: dict[str, int] = field(default_factory=dict)
    recorder: MemoryRecorder = field(default_factory=MemoryRecorder)
    rights: Authority = field(default_factory=PolicyAuthority)
    most_stored: dict[str, int] = field(default_factory=dict)
    """By tenant."""
    free: int | None = None
    """Bytes on the disk; None: not known."""
    is_aside: bool = False
    masked_aside: list[bool] = field(default_factory=list)
    """Of each call that masked texts, whether it was made aside."""

    def __post_init__(self) -> None:
        self.masks, self.may_mask = threading.Event(), threading.Event()
        self.may_mask.set()
        self.database.free_bytes = self.free_bytes  # type: ignore[method-assign]
        self.texts = SealedTexts(SqlSubjectKeys(self.database))
        self.consents = Consents("train", {"shut": "none", "lab": "measure"}, self.database)
        self.receipts = Receipts(
            self.database, self.texts, self.consents, secret=b"k" * 32, ttl_s=3600, blacken=self.blacken,
            counted=self.count, clock=self.clock, quotas=self,
        )  # fmt: skip
        self.feedback = FeedbackService(
            self.database, self.texts, self.consents, secret=b"k" * 32, blacken=self.blacken, rights=self.rights,
            recorder=self.recorder, clock=self.clock, quotas=self, written=self.receipts.written,
            ttl_s=lambda: self.receipts.ttl_s,
        )  # fmt: skip
        self.desk = LearningDesk(
            database=self.database, consents=self.consents, feedback=self.feedback, rights=self.rights,
            recorder=self.recorder, clock=self.clock,
        )  # fmt: skip

    def blacken(self, texts: object) -> tuple[str, ...]:
        self.masked_aside.append(self.is_aside)
        self.masks.set()
        assert self.may_mask.wait(60)
        return tuple(str(text).replace("4111", "[CARD]") for text in texts)  # type: ignore[attr-defined]

    def most(self, kind: str, tenant: str) -> int | None:
        return self.most_stored.get(tenant)

    def free_bytes(self) -> int | None:
        return self.free

    def count(self, number: int, result: str) -> None:
        self.counted[result] = self.counted.get(result, 0) + number

    def answer(
        self, answer_id: str, question: str = "why?", said: str = "so", *, entry_id: str = "", **who: str
    ) -> None:
        """Have an answer end on the request path."""
        span = self.receipts.begin("chat", "chat", NOWHERE)
        assert span is not None
        request = GenerationRequest(
            request_id=RequestId(answer_id), model="chat", messages=(Message(role="user", content=question),)
        )
        span.asked(request, content=False, entry_id=entry_id)
        for letter in said:
            span.hear(Delta(choice=0, text=letter))
        names = {"principal": "alice", "tenant": "default", "outcome": "answered", **who}
        span.end(RequestNote(request_id=answer_id, alias="chat", release="chat-1", cache="miss", **names))

    def actor(self, person: str = "alice", tenant: str = "default", **fields: object) -> Actor:
        return Actor(principal=Principal(id=person, tenant=TenantId(tenant), **fields))  # type: ignore[arg-type]

    def vote(self, answer_id: str, person: str = "alice", tenant: str = "default", **said: object) -> object:
        asyncio.run(self.receipts.written())
        return self.feedback.vote(Feedback(id=answer_id, **said), self.actor(person, tenant))  # type: ignore[arg-type]

    def count_of(self, table: str) -> int:
        with self.database.read() as connection:
            return int(execute(connection, f"SELECT COUNT(*) FROM {table}").scalar_one())


async def vote_soon(
    house: House, said: Feedback, *, came_s: float | None = None, longest: dict[str, int] | None = None
) -> Given:
    """Vote as the routes do; what reads a text is done at once, and is alice's."""

    async def aside(principal: Principal, work: Callable[[], Any], /) -> Any:
        assert principal.id == "alice"
        house.is_aside = True
        try:
            return work()
        finally:
            house.is_aside = False

    came_s = time.monotonic() if came_s is None else came_s
    return await house.feedback.vote_soon(said, house.actor(), came_s=came_s, longest=longest or {}, aside=aside)


def forget(desk: LearningDesk, actor: Actor, asked: ForgetIn) -> calls.Forgotten:
    return asyncio.run(calls.forget(desk, actor, asked))


@pytest.fixture
def house() -> Iterator[House]:
    house = House(open_scratch(), ManualClock())
    yield house
    house.receipts.close()
    house.database.close()


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.feedback.service.ELSEWHERE_S", 0.0)


def test_only_who_got_an_answer_votes_on_it(house: House) -> None:
    house.answer("chatcmpl-a")
    house.vote("chatcmpl-a", rating="up")
    with pytest.raises(NotFound):
        house.vote("chatcmpl-a", "mallory", rating="down")
    with pytest.raises(NotFound):
        house.vote("chatcmpl-a", "alice", "other", rating="down")
    with pytest.raises(PermissionDenied):
        house.vote("chatcmpl-a", "mallory", rating="down", user="alice")
    assert house.count_of("feedback") == 1


def test_a_purge_by_a_vote_is_in_the_audit_log(house: House) -> None:
    house.answer("a", entry_id="00112233445566aa")
    house.vote("a", rating="up")
    assert house.recorder.acts == [] or all(act.action != "cache:purge" for act in house.recorder.acts)
    house.vote("a", rating="down")
    (act,) = [act for act in house.recorder.acts if act.action == "cache:purge"]
    assert act.detail["entry"] == "00112233445566aa" and act.actor == "alice"


def test_a_vote_needs_a_receipt_that_has_not_expired_but_may_be_changed_later(house: House) -> None:
    house.answer("a"), house.answer("b")
    house.vote("a", rating="up")
    house.clock.advance(3601)
    with house.database.write() as connection:
        assert prune(connection, now_ms=house.receipts.now_ms(), votes_before_ms=0) == (2, 0)
    with pytest.raises(NotFound):
        house.vote("b", rating="up")
    house.vote("a", correction="because")
    (vote,) = votes_on(house.database, "chat")
    assert (vote.rating, bool(vote.correction), vote.has_text) == ("down", True, True)
    with house.database.write() as connection:
        assert prune(connection, now_ms=house.receipts.now_ms(), votes_before_ms=house.receipts.now_ms() + 1) == (0, 1)


def test_what_fails_or_was_left_out_has_no_receipt(house: House) -> None:
    house.answer("a", outcome="failed")
    house.answer("b", tenant="shut")
    house.answer("c", "x" * 70_000)
    assert house.receipts.begin("text_completion", "chat", NOWHERE) is None
    assert asyncio.run(house.receipts.written())
    assert house.count_of("feedback_receipt") == 1
    house.answer("d", said="")
    assert house.vote("d", correction="say something").learns is True  # type: ignore[attr-defined]
    assert house.vote("c", rating="up").learns is False, "too long to learn from"  # type: ignore[attr-defined]
    with pytest.raises(PermissionDenied, match="did not consent"):
        house.vote("b", "alice", "shut", rating="up")


def test_a_tenant_that_only_measures_leaves_no_text(house: House) -> None:
    house.answer("a", tenant="lab")
    given = house.vote("a", "alice", "lab", rating="down", correction="a secret")
    assert (given.learns, "measuring" in given.why) == (False, True)  # type: ignore[attr-defined]
    (vote,) = votes_on(house.database, "chat")
    assert (vote.question, vote.answer, vote.correction, vote.key_id) == ("", "", "", "")


def test_who_waits_for_the_disk_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts_module, "MOST_WAITING", 10)
    gate = threading.Event()
    house.receipts._blacken = lambda texts: gate.wait(60) and house.blacken(texts)
    for number in range(100):
        house.answer(str(number))
    gate.set()
    assert asyncio.run(house.receipts.written(60))
    assert house.counted["kept"] + house.counted["dropped"] == 100 and house.counted["dropped"] >= 80
    assert house.count_of("feedback_receipt") == house.counted["kept"]


def test_erasing_a_person_leaves_nothing_and_nobody_else_loses_anything(house: House) -> None:
    for person in ("alice", "bob"):
        house.answer(f"{person}-1", principal=person)
        house.answer(f"{person}-2", principal=person)
        house.vote(f"{person}-1", person, correction="better")
    (before,) = [one for one in votes_on(house.database, "chat") if one.account == "alice"]
    security = house.actor("officer", roles=frozenset({"security-officer"}))
    done = forget(house.desk, security, ForgetIn(person="alice"))
    assert (done.receipts, done.votes) == (2, 1)
    assert [one.account for one in votes_on(house.database, "chat")] == ["bob"]
    assert house.texts.find(before.key_id) is None, "what a copy of the state still holds is noise"
    assert forget(house.desk, security, ForgetIn(person="alice")).votes == 0
    with pytest.raises(PermissionDenied):
        forget(house.desk, house.actor("mallory"), ForgetIn(person="bob"))
    assert [act.action for act in house.recorder.acts] == ["feedback:forget", "feedback:forget"]


def test_of_a_tenth_of_all_people_who_are_erased_no_example_can_be_read_anywhere(house: House) -> None:
    people = [f"user-{number}" for number in range(60)]
    for person in people:
        for number in range(3):
            house.answer(f"{person}/{number}", f"question {number} of {person}?", f"answer {person}", principal=person)
        house.vote(f"{person}/0", person, correction=f"secret of {person}")
        house.vote(f"{person}/1", person, rating="up")
    reviewer = house.actor("user-0", roles=frozenset({"model-owner"}))
    house.feedback.vote(Feedback(id="user-1/2", user="user-1", correction="user-0 knows better"), reviewer)
    copied = list(votes_on(house.database, "chat"))
    with house.database.read() as connection:
        secrets = {row.key_id: row.secret for row in execute(connection, "SELECT key_id, secret FROM audit_subject")}
        receipts = execute(connection, "SELECT account, key_id, question FROM feedback_receipt").all()
    before = make_dataset("chat", list(rows_of(copied, house.texts, {"default": "train"})), filtered=False)
    with house.database.write() as connection:
        save_run(connection, Run(run_id="r", model="chat", base="b", dataset="d", candidate="chat-learned"))
        save_examples(connection, "r", before)
    gone = set(people[::10])
    security = house.actor("officer", roles=frozenset({"security-officer"}))
    for person in sorted(gone):
        assert forget(house.desk, security, ForgetIn(person=person)).models == ["chat-learned"]
    # Bytes of the files, while the server runs: neither keys nor sealed texts of them, and all those of the others.
    raw = b"".join(file.read_bytes() for file in house.database.path.parent.iterdir())  # type: ignore[attr-defined]
    for vote in copied:
        is_gone = bool(gone & {vote.account, vote.voter})
        assert (vote.correction.encode() in raw) == (not is_gone or not vote.correction), vote.account
        assert (secrets[vote.key_id].encode() in raw) == (vote.account not in gone)
    assert all((question.encode() in raw) == (account not in gone) for account, _, question in receipts)
    # What lies in the state, and what a copy from before it still has: rows sealed under keys that are no more.
    left = list(rows_of(votes_on(house.database, "chat"), house.texts, {"default": "train"}))
    assert len(left) == 2 * (len(people) - len(gone)) and not gone & {row.account for row in left}
    old = [row for row in rows_of(copied, house.texts, {"default": "train"}) if row.voter != "user-0"]
    assert len(copied) == 2 * len(people) + 1 and not gone & {row.account for row in old} and len(old) == len(left)
    assert all((house.texts.find(key_id) is None) == (account in gone) for account, key_id, _ in receipts)
    with house.database.read() as connection:
        named = execute(connection, "SELECT DISTINCT account FROM learning_example").scalars().all()
    assert not gone & set(named), "and nobody is named as a source"


def test_a_flood_of_votes_for_nothing_holds_up_nobody_and_a_late_receipt_is_found(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashore.data.feedback.service.ELSEWHERE_S", 60.0)

    def cast(number: int) -> asyncio.Task[object]:
        said = Feedback(id=str(number), rating="up")
        return asyncio.create_task(vote_soon(house, said))

    async def flood() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        votes = [cast(number) for number in range(40)]
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.to_thread(int), 30)
        assert not any(one.done() for one in votes), "they wait, and hold none of the two threads"
        house.answer("7")
        assert (await asyncio.wait_for(votes[7], 30)).rating == "up"  # type: ignore[attr-defined]
        for one in votes:
            one.cancel()
        with pytest.raises(NotFound):
            await vote_soon(house, Feedback(id="x", rating="up"), came_s=time.monotonic() - 61)

    asyncio.run(flood())


def test_a_correction_is_masked_aside_and_no_longer_than_an_answer(house: House) -> None:
    house.answer("a")
    asyncio.run(house.receipts.written())
    house.masked_aside.clear()
    said = Feedback(id="a", correction="4111 is better")
    assert asyncio.run(vote_soon(house, said, longest={"chat": 14})).learns
    assert house.masked_aside == [True]
    (row,) = rows_of(votes_on(house.database, "chat"), house.texts, {"default": "train"})
    assert row.correction == "[CARD] is better"
    with pytest.raises(InvalidRequest, match=r"14 characters; an answer of this model has at most 13"):
        asyncio.run(vote_soon(house, said, longest={"chat": 13, "other": 1}))


def test_a_voter_has_a_pace() -> None:
    pace, now_s = VotePace(), 100.0
    for _ in range(AT_ONCE):
        pace.take(("a", "alice"), now_s)
    with pytest.raises(Overloaded) as refused:
        pace.take(("a", "alice"), now_s)
    assert refused.value.retry_after_s == 1
    pace.take(("b", "alice"), now_s)
    for _ in range(int(PER_S)):
        pace.take(("a", "alice"), now_s + 1)
    with pytest.raises(Overloaded):
        pace.take(("a", "alice"), now_s + 1)
    for number in range(2 * MOST_VOTERS):  # those who may give all again are forgotten
        pace.take(("a", str(number)), now_s + number)
    assert pace.num_voters <= MOST_VOTERS


def test_receipts_and_votes_count_in_what_a_tenant_stores(house: House) -> None:
    house.answer("a", principal="alice")
    house.vote("a", correction="better")
    with house.database.read() as connection:
        stores = stored_bytes(connection, "default")
        counted = execute(
            connection,
            "SELECT SUM(LENGTH(question) + LENGTH(answer)) FROM (SELECT question, answer FROM feedback_receipt "
            "UNION ALL SELECT question, answer || correction FROM feedback) AS kept",
        ).scalar_one()
    assert stores == 2 * ROW_BYTES + counted > 2 * ROW_BYTES
    house.most_stored["default"] = stores
    house.answer("b")
    house.answer("c", tenant="other")
    asyncio.run(house.receipts.written())
    assert house.counted == {"kept": 2, "no_room": 1} and house.count_of("feedback_receipt") == 2
    with pytest.raises(BudgetExceeded):
        house.vote("a", correction="better still")
    assert house.vote("a", rating=None)
    with house.database.read() as connection:
        assert stored_bytes(connection, "default") < stores


def test_receipts_leave_the_reserve_of_the_disk(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.answer("a")
    asyncio.run(house.receipts.written())
    house.free = RESERVED_BYTES - 1
    for number in range(3):
        house.answer(str(number))
        asyncio.run(house.receipts.written())
    assert house.counted == {"kept": 1, "no_room": 3} and house.count_of("feedback_receipt") == 1
    assert caplog.text.count("get no receipts") == 1, "said once"
    with pytest.raises(DiskFull):
        house.vote("a", rating="up")
    house.free = None
    house.answer("b")
    house.vote("b", rating="up")


def test_answers_of_one_tenant_take_half_of_the_queue(house: House) -> None:
    house.may_mask.clear()
    house.answer("first")
    assert house.masks.wait(30), "the thread is busy, so nothing leaves the queue"
    for number in range(MOST_WAITING // 2 + 3):
        house.answer(str(number), tenant="greedy")
    house.answer("a")
    assert house.counted == {"dropped": 3}
    house.may_mask.set()
    assert asyncio.run(house.receipts.written(30)) and house.counted["kept"] == 2 + MOST_WAITING // 2


def test_a_run_learns_that_a_person_was_erased_while_it_learned(house: House) -> None:
    house.answer("a")
    house.vote("a", correction="better")
    (vote,) = votes_on(house.database, "chat")
    values = {"run": "r", "feedback": vote.feedback_id, "tenant": vote.tenant, "account": vote.account}
    with house.database.write() as connection:
        save_run(connection, Run(run_id="r", model="chat", base="b", dataset="d", candidate="chat-learned"))
        execute(
            connection,
            "INSERT INTO learning_example (run_id, feedback_id, tenant, account, voter, kind, held, why) "
            "VALUES (:run, :feedback, :tenant, :account, :account, 'correction', '', '')",
            **values,
        )
        assert num_gone(connection, "r") == 0
    officer = house.actor("officer", roles=frozenset({"security-officer"}))
    assert forget(house.desk, officer, ForgetIn(person="alice")).models == ["chat-learned"]
    with house.database.read() as connection:
        assert num_gone(connection, "r") == 1


def test_a_person_who_was_erased_before_a_run_noted_its_examples_is_neither_named_nor_learned_from(
    house: House,
) -> None:
    for person in ("alice", "bob"):
        house.answer(person, principal=person)
        house.vote(person, person, correction="better")
    rows = list(rows_of(votes_on(house.database, "chat"), house.texts, {"default": "train"}))
    officer = house.actor("officer", roles=frozenset({"security-officer"}))
    assert forget(house.desk, officer, ForgetIn(person="alice")).models == []
    with house.database.write() as connection:
        save_run(connection, Run(run_id="r", model="chat", base="b", dataset="d"))
    with pytest.raises(Conflict, match="1 votes were erased"), house.database.write() as connection:
        save_examples(connection, "r", make_dataset("chat", rows, filtered=False))
    assert house.count_of("learning_example") == 0


def test_withdrawing_consent_erases_texts_and_keeps_counts(house: House) -> None:
    house.answer("a"), house.answer("b")
    house.vote("a", rating="up")
    officer = house.actor("officer", roles=frozenset({"security-officer"}))
    done = set_consent(house.desk, officer, ConsentIn(tenant="default", purpose="none"))
    assert (done.receipts, done.texts) == (2, 1)
    (vote,) = votes_on(house.database, "chat")
    assert (vote.rating, vote.has_text, vote.digest) == ("up", False, "")
    with house.database.read() as connection:
        (row,) = count_votes(connection)
    assert (row["up"], row["with_text"]) == (1, 0)
    house.answer("c")
    assert asyncio.run(house.receipts.written()) and house.count_of("feedback_receipt") == 0


def test_what_was_underway_when_a_tenant_withdrew_leaves_no_text_for_long(house: House) -> None:
    """Another worker hears of it 200 ms later, and a vote reads the purpose before it is written."""
    elsewhere = Consents("train", {}, house.database)
    house.answer("a"), house.answer("b"), house.answer("c", tenant="lab")
    assert asyncio.run(house.receipts.written())
    officer = house.actor("officer", roles=frozenset({"security-officer"}))
    set_consent(house.desk, officer, ConsentIn(tenant="default", purpose="measure"))
    house.receipts._consents = house.feedback._consents = elsewhere
    elsewhere._set = {}  # as before
    house.answer("d"), house.answer("e")
    assert house.vote("d", correction="a secret").learns is True  # type: ignore[attr-defined]
    house.feedback._consents = house.consents
    house.feedback.drop_withdrawn()
    (vote,) = votes_on(house.database, "chat")
    assert (vote.rating, vote.has_text, vote.correction) == ("down", False, "")
    with house.database.read() as connection:
        left = execute(connection, "SELECT tenant, key_id FROM feedback_receipt").all()
    assert left == [("lab", "")], "what was never a text may still be voted on"


def test_a_reader_that_does_not_end_keeps_a_person_only_in_the_log(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashore.kit.state.sqlite.BUSY_TIMEOUT_S", 0.1)
    house.answer("a"), house.answer("b", principal="bob")
    house.vote("a", correction="better")
    (before,) = votes_on(house.database, "chat")
    assert house.texts.find(before.key_id) is not None
    with house.database.write() as connection:
        save_run(connection, Run(run_id="r", model="chat", base="b", dataset="d", candidate="chat-learned"))
        rows = list(rows_of([before], house.texts, {"default": "train"}))
        save_examples(connection, "r", make_dataset("chat", rows, filtered=False))
    officer = house.actor("officer", roles=frozenset({"security-officer"}))
    with house.database.read() as connection:
        execute(connection, "SELECT COUNT(*) FROM feedback").all()
        with pytest.raises(Overloaded, match="1 votes were erased; models that learned from them: chat-learned"):
            forget(house.desk, officer, ForgetIn(person="alice"))
    assert house.texts.find(before.key_id) is None
    assert not list(votes_on(house.database, "chat")) and house.count_of("feedback_receipt") == 1
    assert [act.detail["votes"] for act in house.recorder.acts] == [1], "it is in the audit log all the same"
    assert forget(house.desk, officer, ForgetIn(person="alice")).votes == 0


def test_who_gave_votes_in_other_tenants_is_shown_by_right_alone(house: House) -> None:
    for tenant, person in (("default", "alice"), ("bank", "bob")):
        house.answer(tenant, tenant=tenant, principal=person)
        house.vote(tenant, person, tenant, correction="better")
    rows = list(rows_of(votes_on(house.database, "chat"), house.texts, {"default": "train", "bank": "train"}))
    with house.database.write() as connection:
        save_run(connection, Run(run_id="r", model="chat", base="b", dataset="d"))
        save_examples(connection, "r", make_dataset("chat", rows, filtered=False))
    rules = parse_rule("learning:read on model/*"), parse_rule("learning:read on tenant/*")
    roles = Role(name="narrow", rules=rules[:1]), Role(name="wide", rules=rules)
    bound = Binding("user/carol", "narrow"), Binding("user/dora", "wide")
    house.desk.rights.take(Policy(roles=roles, bindings=bound))  # type: ignore[attr-defined]

    def shown(person: str) -> list[str]:
        return sorted(one.voter for one in explain(house.desk, house.actor(person), "r").people)

    assert (shown("carol"), shown("dora")) == (["alice"], ["alice", "bob"])


@pytest.mark.parametrize(
    ("score", "rating", "number", "tags"),
    [
        ({"value": 1, "data_type": "BOOLEAN"}, "up", 1.0, ["n=1"]),
        ({"value": 0.2}, "down", 0.2, ["n=0.2"]),
        ({"value": 5}, "", None, ["n=5"]),
        ({"value": "Thumbs-Up", "data_type": "CATEGORICAL"}, "up", None, ["n=Thumbs-Up"]),
        ({"value": "blue", "data_type": "CATEGORICAL"}, "", None, ["n=blue"]),
    ],
)
def test_scores_of_langfuse_are_votes(
    score: dict[str, object], rating: str, number: float | None, tags: list[str]
) -> None:
    found = feedback_of_score(Score(trace_id="a", name="n", **score))  # type: ignore[arg-type]
    assert (found.verdict(), found.score, found.tags) == (rating, number, tags)
    found.check()


def test_a_correction_comes_as_a_score_too() -> None:
    found = feedback_of_score(Score(trace_id="a", name="correction", value="Paris"))
    assert (found.correction, found.verdict()) == ("Paris", "down")
    with pytest.raises(InvalidRequest, match="65,537 characters"):
        feedback_of_score(Score(trace_id="a", name="correction", value="x" * (MOST_CORRECTION_CHARS + 1)))


def test_ids_and_keys_are_read_whatever_stands_around_them() -> None:
    assert [answer_key(one) for one in ("chatcmpl-a", "msg_a", "req_a", "a", "resp_a")] == ["a"] * 4 + ["resp_a"]
    assert (key_of_basic("cGs6c2s="), key_of_basic("c2s="), key_of_basic("%")) == ("sk", "sk", "")


def test_a_vote_that_says_nothing_is_refused() -> None:
    for said in ({}, {"rating": None, "score": 1.0}, {"correction": " "}, {"rating": "up", "preferred": "b"}):
        with pytest.raises(InvalidRequest):
            Feedback(id="a", **said).check()  # type: ignore[arg-type]
