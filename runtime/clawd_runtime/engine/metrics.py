"""The Prometheus metrics of the engine."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_STATE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_STEP_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class EngineMetrics:
    """The engine's metrics in a separate registry."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.info = Info("clawd_engine", "Model and compute back end", registry=registry)
        self.requests = Counter(
            "clawd_engine_requests",
            "Chat requests by how they ended (stop, length, cancelled, failed, refused)",
            ["outcome"],
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "clawd_engine_prompt_tokens", "Tokens of accepted prompts", registry=registry
        )
        self.reused_tokens = Counter(
            "clawd_engine_prompt_tokens_reused", "Prompt tokens not computed again", registry=registry
        )
        self.prefill_tokens = Counter(
            "clawd_engine_prefill_tokens", "Prompt tokens computed", registry=registry
        )
        self.completion_tokens = Counter(
            "clawd_engine_completion_tokens", "Tokens drawn for answers", registry=registry
        )
        self.step_seconds = Histogram(
            "clawd_engine_step_seconds", "Time of one decoding step", buckets=_STEP_SECONDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "clawd_engine_queue_seconds", "Time from request to slot", buckets=_SECONDS, registry=registry
        )
        self.prefill_seconds = Histogram(
            "clawd_engine_prefill_seconds",
            "Time from slot to first token",
            buckets=_SECONDS,
            registry=registry,
        )
        self.decode_seconds = Histogram(
            "clawd_engine_decode_seconds",
            "Time from first token to last",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queued = Gauge("clawd_engine_queue_length", "Requests waiting for a slot", registry=registry)
        self.running = Gauge("clawd_engine_running_sequences", "Answers being computed", registry=registry)
        self.kv_tokens = Gauge("clawd_engine_kv_tokens", "Tokens held in the KV cache", registry=registry)
        self.kv_capacity = Gauge(
            "clawd_engine_kv_capacity_tokens", "Tokens that the KV cache can hold", registry=registry
        )
        self.states = Gauge(
            "clawd_engine_states",
            "Saved states of conversations, by where they are (memory, disk)",
            ["where"],
            registry=registry,
        )
        self.state_bytes = Gauge(
            "clawd_engine_state_bytes",
            "Bytes of saved states, by where they are (memory, disk)",
            ["where"],
            registry=registry,
        )
        self.state_restores = Counter(
            "clawd_engine_state_restores",
            "Prompts whose beginning was restored from a saved state, by where it was (memory, disk)",
            ["where"],
            registry=registry,
        )
        self.state_tokens = Counter(
            "clawd_engine_state_tokens_restored",
            "Prompt tokens not computed because a saved state had them",
            registry=registry,
        )
        self.state_misses = Counter(
            "clawd_engine_state_misses",
            "Prompts of which neither a slot nor a saved state had the beginning",
            registry=registry,
        )
        self.state_evictions = Counter(
            "clawd_engine_state_evictions",
            "Saved states that were dropped for others, by where they were (memory, disk)",
            ["where"],
            registry=registry,
        )
        self.state_failures = Counter(
            "clawd_engine_state_failures", "Saved states that could not be restored", registry=registry
        )
        self.state_seconds = Histogram(
            "clawd_engine_state_seconds",
            "Time in which all answers waited for a state to be saved or restored",
            ["operation"],
            buckets=_STATE_SECONDS,
            registry=registry,
        )
        for where in ("memory", "disk"):
            self.states.labels(where)
            self.state_bytes.labels(where)
            self.state_restores.labels(where)
            self.state_evictions.labels(where)
        self.gpu_layers = Gauge(
            "clawd_engine_gpu_layers", "Layers of the model that GPUs compute", registry=registry
        )
        self.layers = Gauge(
            "clawd_engine_model_layers", "Layers of the model that GPUs could compute", registry=registry
        )
        self.load_seconds = Gauge(
            "clawd_engine_model_load_seconds", "Time taken to load the model", registry=registry
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
