"""The gRPC server over the real request path, with a replica in memory instead of an engine host."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from benchmarks.inference_stub import InferenceStub
from google.protobuf import any_pb2, descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from memory_replica import MemoryReplica
from rawh2 import INITIAL_WINDOW, RawH2

from ashore.core.clock import SystemClock
from ashore.core.errors import PortTaken
from ashore.core.ids import TenantId
from ashore.data.authority import KeyTable, Principal, digest_of, new_key
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.grpc import GrpcServer
from ashore.data.grpc.gate import MOST_OPEN
from ashore.data.grpc.gen import inference_pb2 as pb
from ashore.data.grpc.gen import status_pb2
from ashore.data.path import AdmissionSection, BytesText, Limits, ServedModel, ServingService, Topology
from ashore.kit.metrics import Metrics

KEY, WEAK_KEY = new_key(), new_key()
KEYS = KeyTable(
    [
        (digest_of(KEY), Principal(id="app", tenant=TenantId("t"), roles=frozenset(("developer",)))),
        (digest_of(WEAK_KEY), Principal(id="reader", tenant=TenantId("t"), roles=frozenset())),
    ]
)
WITH_KEY = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Running:
    stub: InferenceStub
    channel: grpc.aio.Channel
    server: GrpcServer
    serving: ServingService
    replica: MemoryReplica
    metrics: Metrics


@asynccontextmanager
async def running(
    replica: MemoryReplica | None = None,
    *,
    admission: AdmissionSection | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Running]:
    replica = replica or MemoryReplica()
    metrics = Metrics()
    model = ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("memory",), created_s=7)
    serving = ServingService(
        Topology(models=(model,), admission=admission or AdmissionSection()),
        make_replica=lambda _: replica,
        load_text=lambda _: BytesText(),
        check_grammar=lambda _: None,
        clock=SystemClock(),
        metrics=metrics,
        cache=AnswerCache(CachePolicy(), secret=b"s" * 32, epochs=FixedEpochs(), clock=SystemClock()),
    )
    await serving.start()
    while not serving.models()[0].ready:
        await asyncio.sleep(0.005)
    server = GrpcServer(serving, KEYS, port=0, metrics=metrics, limits=limits)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Running(InferenceStub(channel), channel, server, serving, replica, metrics)
    finally:
        await server.stop()
        await serving.close()


def run(test: Callable[[Running], Awaitable[None]], **how: object) -> None:
    async def main() -> None:
        async with running(**how) as it:  # type: ignore[arg-type]
            await test(it)

    asyncio.run(asyncio.wait_for(main(), 30))


def chat(text: str = "hello", model: str = "echo", **generation: object) -> pb.ChatRequest:
    message = pb.Message(role=pb.ROLE_USER, content=text)
    return pb.ChatRequest(model=model, messages=[message], generation=pb.Generation(**generation))


async def failing(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata() or ())


@pytest.mark.parametrize("method", ["Chat", "ChatStream", "Embed"])
def test_a_long_message_is_read_in_the_line_of_its_principal_and_not_on_the_loop(method: str) -> None:
    """16 MB of token ids held all requests for 0.4 s."""

    async def test(it: Running) -> None:
        app, may_go_on = KEYS.authenticate(KEY), threading.Event()
        before = asyncio.create_task(it.serving.read_aside(app, may_go_on.wait))
        wire = pb.EmbedRequest(inputs=[pb.EmbedInput(text="x" * 20_000), pb.EmbedInput()])
        call = getattr(it.stub, method)(wire if method == "Embed" else chat("x" * 20_000, ""), metadata=WITH_KEY)
        ended = asyncio.ensure_future(call.code())
        try:
            await it.stub.Chat(chat("short"), metadata=WITH_KEY)
            done, _ = await asyncio.wait({ended}, timeout=0.3)
            assert not done, "it is at fault, and not read yet"
        finally:
            may_go_on.set()
        assert await ended is grpc.StatusCode.INVALID_ARGUMENT and await before

    run(test)


def test_a_stream_adds_up_to_the_whole_answer() -> None:
    async def test(it: Running) -> None:
        call = it.stub.ChatStream(chat("hello"), metadata=(*WITH_KEY, ("x-request-id", "mine-1")))
        events = [event async for event in call]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[0] == "started" and kinds[-2:] == ["choice_ended", "usage"]
        assert set(kinds[1:-2]) == {"delta"}
        assert "".join(e.delta.text for e in events) == "hello"
        head = dict(await call.initial_metadata())
        assert head["x-request-id"] == events[0].started.request_id == "mine-1"
        assert head["x-ashore-release"] == events[0].started.release == "echo-1"
        assert head["x-ashore-precision"] == "none"

        answer = await it.stub.Chat(chat("hello"), metadata=(("x-api-key", KEY),))
        assert answer.choices[0].text == "hello"
        assert answer.choices[0].finish_reason == pb.FINISH_REASON_STOP
        assert answer.usage == events[-1].usage == pb.Usage(prompt_tokens=5, completion_tokens=5)
        assert answer.started.request_id.startswith("req_")

    run(test)


def test_kept_answers_come_whole_and_streamed_and_say_so() -> None:
    async def test(it: Running) -> None:
        answers = []
        for _ in range(3):
            call = it.stub.Chat(chat(sampling=pb.Sampling(temperature=0)), metadata=WITH_KEY)
            answers.append((dict(await call.initial_metadata())["x-ashore-cache"], await call))
        assert [label for label, _ in answers] == ["miss", "hit-exact", "hit-exact"]
        assert {answer.choices[0].text for _, answer in answers} == {"hello"}
        stream = it.stub.ChatStream(chat(sampling=pb.Sampling(temperature=0)), metadata=WITH_KEY)
        assert "".join([event.delta.text async for event in stream]) == "hello"
        assert dict(await stream.initial_metadata())["x-ashore-cache"] == "hit-exact"
        fresh = it.stub.Chat(
            chat(sampling=pb.Sampling(temperature=0)), metadata=(*WITH_KEY, ("cache-control", "no-store"))
        )
        assert dict(await fresh.initial_metadata())["x-ashore-cache"] == "miss"
        assert len(it.replica.orders) == 2
        assert (
            await failing(it.stub.Chat(chat(sampling=pb.Sampling(temperature=0))))
        ).code() == grpc.StatusCode.UNAUTHENTICATED

    run(test)


def test_bytes_that_are_no_message_are_the_clients_fault() -> None:
    async def test(it: Running) -> None:
        send = it.channel.unary_unary("/ashore.v1.Inference/Chat")
        error = await failing(send(b"\xff\xff\xff", metadata=WITH_KEY))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "ashore.v1.ChatRequest" in (error.details() or "")

    run(test)


def test_every_parameter_reaches_the_engine() -> None:
    async def test(it: Running) -> None:
        sampling = pb.Sampling(
            temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, presence_penalty=0.5, frequency_penalty=-0.5,
            repetition_penalty=1.1, logit_bias={65: -100, 66: 1.5}, seed=42,
        )  # fmt: skip
        request = pb.CompleteRequest(
            model="echo",
            tokens=pb.TokenIds(ids=[72, 105]),
            generation=pb.Generation(
                sampling=sampling, max_tokens=9, num_choices=2, top_logprobs=2, priority=-3, ignore_eos=True,
                grammar=pb.Grammar(regex="[a-z]+"),
            ),
        )  # fmt: skip
        answer = await it.stub.Complete(request, metadata=WITH_KEY)
        assert [c.text for c in answer.choices] == ["Hi", "Hi"]
        assert [len(t.top) for t in answer.choices[1].logprobs] == [2, 2]
        assert answer.choices[0].logprobs[0].raw == b"H"
        first, second = it.replica.orders
        got = first.sampling
        assert (got.temperature, got.top_p, got.top_k, got.min_p) == (0.7, 0.9, 40, 0.05)
        assert (got.presence_penalty, got.frequency_penalty, got.repetition_penalty) == (0.5, -0.5, 1.1)
        assert got.logit_bias == {65: -100.0, 66: 1.5}
        assert (got.seed, second.sampling.seed) == (42, 43)
        assert (first.max_new_tokens, first.top_logprobs, first.priority, first.ignore_eos) == (9, 2, -3, True)
        assert first.grammar is not None and (first.grammar.kind, first.grammar.text) == ("regex", "[a-z]+")
        assert first.prefix_partition == "t"

    run(test)


def test_complete_streams_echoes_and_stops() -> None:
    async def test(it: Running) -> None:
        request = pb.CompleteRequest(model="echo", text="one two", generation=pb.Generation(stop=[" t"]))
        events = [e async for e in it.stub.CompleteStream(request, metadata=WITH_KEY)]
        assert "".join(e.delta.text for e in events) == "one"
        assert events[-2].choice_ended == pb.ChoiceEnded(finish_reason=pb.FINISH_REASON_STOP, stop_string=" t")
        request = pb.CompleteRequest(model="echo", text="ab", echo=True)
        assert (await it.stub.Complete(request, metadata=WITH_KEY)).choices[0].text == "abab"
        request = pb.CompleteRequest(
            model="echo", text="a" * 16_385, echo=True, generation=pb.Generation(top_logprobs=2)
        )
        with pytest.raises(grpc.aio.AioRpcError, match="a stream gives the log-probabilities"):
            _ = [e async for e in it.stub.CompleteStream(request, metadata=WITH_KEY)]

    run(test)


def test_embed_and_models() -> None:
    async def test(it: Running) -> None:
        inputs = [pb.EmbedInput(text="abc"), pb.EmbedInput(tokens=pb.TokenIds(ids=[1, 2]))]
        found = await it.stub.Embed(pb.EmbedRequest(model="echo", inputs=inputs, dimensions=4), metadata=WITH_KEY)
        assert [len(v.values) for v in found.vectors] == [4, 4]
        assert sum(x * x for x in found.vectors[0].values) == pytest.approx(1.0, abs=1e-5)
        assert found.prompt_tokens == 5
        cards = (await it.stub.Models(pb.ModelsRequest(), metadata=WITH_KEY)).models
        assert [(c.alias, c.release, c.engine, c.ready, c.created_s) for c in cards] == [
            ("echo", "echo-1", "fake", True, 7)
        ]
        assert cards[0].context_tokens == 4096 and "top_logprobs" in cards[0].features

    run(test)


def test_a_clamped_answer_says_so_whoever_gives_it() -> None:
    async def test(it: Running) -> None:
        asked = chat(max_tokens=9000, sampling=pb.Sampling(temperature=0))
        told = []
        for _ in range(3):
            call = it.stub.Chat(asked, metadata=WITH_KEY)
            told.append(dict(await call.initial_metadata()))
            await call
        stream = it.stub.ChatStream(asked, metadata=WITH_KEY)
        told.append(dict(await stream.initial_metadata()))
        assert [one["x-ashore-cache"] for one in told] == ["miss", *["hit-exact"] * 3]
        assert {(one["x-ashore-clamped"], one["x-ashore-release"]) for one in told} == {("max_tokens=4091", "echo-1")}
        fits = it.stub.Chat(chat(), metadata=WITH_KEY)
        assert "x-ashore-clamped" not in dict(await fits.initial_metadata())

    run(test)


def test_errors_carry_code_hint_field_and_details() -> None:
    async def test(it: Running) -> None:
        nobody = await failing(it.stub.Chat(chat()))
        assert nobody.code() == grpc.StatusCode.UNAUTHENTICATED
        assert trailers(nobody)["ashore-code"] == "invalid_api_key"
        wrong = await failing(it.stub.Models(pb.ModelsRequest(), metadata=(("authorization", "Bearer no"),)))
        assert wrong.code() == grpc.StatusCode.UNAUTHENTICATED
        weak = await failing(it.stub.Chat(chat(), metadata=(("x-api-key", WEAK_KEY),)))
        assert weak.code() == grpc.StatusCode.PERMISSION_DENIED

        unknown = await failing(it.stub.Chat(chat(model="ecko"), metadata=WITH_KEY))
        assert unknown.code() == grpc.StatusCode.NOT_FOUND
        hint = str(trailers(unknown)["ashore-hint"])
        assert "echo" in hint and (unknown.details() or "").endswith(f". Hint: {hint}")
        status = status_pb2.Status.FromString(trailers(unknown)["grpc-status-details-bin"])
        assert (status.code, status.message) == (5, unknown.details())
        info = status_pb2.ErrorInfo.FromString(status.details[0].value)
        assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
        assert (info.reason, info.domain, info.metadata["param"]) == ("model_not_found", "ashore", "model")

        bad = await failing(it.stub.Chat(chat(num_choices=99), metadata=WITH_KEY))
        assert bad.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert trailers(bad)["ashore-param"] == "generation.num_choices"
        long = await failing(it.stub.Chat(chat("x" * 5000), metadata=WITH_KEY))
        assert long.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert trailers(long)["ashore-code"] == "context_length_exceeded"
        assert "5000" in (long.details() or "") and "4096" in (long.details() or "")

    run(test)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def test(it: Running) -> None:
        busy = [it.stub.ChatStream(chat("x" * 500), metadata=WITH_KEY)]
        await busy[0].read()
        busy.append(it.stub.ChatStream(chat("x" * 500), metadata=WITH_KEY))
        while it.serving.in_flight < 2:
            await asyncio.sleep(0.005)
        began = time.perf_counter()
        full = await failing(it.stub.Chat(chat(), metadata=WITH_KEY))
        assert time.perf_counter() - began < 5, "the two that run take longer"
        assert full.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(trailers(full)["retry-after"]) >= 1
        status = status_pb2.Status.FromString(trailers(full)["grpc-status-details-bin"])
        retry = next(d for d in status.details if d.type_url.endswith("RetryInfo"))
        delay = status_pb2.RetryInfo.FromString(retry.value).retry_delay
        assert delay.seconds + delay.nanos / 1e9 > 0
        for call in busy:
            call.cancel()

    run(test, replica=MemoryReplica(token_s=0.02), admission=AdmissionSection(max_running=1, max_waiting=1))


def test_requests_and_errors_are_counted() -> None:
    async def test(it: Running) -> None:
        await it.stub.Chat(chat(), metadata=WITH_KEY)
        await failing(it.stub.Chat(chat(model="ecko"), metadata=WITH_KEY))
        _ = [event async for event in it.stub.ChatStream(chat(), metadata=WITH_KEY)]
        cut = it.stub.ChatStream(chat("x" * 4000), metadata=WITH_KEY)
        await cut.read()
        cut.cancel()
        await nobody_runs(it)
        route = "/ashore.v1.Inference/"
        for method, status in (
            ("Chat", "OK"),
            ("Chat", "NOT_FOUND"),
            ("ChatStream", "OK"),
            ("ChatStream", "CANCELLED"),
        ):
            assert it.metrics.value("ashore_requests", route + method, status) == 1
        assert it.metrics.value("ashore_errors", "model_not_found") == 1
        assert b'ashore_request_seconds_count{route="/ashore.v1.Inference/ChatStream"} 2.0' in it.metrics.page()

    run(test, replica=MemoryReplica(token_s=0.002))


def test_cancelling_frees_the_slot() -> None:
    async def test(it: Running) -> None:
        call = it.stub.ChatStream(chat("x" * 4000), metadata=WITH_KEY)
        async for event in call:
            if event.WhichOneof("event") == "delta":
                break
        assert it.replica.running == 1
        call.cancel()
        await nobody_runs(it)

        whole = it.stub.Chat(chat("x" * 4000), metadata=WITH_KEY)
        while not it.replica.running:
            await asyncio.sleep(0.005)
        whole.cancel()
        await nobody_runs(it)

    run(test, replica=MemoryReplica(token_s=0.005))


async def nobody_runs(it: Running) -> None:
    async with asyncio.timeout(2):
        while it.replica.running or it.serving.in_flight:
            await asyncio.sleep(0.005)


def test_the_clients_deadline_ends_the_answer_and_frees_the_slot() -> None:
    async def test(it: Running) -> None:
        call = it.stub.Chat(chat("x" * 4000), metadata=WITH_KEY, timeout=0.2)
        try:  # what there is at the deadline may still reach the client, or not
            answer = await call
        except grpc.aio.AioRpcError as late:
            assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            assert answer.choices[0].finish_reason == pb.FINISH_REASON_LENGTH
            assert dict(await call.trailing_metadata())["x-ashore-cut-by"] == "deadline"
        await nobody_runs(it)

    run(test, replica=MemoryReplica(token_s=0.01))


def test_our_own_deadline_is_the_same_status() -> None:
    async def test(it: Running) -> None:
        late = await failing(it.stub.Chat(chat("x" * 4000), metadata=WITH_KEY))
        assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert trailers(late)["ashore-code"] == "deadline_exceeded"

    run(test, replica=MemoryReplica(token_s=30), admission=AdmissionSection(default_deadline_s=0.2))


def test_an_answer_cut_short_never_ends_as_ok() -> None:
    async def test(it: Running) -> None:
        texts = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in it.stub.ChatStream(chat("hello"), metadata=WITH_KEY):
                texts.append(event.delta.text)
        assert "".join(texts) == "hel"
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert trailers(caught.value)["ashore-code"] == "host_died"

    run(test, replica=MemoryReplica(die_after=3, token_s=0.01))


def test_health_follows_drain_and_needs_no_key() -> None:
    async def test(it: Running) -> None:
        health = health_pb2_grpc.HealthStub(it.channel)
        for service in ("", "ashore.v1.Inference"):
            found = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert found.status == health_pb2.HealthCheckResponse.SERVING
        assert await it.serving.drain(1.0)
        async with asyncio.timeout(3):
            while (await health.Check(health_pb2.HealthCheckRequest())).status == 1:
                await asyncio.sleep(0.05)
        refused = await failing(it.stub.Chat(chat(), metadata=WITH_KEY))
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert trailers(refused)["ashore-code"] == "draining"

    run(test)


def test_reflection_describes_the_service() -> None:
    async def test(it: Running) -> None:
        stub = reflection_pb2_grpc.ServerReflectionStub(it.channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="ashore.v1.Inference"),
        ]
        names, file = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
        assert "ashore.v1.Inference" in {s.name for s in names.list_services_response.service}
        raw = [
            descriptor_pb2.FileDescriptorProto.FromString(f)
            for f in file.file_descriptor_response.file_descriptor_proto
        ]
        methods = {m.name for f in raw for s in f.service for m in s.method}
        assert methods == {"Chat", "ChatStream", "Complete", "CompleteStream", "Embed", "Models"}

    run(test)


def test_stopping_lets_running_answers_end() -> None:
    async def test(it: Running) -> None:
        call = it.stub.Chat(chat("x" * 20), metadata=WITH_KEY)
        while not it.replica.running:
            await asyncio.sleep(0.005)
        stopping = asyncio.create_task(it.server.stop(5.0))
        assert (await call).choices[0].text == "x" * 20
        await stopping
        await it.server.stop()

    run(test, replica=MemoryReplica(token_s=0.01))


def test_a_taken_port_is_named() -> None:
    async def test(it: Running) -> None:
        second = GrpcServer(it.serving, KEYS, port=int(it.server.address.rsplit(":", 1)[1]), metrics=it.metrics)
        with pytest.raises(PortTaken, match=r"127\.0\.0\.1"):
            await second.start()

    run(test)


def test_a_message_that_is_too_large_is_refused() -> None:
    async def test(it: Running) -> None:
        error = await failing(it.stub.Chat(chat("x" * (17 << 20)), metadata=WITH_KEY))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test)


def announced(length: int) -> bytes:
    """The beginning of a message of gRPC: not compressed, and so long."""
    return b"\0" + length.to_bytes(4, "big")


@asynccontextmanager
async def raw(it: Running) -> AsyncIterator[RawH2]:
    connection = await RawH2.connect(int(it.server.address.rsplit(":", 1)[1]))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("method", ["Chat", "ChatStream", "Embed"])
def test_who_has_no_key_is_turned_away_before_the_message(method: str) -> None:
    async def test(it: Running) -> None:
        async with raw(it) as connection:
            for pairs in ((), (("authorization", "Bearer wrong"),), (("authorization", f"Bearer {KEY}"),) * 2):
                stream = connection.head(f"/ashore.v1.Inference/{method}", *pairs)
                await connection.until(stream)
                assert stream in connection.ended
            assert connection.window == INITIAL_WINDOW, "nothing of a message was sent"

    run(test)


def test_messages_under_way_wait_for_room_and_end_when_none_comes() -> None:
    key = ("authorization", f"Bearer {KEY}")

    async def test(it: Running) -> None:
        async with raw(it) as connection:
            first, second = (connection.head("/ashore.v1.Inference/Chat", key) for _ in range(2))
            for stream in (first, second):
                connection.send(stream, announced(1 << 20) + b"x")
            await asyncio.sleep(0.1)
            assert connection.windows[first] > INITIAL_WINDOW, "there is room for one"
            assert connection.windows[second] < INITIAL_WINDOW, "and for no other"
            await connection.until(first)
            await connection.until(second)
        answers = await asyncio.gather(*(it.stub.Chat(chat(f"{n}"), metadata=WITH_KEY) for n in range(60)))
        assert len(answers) == 60, "short messages pass one after the other, and none is refused"

    run(
        test,
        limits=Limits(
            max_body_bytes=2 << 20, bodies_bytes=3 << 20, tenant_bodies_bytes=3 << 20, body_read_timeout_s=0.5
        ),
    )


def test_few_unfinished_messages_of_calls_without_a_key_are_held() -> None:
    async def test(it: Running) -> None:
        async with raw(it) as connection:
            streams = []
            for path in ("health.v1.Health/Check", "health.v1.Health/Watch", "reflection.v1alpha.ServerReflection") * 2:
                path += "/ServerReflectionInfo" if "reflection" in path else ""
                streams.append(connection.head(f"/grpc.{path}"))
                connection.send(streams[-1], announced(1 << 20) + b"x")
                await asyncio.sleep(0.02)
            for stream in streams[:3]:
                await connection.until(stream, 1)
            assert not connection.answered & set(streams[3:])
            found = await health_pb2_grpc.HealthStub(it.channel).Check(health_pb2.HealthCheckRequest())
            assert found.status == health_pb2.HealthCheckResponse.SERVING

    run(test)


def test_streams_without_a_key_keep_nobody_from_asking_for_health() -> None:
    """A stranger who watches with every stream there may be had probes fail, and the server restarted by them."""

    def connected(it: Running) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(it.server.address, options=(("grpc.use_local_subchannel_pool", 1),))

    async def test(it: Running) -> None:
        asked, watching = health_pb2.HealthCheckRequest(), []
        async with connected(it) as one, connected(it) as two, connected(it) as other:
            for at in range(MOST_OPEN):
                watching.append(health_pb2_grpc.HealthStub(two if at % 2 else one).Watch(asked))
                assert (await watching[-1].read()).status == health_pb2.HealthCheckResponse.SERVING
            stub = health_pb2_grpc.HealthStub(other)
            assert (await stub.Check(asked, timeout=10)).status == health_pb2.HealthCheckResponse.SERVING
            last = stub.Watch(asked, timeout=10)
            assert (await last.read()).status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError, match="open again"):
                await watching[0].read()

    run(test)


def test_details_are_what_googles_own_messages_say() -> None:
    """A google.rpc.Status by hand, byte for byte: field 1 varint, 2 string, 3 message with a type_url and a value."""
    info = status_pb2.ErrorInfo(reason="r", domain="ashore")
    detail = any_pb2.Any(type_url="t", value=info.SerializeToString())
    raw = status_pb2.Status(code=5, message="m", details=[detail]).SerializeToString()
    assert raw == b"\x08\x05\x12\x01m\x1a\x10\x0a\x01t\x12\x0b\x0a\x01r\x12\x06ashore"
