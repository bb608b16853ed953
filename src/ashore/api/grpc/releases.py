"""The service `ashore.v1.Releases`: what gRPC adds to the calls of releases: messages, metadata, the watch as a stream.

The fields of the messages have the names of the types in `api/releasetypes.py`, so that both directions need no table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc
import msgspec
from google.protobuf import message_factory

from ashore.access import Actor, Authority
from ashore.api.adminguard import check_admin
from ashore.api.decode import convert
from ashore.api.grpc.gen import releases_pb2 as pb
from ashore.api.grpc.reception import Call, CallReception, Context, decoded
from ashore.api.releasecalls import READ as WATCH_ACTION
from ashore.api.releasecalls import RELEASE_CALLS, ReleaseCall, open_desk, watch_alias
from ashore.api.releasing import ReleaseDesk

Message: TypeAlias = Any
"""`google.protobuf.message.Message`; protobuf carries no types."""

DESCRIPTOR: Final = pb.DESCRIPTOR.services_by_name["Releases"]
SERVICE: Final = f"/{DESCRIPTOR.full_name}/"
_KINDS: Final = ((bool, "flag"), (int, "integer"), (float, "number"), (str, "text"))


class ReleasesService:
    """Every method runs in the API worker's own event loop."""

    def __init__(self, reception: CallReception, authority: Authority, desk: ReleaseDesk | None) -> None:
        """Make it. Without a desk every call is told that this server keeps no releases."""
        self._reception = reception
        self._authority = authority
        self._desk = desk

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the methods: one for each call, and the watch."""
        methods = {}
        for call in RELEASE_CALLS:
            takes, gives = message_types(call.name)
            methods[call.name] = grpc.stream_unary_rpc_method_handler(
                self._unary(call, takes, gives), None, gives.SerializeToString
            )
        methods["WatchAlias"] = grpc.stream_stream_rpc_method_handler(
            self.WatchAlias, None, pb.AliasStatus.SerializeToString
        )
        return grpc.method_handlers_generic_handler(DESCRIPTOR.full_name, methods)

    def _unary(
        self, call: ReleaseCall, takes: Message, gives: Callable[[], Message]
    ) -> Callable[[object, Context], Awaitable[Message]]:
        async def answer(_: object, context: Context) -> Message:
            async with self._reception.receive(context, SERVICE + call.name) as received:
                check_admin(self._authority, received.principal, call.action, asks_itself=True)
                values = values_of(decoded(takes, received.message))
                subject = str(values.pop(call.subject, ""))
                body = convert(values, call.takes)
                done = await call.do(open_desk(self._desk), self._actor(received), subject, body)
                await context.send_initial_metadata((("x-request-id", received.request_id),))
                return fill(gives(), msgspec.to_builtins(done))
            raise AssertionError("unreachable")

        return answer

    async def WatchAlias(self, _: object, context: Context) -> AsyncIterator[pb.AliasStatus]:
        async with self._reception.receive(context, SERVICE + "WatchAlias") as received:
            check_admin(self._authority, received.principal, WATCH_ACTION, asks_itself=True)
            request = decoded(pb.WatchAliasRequest, received.message)
            await context.send_initial_metadata((("x-request-id", received.request_id),))
            watch = watch_alias(open_desk(self._desk), lambda: self._actor(received, again=True), request.alias)
            try:
                async for status in watch:
                    yield fill(pb.AliasStatus(), msgspec.to_builtins(status))
            finally:
                await watch.aclose()

    def _actor(self, received: Call, *, again: bool = False) -> Actor:
        principal = self._reception.again(received) if again else received.principal
        return Actor(principal=principal, origin=received.arrival.origin, request_id=received.request_id)


def message_types(method: str) -> tuple[Any, Any]:
    """Return the classes of what a method takes and gives."""
    found = DESCRIPTOR.methods_by_name[method]
    return message_factory.GetMessageClass(found.input_type), message_factory.GetMessageClass(found.output_type)


def values_of(message: Message) -> dict[str, Any]:
    """Return the fields of a message that were given, as plain values. A scalar that says nothing is None."""
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            values[field.name] = list(value) if hasattr(value, "append") else value
        elif "value" in field.message_type.fields_by_name and field.message_type.fields_by_name["value"].message_type:
            values[field.name] = {key: _scalar(one) for key, one in value.items()}
        else:
            values[field.name] = dict(value)
    return values


def fill(message: Message, values: Mapping[str, Any]) -> Message:
    """Return a message with the values of an answer in it. What is None is left out."""
    for name, value in values.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if value is None:
            continue
        if isinstance(value, dict) and field.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, name), field.message_type.fields_by_name["value"].message_type, value)
        elif isinstance(value, dict):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list) and field.message_type is not None:
            for one in value:
                fill(getattr(message, name).add(), one)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


def _fill_map(target: Any, of_messages: object, values: Mapping[str, Any]) -> None:
    if of_messages is None:
        target.update(values)
        return
    for key, value in values.items():
        kind = next(name for kind, name in _KINDS if isinstance(value, kind))
        setattr(target[key], kind, value)


def _scalar(one: pb.Scalar) -> str | int | float | bool | None:
    kind = one.WhichOneof("value")
    return None if kind is None else getattr(one, kind)
