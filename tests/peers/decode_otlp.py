"""Decodes OTLP metric exports with OpenTelemetry's own messages.

Reads serialized ExportMetricsServiceRequests from standard input, each behind its length (four
bytes, big end first), and prints each as one line of OTLP JSON: names in camel case, 64-bit
integers as strings, enums as numbers; doubles as strings, too, since JSON readers may round. Ends
with an error at a field that the messages do not know, anywhere.
"""

import json
import sys

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


def unknown_fields(message: Message, place: str) -> list[str]:
    """The places of all fields, in the message and in those within it, that it does not know."""
    found = [f"{place}: field {field.field_number}" for field in UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                found += unknown_fields(inner, f"{place}.{field.name}")
    return found


def exact(value: object) -> object:
    """The same with doubles as strings."""
    if isinstance(value, dict):
        return {name: exact(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [exact(inner) for inner in value]
    return repr(value) if isinstance(value, float) else value


def decode(body: bytes) -> dict:
    request = ExportMetricsServiceRequest.FromString(body)
    if unknown := unknown_fields(request, "request"):
        sys.exit("unknown fields: " + ", ".join(unknown))
    return exact(MessageToDict(request, use_integers_for_enums=True))


def main() -> None:
    while length := sys.stdin.buffer.read(4):
        expected = int.from_bytes(length, "big")
        body = sys.stdin.buffer.read(expected)
        if len(length) != 4 or len(body) != expected:
            sys.exit("the input ends within a message")
        print(json.dumps(decode(body)))


if __name__ == "__main__":
    main()
