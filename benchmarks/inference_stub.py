"""A client of the gRPC service, made from its descriptor."""

from __future__ import annotations

from typing import Any

from google.protobuf.message_factory import GetMessageClass

from ashore.data.grpc.gen import inference_pb2


class InferenceStub:
    """The methods of `ashore.v1.Inference` over a channel, of `grpc` or `grpc.aio`."""

    def __init__(self, channel: Any) -> None:
        service = inference_pb2.DESCRIPTOR.services_by_name["Inference"]
        for method in service.methods:
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the service has no method {name}")
