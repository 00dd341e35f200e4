"""The Prometheus metrics of the bot."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from clawd_runtime.bot.access.values import TokensUsed
from clawd_runtime.bot.store.store import Depths

HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.9, 1.5, 3.0, 10.0, 60.0)
HANDLING_SECONDS = (0.1, 0.25, 0.5, 0.9, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0, 180.0, 600.0)
DELIVERY_STATES = ("pending", "sending", "doubtful", "dead")


class ProcessUsage(Collector):
    """A collector of the memory, files and times of this process.

    `ProcessCollector` needs files of `/proc` that systemd's `ProcSubset=pid` hides, and reports nothing
    without them; the numbers of memory and files are available nevertheless.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._self = proc / "self"
        self._everything = ProcessCollector(proc=str(proc), registry=None)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics under the names that every Prometheus client uses."""
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


@dataclass(frozen=True, slots=True)
class ModelState:
    """Whether a model is used (see `clawd_model_usable`), and by how many conversations."""

    usable: float
    answering: int
    waiting: int


class Metrics:
    """The bot's metrics in a separate registry, so that several bots in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ProcessUsage())
        self._http = Histogram(
            "http_request_duration_seconds",
            "Time from a request to the start of its response.",
            ("method", "path", "status"),
            buckets=HTTP_SECONDS,
            registry=self.registry,
        )
        self._messages = Counter(
            "clawd_messages_total",
            "Handled messages, by outcome.",
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
            "Messages sent or given up, and postponed attempts (retried).",
            ("channel", "outcome"),
            registry=self.registry,
        )
        self._models = Counter(
            "clawd_model_requests_total",
            "Requests to a model, by outcome.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self._first_token = Histogram(
            "clawd_model_first_token_seconds",
            "Time from a request to a model until its first token, reasoning included.",
            ("model",),
            buckets=HANDLING_SECONDS,
            registry=self.registry,
        )
        self._answer = Histogram(
            "clawd_model_answer_seconds",
            "Time from a request to a model until the end of its answer.",
            ("model",),
            buckets=HANDLING_SECONDS,
            registry=self.registry,
        )
        self._usable = Gauge(
            "clawd_model_usable",
            "State of the circuit breaker of a model: 1 closed, 0.5 half-open, 0 open.",
            ("model",),
            registry=self.registry,
        )
        self._places = Gauge(
            "clawd_model_conversations",
            "Conversations that a model answers (answering) or that wait for it (waiting).",
            ("model", "state"),
            registry=self.registry,
        )
        self._route_version = Gauge(
            "clawd_route_version", "Version of the table of routes in use.", registry=self.registry
        )
        self._route_readable = Gauge(
            "clawd_route_file_readable",
            "0 while the file of the table of routes has a mistake, and the former table stays in use.",
            registry=self.registry,
        )
        self._route_share = Gauge(
            "clawd_route_share_percent",
            "Percentage of the conversations that a model answers first.",
            ("model",),
            registry=self.registry,
        )
        self._reasoning = Counter(
            "clawd_model_reasoning_tokens_total",
            "Tokens of reasoning, which is not shown; estimated if the server does not count them.",
            ("model",),
            registry=self.registry,
        )
        self._policy_hits = Counter(
            "clawd_policy_hits_total",
            "What the policy found in questions, answers and outbound texts, by rule and action.",
            ("stage", "rule", "action"),
            registry=self.registry,
        )
        self._policy_valid = Gauge(
            "clawd_policy_valid",
            "1 if the policy in force is that of its file, 0 if the file cannot be used.",
            registry=self.registry,
        )
        self._policy_words = Gauge(
            "clawd_policy_words",
            "Words and phrases in the policy in force.",
            ("version",),
            registry=self.registry,
        )
        self._tokens = Counter(
            "clawd_tokens_total",
            "Tokens of answered questions, by kind: prompt and answer; estimated if the server counts none.",
            ("channel", "model", "kind"),
            registry=self.registry,
        )
        self._access_readable = Gauge(
            "clawd_access_file_readable",
            "0 while the file of access has a mistake, and the former one stays in use.",
            registry=self.registry,
        )
        self._rejections = Counter(
            "clawd_rejections_total",
            "Rejected requests and events, by kind.",
            ("channel", "kind"),
            registry=self.registry,
        )
        self._store_faults = Counter(
            "clawd_store_faults_total",
            "Failed database operations of messages and replies.",
            registry=self.registry,
        )
        self._inbox = Gauge(
            "clawd_inbox_depth",
            "Unhandled messages of all bots that share the database.",
            registry=self.registry,
        )
        self._outbox = Gauge(
            "clawd_outbox_depth",
            "Messages to send, or whose delivery failed, by state, of all bots that share the database.",
            ("state",),
            registry=self.registry,
        )

    def expect(self, channels: Iterable[str]) -> None:
        """Create the series of these channels with the value 0.

        Prometheus sees no increase of a series that starts with its first failure.
        """
        for channel in channels:
            for outcome in ("answered", "failed", "model_failed", "poison"):
                self._messages.labels(channel, outcome)
            for outcome in ("sent", "doubtful", "dead"):
                self._deliveries.labels(channel, outcome)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an HTTP request that was answered; `path` is that of the route, not of the request."""
        self._http.labels(method, path, str(status)).observe(seconds)

    def message(self, channel: str, outcome: str, seconds: float) -> None:
        """Count a message that was handled `seconds` after it was received."""
        self._messages.labels(channel, outcome).inc()
        if outcome == "answered":
            self._handling.labels(channel).observe(seconds)

    def delivery(self, channel: str, outcome: str) -> None:
        """Count a message that was sent or given up, or an attempt that was `retried`."""
        self._deliveries.labels(channel, outcome).inc()

    def rejection(self, channel: str, kind: str) -> None:
        """Count a rejected request or event; `kind` has few values."""
        self._rejections.labels(channel, kind).inc()

    def policy_hit(self, stage: str, rule: str, action: str) -> None:
        """Count something that the policy found; `action` is `shadow` for a rule that only counts."""
        self._policy_hits.labels(stage, rule, action).inc()

    def policy(self, version: str, words: int) -> None:
        """Set the policy in force."""
        self._policy_words.clear()
        self._policy_words.labels(version).set(words)
        self._policy_valid.set(1)

    def policy_invalid(self) -> None:
        """Record that the policy's file cannot be used, so that the last one stays in force."""
        self._policy_valid.set(0)

    def tokens(self, channel: str, used: TokensUsed) -> None:
        """Count the tokens of an answer."""
        self._tokens.labels(channel, used.model, "prompt").inc(used.prompt)
        self._tokens.labels(channel, used.model, "answer").inc(used.answer)

    def access_readable(self, readable: bool, /) -> None:
        """Record whether the file of access can be used."""
        self._access_readable.set(readable)

    def store_fault(self) -> None:
        """Count a database operation of a message or reply that failed and is retried."""
        self._store_faults.inc()

    def model(self, name: str, outcome: str) -> None:
        """Count a request to a model that has ended."""
        self._models.labels(name, outcome).inc()

    def first_token(self, name: str, seconds: float) -> None:
        """Record when the first token of a model arrived."""
        self._first_token.labels(name).observe(seconds)

    def answer(self, name: str, seconds: float) -> None:
        """Record when the answer of a model ended."""
        self._answer.labels(name).observe(seconds)

    def model_state(self, name: str, state: Callable[[], ModelState]) -> None:
        """Have `state` read for a model whenever the metrics are."""
        self._usable.labels(name).set_function(lambda: state().usable)
        self._places.labels(name, "answering").set_function(lambda: state().answering)
        self._places.labels(name, "waiting").set_function(lambda: state().waiting)

    def routes(self, version: int, shares: Mapping[str, int], *, readable: bool) -> None:
        """Record the table of routes in use."""
        self._route_version.set(version)
        self._route_readable.set(readable)
        self._route_share.clear()
        for name, share in shares.items():
            self._route_share.labels(name).set(share)

    def reasoning(self, name: str, tokens: int) -> None:
        """Add the tokens that a model has used for reasoning."""
        self._reasoning.labels(name).inc(tokens)

    def render(self, depths: Depths) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._inbox.set(depths.inbox)
        for state in DELIVERY_STATES:
            self._outbox.labels(state).set(depths.outbox.get(state, 0))
        return generate_latest(self.registry)
