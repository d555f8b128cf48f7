"""All metrics. Each app has a registry of its own, so that several apps fit in a process. No tenant is a label."""

import os
import time
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.worker_metrics import WorkerProcesses, note_start

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STORE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of an app.

    Attributes:
        registry: The registry of this process.
        exposed: The registry that ``/metrics`` shows: the same one, or in one of several workers the sums over all.
        checkpoint_names: Fingerprint -> name of each loaded checkpoint.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # promtool: a _created series is a gauge that means nothing here
        self.registry = registry = CollectorRegistry()
        self.exposed = registry
        self.checkpoint_names: dict[str, str] = {}
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is not None:
            # One of several workers counts in files that all of them read
            self.exposed = CollectorRegistry()
            MultiProcessCollector(self.exposed)  # type: ignore[no-untyped-call]
            self.exposed.register(WorkerProcesses(Path(folder), os.getppid()))
            PlatformCollector(registry=self.exposed)
            note_start(time.time())
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        self.requests = Counter("handful_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.request_duration = Histogram(
            "handful_request_duration_seconds",
            "Time from a request's first byte to its answer.",
            ["route"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.adapt_duration = Histogram(
            "handful_adapt_duration_seconds",
            "Time on the device for one adaptation: encoding and inner loop.",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.adapt_support_examples = Histogram(
            "handful_adapt_support_examples", "Examples per adaptation.", buckets=(*_COUNTS, 4096), registry=registry
        )
        self.predict_queries = Counter("handful_predict_queries", "Queries classified.", registry=registry)
        self.batch_queries = Histogram(
            "handful_batch_queries", "Queries per forward pass.", buckets=_COUNTS, registry=registry
        )
        self.batch_tenants = Histogram(
            "handful_batch_tenants", "Tenants per forward pass.", buckets=_COUNTS, registry=registry
        )
        self.queue_tokens = Gauge(
            "handful_queue_tokens",
            "Tokens admitted and not yet computed.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_max_tokens = Gauge(
            "handful_queue_max_tokens",
            "Most tokens that may wait; beyond, requests get a 503.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_wait = Histogram(
            "handful_queue_wait_seconds",
            "Time from admission to the first computation.",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.cache_events = Counter(
            "handful_cache_events", "What happened in the adapter cache.", ["event"], registry=registry
        )
        self.cache_bytes = Gauge(
            "handful_cache_bytes", "Bytes of cached adapters.", multiprocess_mode="livesum", registry=registry
        )
        self.cache_max_bytes = Gauge(
            "handful_cache_max_bytes",
            "Most bytes of cached adapters.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.feature_cache_events = Counter(
            "handful_feature_cache_events", "What happened in the cache of features.", ["event"], registry=registry
        )
        self.feature_cache_bytes = Gauge(
            "handful_feature_cache_bytes",
            "Bytes of kept features of support texts.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.store_duration = Histogram(
            "handful_store_duration_seconds",
            "Time of a store operation.",
            ["store", "op"],
            buckets=_STORE_S,
            registry=registry,
        )
        self.store_errors = Counter(
            "handful_store_errors", "Store operations that failed.", ["store", "op"], registry=registry
        )
        self.store_emptied = Gauge(
            "handful_store_emptied",
            "1 while the store has lost its data or is another one.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.degraded_answers = Counter(
            "handful_degraded_answers",
            "Predictions answered from memory while the store could not be asked.",
            registry=registry,
        )
        self.abstentions = Counter("handful_abstentions", "Predictions that abstained.", registry=registry)
        self.drifting_tasks = Gauge(
            "handful_drifting_tasks",
            "Tasks whose recent queries fall below the abstention threshold more often than their earlier ones.",
            multiprocess_mode="livemax",  # each worker counts what it was asked itself
            registry=registry,
        )
        self.feedback = Counter("handful_feedback", "Corrections of answers.", ["outcome"], registry=registry)
        self.stale_tasks = Gauge(
            "handful_stale_tasks",
            "Stored tasks that were made from a checkpoint that is not loaded.",
            multiprocess_mode="mostrecent",  # one worker counts, and its count outlasts it
            registry=registry,
        )
        self.readapts = Counter(
            "handful_readapts",
            "Tasks that the server adapted again by itself, or did not.",
            ["trigger", "outcome"],
            registry=registry,
        )
        self.readapt_pending = Gauge(
            "handful_readapt_pending_tasks",
            "Tasks that wait to be adapted again in the background.",
            multiprocess_mode="mostrecent",  # one worker does so, and its count outlasts it
            registry=registry,
        )
        for trigger in ("first_use", "background"):
            for outcome in ("done", "refused", "failed"):
                self.readapts.labels(trigger, outcome)
        self.checkpoint_info = Gauge(
            "handful_checkpoint_info",
            "A loaded checkpoint; always 1.",
            ["name", "fingerprint", "learner", "device", "runtime"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        # By fingerprint, which ``checkpoint_info`` has beside the name
        self.checkpoint_queries = Counter(
            "handful_checkpoint_queries", "Queries that a checkpoint classified.", ["fingerprint"], registry=registry
        )
        self.checkpoint_batches = Counter(
            "handful_checkpoint_batches", "Batches of queries of a checkpoint.", ["fingerprint"], registry=registry
        )
        self.checkpoint_adaptations = Counter(
            "handful_checkpoint_adaptations",
            "Adaptations from a checkpoint; one that `auto` compares counts, too.",
            ["fingerprint"],
            registry=registry,
        )
        self.checkpoint_bytes = Gauge(
            "handful_checkpoint_bytes",
            "Bytes of a checkpoint in memory: weights, its tasks' adapters, and features of their support texts.",
            ["name", "fingerprint", "memory"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        for outcome in ("joined", "pending", "confirmed", "known"):
            self.feedback.labels(outcome)
        for event in ("hit", "miss", "evict"):
            self.cache_events.labels(event)
            self.feature_cache_events.labels(event)

    def checkpoint_memory(self, fingerprint: str, memory: Literal["weights", "adapters", "features"]) -> Gauge:
        """The gauge of one kind of a checkpoint's memory, in bytes."""
        return self.checkpoint_bytes.labels(self.checkpoint_names.get(fingerprint, ""), fingerprint, memory)
