"""Says what the OpenTelemetry SDK makes of environments. Sends nothing.

Reads a JSON list of environments, each an object of variables, from standard input and prints a
JSON list with what the OTLP exporter (http/protobuf), the periodic reader and the resource took
from each.
"""

import json
import logging
import os
import sys

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter, UpDownCounter
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

# What the SDK sets by itself.
OWN_HEADERS = {"content-type", "content-encoding", "user-agent"}
OWN_ATTRIBUTES = {"telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version", "service.instance.id"}
OWN_SERVICE_NAME = "unknown_service"


class IdleReader(PeriodicExportingMetricReader):
    """Takes its settings as its base does, and its thread ends at once: nothing is ever sent."""

    def _ticker(self) -> None:
        pass


def settings() -> dict:
    exporter = OTLPMetricExporter()
    reader = IdleReader(exporter)
    client = exporter._client
    attributes = dict(Resource.create().attributes)
    if attributes["service.name"].startswith(OWN_SERVICE_NAME):
        del attributes["service.name"]
    kinds = {"counter": Counter, "up_down": UpDownCounter, "observable": ObservableCounter, "histogram": Histogram}
    return {
        "endpoint": exporter._endpoint,
        "headers": {name: value for name, value in client._headers.items() if name.lower() not in OWN_HEADERS},
        "timeout": client._timeout,
        "compression": client._compression.name.lower(),
        "resource": {name: value for name, value in attributes.items() if name not in OWN_ATTRIBUTES},
        "temporality": {kind: exporter._preferred_temporality[of].name.lower() for kind, of in kinds.items()},
        "interval_ms": float(reader._export_interval_millis),
        "export_timeout_ms": float(reader._export_timeout_millis),
    }


def main() -> None:
    answers = []
    logging.disable()
    for environment in json.load(sys.stdin):
        os.environ.clear()
        os.environ.update(environment)
        try:
            answers.append(settings())
        except Exception as error:  # What it does not take is an answer, too.
            answers.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
