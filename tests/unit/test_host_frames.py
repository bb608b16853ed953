"""Frames: whole however they are cut, bounded, and only of the types we know."""

from __future__ import annotations

import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import AshoreError, ContextTooLong, EngineFailed, InvalidRequest, Overloaded
from ashore.core.ids import OrderId
from ashore.data.engines import (
    Failed,
    Finished,
    GenerateOrder,
    Grammar,
    Sampling,
    Token,
    TokenLogprob,
    error_of,
    frames,
)
from ashore.data.engines.failures import failed, failure_of
from ashore.data.engines.host.link import Link, LinkClosed
from ashore.kit.decode import UNDECODABLE

ORDER = GenerateOrder(
    order_id=OrderId("req_1/0"),
    prompt_ids=[1, 2, 300_000],
    max_new_tokens=7,
    stop_token_ids=(2,),
    sampling=Sampling(temperature=0.5, logit_bias={5: -100.0}, seed=2**63),
    top_logprobs=3,
    grammar=Grammar(kind="json_schema", text='{"type":"object"}'),
    prefix_partition="tenant-a",
)
EVENTS = frames.Events(
    [
        Token(ORDER.order_id, 9),
        Token(ORDER.order_id, 10, -0.5, (TokenLogprob(10, -0.5), TokenLogprob(3, -2.0))),
        Finished(ORDER.order_id, "stop", 3, 2, 2, 2),
        Failed(OrderId("other"), "engine_failed", "broke", "look"),
    ]
)


def test_orders_and_events_survive_the_wire() -> None:
    reader = frames.FrameReader()
    generate, cancel = frames.encode(frames.Generate(ORDER)), frames.encode(frames.Cancel(ORDER.order_id))
    bodies = reader.feed(generate + cancel)
    assert [frames.decode_to_host(body) for body in bodies] == [frames.Generate(ORDER), frames.Cancel(ORDER.order_id)]
    (body,) = reader.feed(frames.encode(EVENTS))
    assert frames.decode_to_worker(body) == EVENTS


@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    stream = b"".join([frames.encode(frames.Generate(ORDER)), frames.encode(frames.Drain()), frames.encode(EVENTS)])
    reader, bodies, at, turn = frames.FrameReader(), [], 0, 0
    while at < len(stream):
        width = cuts[turn % len(cuts)]
        bodies += reader.feed(stream[at : at + width])
        at, turn = at + width, turn + 1
    assert frames.decode_to_host(bodies[0]) == frames.Generate(ORDER)
    assert frames.decode_to_host(bodies[1]) == frames.Drain()
    assert frames.decode_to_worker(bodies[2]) == EVENTS


def test_a_frame_that_announces_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidRequest, match=r"67,108,865"):
        frames.FrameReader().feed((frames.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))


def test_a_message_too_large_for_a_frame_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Vectors"):
        frames.encode(frames.Vectors(1, [[0.5] * 1_000_000] * 8))


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xc1", msgspec.msgpack.encode(["surprise", 1]), b"cos\nsystem\n(S'id'\ntR."),
        *(b"\x92\xa6cancel\xa2\xff\xfe", b"\x92\xa2\xff\xfe\x01", b"\x91" * 100_000),
    ],
)
def test_what_is_no_message_ends_the_connection_that_sent_it(body: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        frames.decode_to_host(body)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(len(body).to_bytes(4, "little") + body)
        link = Link(ours)
        with pytest.raises(LinkClosed, match="invalid frame"):
            for _ in range(10):  # a large frame comes in pieces
                link.receive()


def test_a_host_does_not_take_what_only_hosts_say() -> None:
    (body,) = frames.FrameReader().feed(frames.encode(EVENTS))
    with pytest.raises(msgspec.ValidationError):
        frames.decode_to_host(body)


@pytest.mark.parametrize("error", [ContextTooLong("9 > 8", hint="cut"), Overloaded("full"), InvalidRequest("bad")])
def test_our_errors_keep_class_message_and_hint(error: AshoreError) -> None:
    back = error_of(failed(ORDER.order_id, error))
    assert (type(back).code, back.http_status, back.message, back.hint) == (
        error.code,
        AshoreError.http_status if type(error) is AshoreError else back.http_status,
        error.message,
        error.hint,
    )
    if not isinstance(error, Overloaded):
        assert type(back) is type(error)


def test_our_errors_keep_field_and_waiting_time_on_the_wire() -> None:
    error = Overloaded("full", hint="wait", param="messages", retry_after_s=2.5)
    sent = frames.encode(frames.Events([failed(ORDER.order_id, error)])) + frames.encode(
        frames.CallFailed(1, failure_of(error))
    )
    events, call = (frames.decode_to_worker(body) for body in frames.FrameReader().feed(sent))
    assert isinstance(events, frames.Events) and isinstance(call, frames.CallFailed)
    (event,) = events.events
    assert isinstance(event, Failed)
    for back in (error_of(event), error_of(call.failure)):
        assert (back.hint, back.param, back.retry_after_s) == ("wait", "messages", 2.5)


def test_foreign_errors_become_engine_failed_with_their_own_words() -> None:
    failure = failure_of(ZeroDivisionError("by zero"))
    assert failure.code == EngineFailed.code
    assert "ZeroDivisionError: by zero" in failure.message
    assert isinstance(error_of(failure), EngineFailed)
