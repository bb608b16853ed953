"""Several servers behind one vllm engine, each a double: load, failures, return, TLS, keys and allowed addresses."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from engine_bench import GREEDY, drain, failure, finish, order, run, token_ids
from node_lists import nodes_at
from vllm_double import VllmDouble
from waiting import eventually

from ashore.core.errors import InvalidSpec
from ashore.core.ids import OrderId
from ashore.data.engines import EngineEvent, EngineOptions, ModelFiles, Moved, Sampling, ScoreText, Token, scored
from ashore.data.engines.model import BackendStatus
from ashore.data.engines.vllm.engine import VllmEngine
from ashore.machine.edge.certificate import keep_certificate

REMOTE = ModelFiles(name="remote", digest="", directory="/nowhere", format="remote")
NAME = "fake:random?tokens=40&context=512"


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PROBE_S", 0.1)


@pytest.fixture
def doubles() -> Iterator[list[VllmDouble]]:
    found = [VllmDouble(NAME), VllmDouble(NAME)]
    yield found
    for one in found:
        one.close()


@pytest.fixture
def engine(doubles: list[VllmDouble]) -> Iterator[VllmEngine]:
    one = load(*(double.url for double in doubles))
    yield one
    one.close()


def load(*urls: str, entries: tuple[str, ...] = (), **extra: Any) -> VllmEngine:
    engine = VllmEngine()
    try:
        engine.load(REMOTE, EngineOptions(kind="vllm", extra={**nodes_at(*urls, entries=entries), **extra}))
    except BaseException:
        engine.close()
        raise
    return engine


def status(engine: VllmEngine, number: int) -> BackendStatus:
    return engine.stats().backends[number]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_orders_are_spread_by_load(engine: VllmEngine, doubles: list[VllmDouble]) -> None:
    events = run(engine, *(order(f"o{n}", [5, n + 1]) for n in range(20)))
    assert all(finish(events[f"o{n}"]).completion_tokens == 10 for n in range(20))
    assert sorted(len(double.bodies) for double in doubles) == [10, 10]


def test_fronts_that_share_nothing_send_one_opening_to_one_server(doubles: list[VllmDouble]) -> None:
    fronts = [load(*(one.url for one in doubles)), load(*(one.url for one in reversed(doubles)))]
    openings = [bytes([number]) * 16 for number in range(12)]
    where: dict[bytes, set[int]] = {key: set() for key in openings}
    try:
        for front in fronts:
            for key in openings:
                before = [len(one.bodies) for one in doubles]
                run(front, order("o", [5, 6, 7], opening=key))
                (at,) = [n for n, one in enumerate(doubles) if len(one.bodies) > before[n]]
                where[key].add(at)
            stats = front.stats()
            assert (stats.opening_first, stats.opening_elsewhere) == (12, 0)
            assert sum(one.prompt_tokens for one in stats.backends) == 36, "as the servers report their caches"
    finally:
        for front in fronts:
            front.close()
    assert all(len(found) == 1 for found in where.values()) and {n for found in where.values() for n in found} == {0, 1}


@pytest.mark.parametrize("status_code", [500, 502, 503, 504, 429])
def test_a_refusal_that_is_not_the_orders_fault_is_tried_elsewhere(
    engine: VllmEngine, doubles: list[VllmDouble], status_code: int
) -> None:
    doubles[0].refuses = [status_code]
    events = run(engine, order("a", [5, 6]), order("b", [5, 7]))
    assert [finish(events[name]).completion_tokens for name in "ab"] == [10, 10]
    assert (len(doubles[0].bodies), len(doubles[1].bodies)) == (1, 2)


def test_a_stream_without_a_token_is_tried_elsewhere(engine: VllmEngine, doubles: list[VllmDouble]) -> None:
    doubles[0].drops = 1
    events = run(engine, order("a", [5, 6]), order("b", [5, 7]))
    assert [finish(events[name]).completion_tokens for name in "ab"] == [10, 10]
    assert "ended before the answer did" in status(engine, 0).last_error


def moves(events: list[EngineEvent]) -> list[tuple[str, str]]:
    return [(event.lost, event.to) for event in events if isinstance(event, Moved)]


STATEFUL = Sampling(temperature=0.8, seed=5, presence_penalty=0.7)


@pytest.mark.parametrize("sampling", [GREEDY, STATEFUL], ids=["greedy", "seed and penalty"])
def test_an_answer_whose_node_is_lost_goes_on_at_another_one(doubles: list[VllmDouble], sampling: Sampling) -> None:
    for double in doubles:
        double.resumes = True
    engine = load(*(double.url for double in doubles))
    asked = order("a", [5, 6], max_new_tokens=20, top_logprobs=2, sampling=sampling, stop_token_ids=(256,))
    undisturbed = run(engine, asked)["a"]
    doubles[0].break_off_after = 7
    doubles[1].break_off_after = 9
    events = run(engine, asked)["a"]
    one, other = (double.url for double in doubles)
    assert moves(events) in ([(one, other), (other, one)], [(other, one), (one, other)])
    tokens = [event for event in events if isinstance(event, Token)]
    assert [(t.token_id, t.logprob) for t in tokens] == [
        (t.token_id, t.logprob) for t in undisturbed if isinstance(t, Token)
    ]
    end = finish(events)
    assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("length", 2, 20)
    assert [body["begun"] for double in doubles for body in double.bodies if "begun" in body] in ([16, 7], [9, 16])
    engine.close()


def test_what_a_server_of_another_kind_cannot_go_on_with_ends_with_the_error_of_the_loss(
    engine: VllmEngine, doubles: list[VllmDouble]
) -> None:
    for double in doubles:
        double.break_off_after = 3
    for fields in ({"sampling": STATEFUL}, {"sampling": Sampling(temperature=0, frequency_penalty=0.5)}):
        broken = run(engine, order("a", [5, 6], **fields))["a"]
        assert len(token_ids(broken)) == 3 and not moves(broken)
        assert failure(broken).code == "engine_failed" and "ended before the answer did" in failure(broken).message
    plain = run(engine, order("b", [5, 6]))["b"]
    assert finish(plain).completion_tokens == 10 and len(moves(plain)) == 3
    begun = run(engine, order("c", [5, 6, 7], begun=1, sampling=STATEFUL))["c"]
    assert failure(begun).code == "unsupported_by_engine", "the other half of an answer of another host"


def test_an_answer_that_loses_every_server_ends_with_the_error_of_its_loss(doubles: list[VllmDouble]) -> None:
    engine = load(doubles[0].url)
    doubles[0].break_off_after = 1
    broken = run(engine, order("a", [5, 6]))["a"]
    assert len(token_ids(broken)) == 4 and failure(broken).code == "engine_failed", "it moves at most three times"
    engine.close()


def test_a_hanging_node_loses_its_answers_in_the_middle_to_the_other(
    doubles: list[VllmDouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.SILENT_S", 0.5)
    slow = VllmDouble("fake:random?tok_per_s=40&tokens=400&context=512")
    slow.resumes = doubles[0].resumes = True
    asked = order("a", [5, 6], max_new_tokens=30)
    undisturbed = token_ids(run(doubles[0].engine(), asked)["a"])
    engine = load(slow.url, doubles[0].url)
    try:
        engine.submit(asked)
        seen: list[EngineEvent] = []
        while len(token_ids(seen)) < 3:
            seen += engine.step(0.5)
        slow.goes_on.clear()
        seen += drain(engine, {"a"})["a"]
    finally:
        slow.goes_on.set()
        engine.close()
        slow.close()
    assert token_ids(seen) == undisturbed and moves(seen) == [(slow.url, doubles[0].url)]


def test_an_order_on_which_two_servers_broke_is_given_to_no_third(
    engine: VllmEngine, doubles: list[VllmDouble]
) -> None:
    for double in doubles:
        double.drops = 1
    assert failure(run(engine, order("a", [5, 6]))["a"]).code == "kills_hosts"
    assert finish(run(engine, order("b", [5, 6]))["b"]).completion_tokens == 10


def test_one_address_is_asked_again_for_others_may_stand_behind_it(doubles: list[VllmDouble]) -> None:
    engine = load(doubles[0].url)
    doubles[0].refuses = [502]
    assert finish(run(engine, order("a", [5, 6]))["a"]).completion_tokens == 10
    doubles[0].refuses = [429, 429, 429]
    assert finish(run(engine, order("b", [5, 6]))["b"]).completion_tokens == 10
    doubles[0].refuses = [429, 429, 429, 429]
    assert failure(run(engine, order("c", [5, 6]))["c"]).code == "overloaded"
    engine.close()


def test_a_kept_connection_that_breaks_before_a_byte_is_no_failure_of_the_server(doubles: list[VllmDouble]) -> None:
    engine = load(doubles[0].url)
    doubles[0].breaks_kept = True
    for _ in range(6):
        assert scored(engine, [ScoreText([5, 6, 7])], top_logprobs=0)
    assert finish(run(engine, order("a", [5, 6]))["a"]).completion_tokens == 10
    assert doubles[0].broken and status(engine, 0).last_error == ""
    engine.close()


def test_a_server_that_is_gone_gets_nothing_and_comes_back(doubles: list[VllmDouble]) -> None:
    port = free_port()
    engine = load(f"http://127.0.0.1:{port}", doubles[0].url)
    assert status(engine, 0).state == "out" or status(engine, 0).state == "new"
    events = run(engine, *(order(f"o{n}", [5, n + 1]) for n in range(4)))
    assert all(finish(events[f"o{n}"]).completion_tokens == 10 for n in range(4))
    late = VllmDouble(NAME, port=port)
    try:
        eventually(lambda: status(engine, 0).state == "ready")
        run(engine, *(order(f"p{n}", [5, n + 1]) for n in range(4)))
        assert len(late.bodies) >= 2
    finally:
        late.close()
    eventually(lambda: status(engine, 0).state == "out")
    assert "cannot be reached" in status(engine, 0).reason and status(engine, 0).times_out == 1
    assert finish(run(engine, order("q", [5, 6]))["q"]).completion_tokens == 10
    engine.close()


def test_a_server_that_says_that_it_is_ill_gets_nothing_until_it_is_well(
    engine: VllmEngine, doubles: list[VllmDouble]
) -> None:
    doubles[0].is_well = False
    eventually(lambda: status(engine, 0).state == "out")
    assert "status 503" in status(engine, 0).reason
    run(engine, *(order(f"o{n}", [5, n + 1]) for n in range(4)))
    assert len(doubles[0].bodies) == 0
    doubles[0].is_well = True
    eventually(lambda: status(engine, 0).state == "ready")
    assert status(engine, 0).reason == "" and "status 503" in status(engine, 0).last_error


def test_an_order_waits_while_no_server_is_there_and_the_log_says_which_are_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    first = VllmDouble(NAME, port=port)
    engine = load(first.url)
    first.close()
    engine.submit(order("a", [5, 6]))
    assert list(engine.step(0.3)) == [], "it waits"
    second = VllmDouble(NAME, port=port)
    assert finish(drain(engine, {"a"})["a"]).completion_tokens == 10
    second.close()
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PATIENCE_S", 0.2)
    caplog.set_level("INFO", "ashore")
    told = failure(run(engine, order("b", [5, 6]))["b"])
    assert (told.code, told.message, told.retry_after_s) == ("not_ready", "no server of this model answers now", 5)
    assert f"127.0.0.1:{port}" in caplog.text, "where it is, is a matter of the operator"
    engine.close()


def test_an_order_waits_no_longer_for_a_server_that_is_known_to_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PATIENCE_S", 1e6)
    monkeypatch.setattr("ashore.data.engines.vllm.servers.AWAY_S", 0.2)
    double = VllmDouble(NAME)
    engine = load(double.url)
    double.close()
    for name in ("a", "b"):
        assert failure(run(engine, order(name, [5, 6]))[name]).code == "not_ready"
    engine.close()


def test_cancelling_an_order_that_waits_ends_it(doubles: list[VllmDouble]) -> None:
    port = free_port()
    first = VllmDouble(NAME, port=port)
    engine = load(first.url)
    first.close()
    engine.submit(order("a", [5, 6]))
    engine.step(0.2)
    engine.cancel(OrderId("a"))
    assert finish(drain(engine, {"a"})["a"]).reason == "cancelled"
    assert engine.stats().running == 0
    engine.close()


def test_a_server_that_hangs_loses_its_orders_to_the_other(
    doubles: list[VllmDouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.SILENT_S", 0.5)
    engine = load(*(double.url for double in doubles))
    doubles[0].goes_on.clear()
    events = run(engine, order("a", [5, 6]), order("b", [5, 7]))
    assert [finish(events[name]).completion_tokens for name in "ab"] == [10, 10]
    assert status(engine, 0).state == "out" and "has not responded for" in status(engine, 0).last_error
    doubles[0].goes_on.set()
    eventually(lambda: status(engine, 0).state == "ready")
    engine.close()


def test_questions_go_elsewhere_too(engine: VllmEngine, doubles: list[VllmDouble]) -> None:
    doubles[0].refuses = [500]
    doubles[1].refuses = []
    for _ in range(2):
        [rows] = scored(engine, [ScoreText([65, 66, 67])], top_logprobs=0)
        assert [row[0].token_id for row in rows] == [66, 67]


def test_a_server_of_another_model_is_out_with_what_it_serves(doubles: list[VllmDouble]) -> None:
    engine = load(doubles[0].url, "http://127.0.0.1:9", served_model_name="the-model")
    eventually(lambda: status(engine, 1).state == "out")
    assert status(engine, 0).state == "ready"
    engine.close()


def test_cancelling_closes_the_stream_on_the_server_that_has_it(doubles: list[VllmDouble]) -> None:
    slow = VllmDouble("fake:random?tok_per_s=50&tokens=400&context=512")
    engine = load(slow.url)
    engine.submit(order("long", [5, 6], max_new_tokens=300))
    while not any(isinstance(event, Token) for event in engine.step(0.5)):
        continue
    engine.cancel(OrderId("long"))
    eventually(lambda: slow.aborted == 1)
    assert status(engine, 0).state == "ready" and status(engine, 0).last_error == "", "a client left; nothing failed"
    engine.close()
    slow.close()


def test_tls_needs_an_authority_that_signs_and_a_name_that_fits(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ours, theirs = (keep_certificate(tmp_path / name, ["localhost", "127.0.0.1"], now) for name in ("ours", "theirs"))
    double = VllmDouble(NAME, certificate=(str(tmp_path / "ours" / "edge.pem"), str(ours.key_file)))
    url = f"https://localhost:{double.port}"
    try:
        engine = load(url, ca_file=str(ours.authority_file), entries=(f"localhost:{double.port}@127.0.0.0/8",))
        assert finish(run(engine, order("a", [5, 6]))["a"]).completion_tokens == 10
        engine.close()
        for ca_file in (str(theirs.authority_file), ""):
            engine = load(url, ca_file=ca_file)
            assert "certificate verify failed" in status(engine, 0).reason.lower().replace("_", " ")
            engine.close()
        with pytest.raises(InvalidSpec, match="absent"):
            load(url, ca_file=str(tmp_path / "absent.pem"))
    finally:
        double.close()


def test_a_key_lies_in_the_environment_or_in_a_file_that_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = VllmDouble(NAME, api_key="first")
    file = tmp_path / "key"
    file.write_text("first\n")
    monkeypatch.setenv("FAR_KEY", "first")
    try:
        for key in ("env:FAR_KEY", f"file:{file}"):
            engine = load(double.url, key=key)
            assert finish(run(engine, order("a", [5, 6]))["a"]).completion_tokens == 10
        double.api_key = "second"
        assert failure(run(engine, order("b", [5, 6]))["b"]).code == "remote_refused"
        file.write_text("second")
        assert finish(run(engine, order("c", [5, 6]))["c"]).completion_tokens == 10
        with pytest.raises(InvalidSpec, match="the environment has no ABSENT_KEY"):
            load(double.url, key="env:ABSENT_KEY")
    finally:
        double.close()


def test_a_name_that_leads_where_egress_does_not_allow_is_not_called(doubles: list[VllmDouble]) -> None:
    url = f"http://localhost:{doubles[0].port}"
    started_s = time.monotonic()
    engine = load(url, entries=(f"localhost:{doubles[0].port}@10.0.0.0/8",))
    assert re.search(r"localhost resolves to .*, which \[egress\] does not allow", status(engine, 0).reason)
    engine.close()
    assert time.monotonic() - started_s < 5
    assert doubles[0].connections == 0
