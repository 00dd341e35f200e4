"""What Prometheus is told."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from clawd_runtime.bot.store.store import Depths

HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.9, 1.5, 3.0, 10.0, 60.0)
HANDLING_SECONDS = (0.1, 0.25, 0.5, 0.9, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0, 180.0, 600.0)
DELIVERY_STATES = ("pending", "sending", "doubtful", "dead")


class ProcessUsage(Collector):
    """Memory, files and times of this process.

    `ProcessCollector` needs files of `/proc` that systemd's `ProcSubset=pid` hides, and says nothing without
    them; what memory and files are can be told all the same.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._self = proc / "self"
        self._everything = ProcessCollector(proc=str(proc), registry=None)

    def collect(self) -> Iterator[Metric]:
        """The metrics, under the names that every Prometheus client uses."""
        found = tuple(self._everything.collect())
        return iter(found) if found else self._own()

    def _own(self) -> Iterator[Metric]:
        try:
            pages = int((self._self / "statm").read_text().split()[1])
            files = len(list((self._self / "fd").iterdir()))
        except OSError:
            return
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory size in bytes.", pages * resource.getpagesize()
        )
        yield GaugeMetricFamily("process_open_fds", "Number of open file descriptors.", files)


class Metrics:
    """The bot's own registry, so that several bots in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ProcessUsage())
        self._http = Histogram(
            "http_request_duration_seconds",
            "Time from a request to the beginning of its answer.",
            ("method", "path", "status"),
            buckets=HTTP_SECONDS,
            registry=self.registry,
        )
        self._messages = Counter(
            "clawd_messages_total",
            "Messages dealt with, by how.",
            ("channel", "outcome"),
            registry=self.registry,
        )
        self._handling = Histogram(
            "clawd_handling_seconds",
            "Time from receiving a message until its answer is ready to be sent.",
            ("channel",),
            buckets=HANDLING_SECONDS,
            registry=self.registry,
        )
        self._deliveries = Counter(
            "clawd_deliveries_total",
            "Messages sent or given up, and attempts put off (retried).",
            ("channel", "outcome"),
            registry=self.registry,
        )
        self._models = Counter(
            "clawd_model_requests_total",
            "Requests to a model, by how they ended.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self._reasoning = Counter(
            "clawd_model_reasoning_tokens_total",
            "Tokens of reasoning, which is not shown; estimated where the server does not count them.",
            ("model",),
            registry=self.registry,
        )
        self._rejections = Counter(
            "clawd_rejections_total",
            "Requests and events that were rejected, by kind.",
            ("channel", "kind"),
            registry=self.registry,
        )
        self._store_faults = Counter(
            "clawd_store_faults_total",
            "Operations of a message or reply that the database failed.",
            registry=self.registry,
        )
        self._inbox = Gauge(
            "clawd_inbox_depth",
            "Messages not dealt with, of all bots on the database together.",
            registry=self.registry,
        )
        self._outbox = Gauge(
            "clawd_outbox_depth",
            "Messages to send, or whose delivery failed, by state; of all bots on the database together.",
            ("state",),
            registry=self.registry,
        )

    def expect(self, channels: Iterable[str]) -> None:
        """Tell from the beginning that nothing has failed yet: of a series that begins with a failure,
        Prometheus sees no rise.
        """
        for channel in channels:
            for outcome in ("answered", "failed", "model_failed"):
                self._messages.labels(channel, outcome)
            for outcome in ("sent", "doubtful", "dead"):
                self._deliveries.labels(channel, outcome)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """An HTTP request was answered; `path` is the route's, not the caller's."""
        self._http.labels(method, path, str(status)).observe(seconds)

    def message(self, channel: str, outcome: str, seconds: float) -> None:
        """A message was dealt with, `seconds` after it was received."""
        self._messages.labels(channel, outcome).inc()
        if outcome == "answered":
            self._handling.labels(channel).observe(seconds)

    def delivery(self, channel: str, outcome: str) -> None:
        """A message was sent or given up, or an attempt was `retried`."""
        self._deliveries.labels(channel, outcome).inc()

    def rejection(self, channel: str, kind: str) -> None:
        """A request or an event was rejected; `kind` is one of few."""
        self._rejections.labels(channel, kind).inc()

    def store_fault(self) -> None:
        """The database failed what a message or a reply needed; it is tried again."""
        self._store_faults.inc()

    def model(self, name: str, outcome: str) -> None:
        """A request to a model ended."""
        self._models.labels(name, outcome).inc()

    def reasoning(self, name: str, tokens: int) -> None:
        """A model spent so many tokens on reasoning."""
        self._reasoning.labels(name).inc(tokens)

    def render(self, depths: Depths) -> bytes:
        """The exposition, in Prometheus' text format."""
        self._inbox.set(depths.inbox)
        for state in DELIVERY_STATES:
            self._outbox.labels(state).set(depths.outbox.get(state, 0))
        return generate_latest(self.registry)
