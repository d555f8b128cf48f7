"""The panels of Grafana's dashboard, row by row. A description names the alert that watches the panel, if one does."""

from collections.abc import Mapping, Sequence

from deploy.dashboard_now import NOW
from deploy.dashboard_parts import (
    ADAPT,
    HITS,
    LOOKUPS,
    NO_PROBES,
    PREDICT,
    Tree,
    by_checkpoint,
    course,
    mean_and_p99,
    of,
    percentiles,
    quantile,
    rate,
    shortened,
    total,
)

ROUTE = 'route=~"$route"'
SERVER = "{{instance}}"
DURATION = "handful_request_duration_seconds"
EITHER_STORE = "{{store}} {{op}}"
NAMED = "{{name}} {{fingerprint}}"

ROWS: Mapping[str, Sequence[Tree]] = {
    "Now": NOW,
    "Requests: rate, errors, duration": [
        course(
            "Requests by route and status",
            "Answers a second.",
            {"{{status}} {{route}}": total(rate("handful_requests_total", ROUTE), "route", "status")},
            "reqps",
            width=12,
            stacked=True,
        ),
        course(
            "Errors by route",
            "5xx answers a second. 503: a full queue, a store that is away, or a server that stops; the log has a line "
            "for each 500. Alert HandfulErrorRatio.",
            {"{{status}} {{route}}": total(rate("handful_requests_total", ROUTE, 'status=~"5.."'), "route", "status")},
            "reqps",
            width=12,
            stacked=True,
        ),
        course(
            "Duration",
            "From a request's first byte to its answer, over the chosen routes.",
            percentiles(DURATION, ROUTE, NO_PROBES),
            "s",
            width=12,
        ),
        course(
            "Duration by route, p99",
            "One request in a hundred takes longer.",
            {"{{route}}": quantile(0.99, DURATION, ROUTE, by=("route",))},
            "s",
            width=12,
        ),
        course(
            "Duration of predict",
            "Alert HandfulPredictSlow above 1 s at p99 (dashed).",
            percentiles(DURATION, PREDICT),
            "s",
            width=12,
            limit=1,
        ),
        course(
            "Duration of adapt",
            "With the wait in the queue and the store. Alert HandfulAdaptSlow above 30 s at p99 (dashed).",
            percentiles(DURATION, ADAPT),
            "s",
            width=12,
            limit=30,
        ),
    ],
    "Adapt": [
        course(
            "Time of an adaptation",
            "On the device: encoding and inner loop, without the wait.",
            percentiles("handful_adapt_duration_seconds"),
            "s",
        ),
        course(
            "Size of a support set", "Examples an adaptation.", percentiles("handful_adapt_support_examples"), "short"
        ),
        course(
            "Adaptations",
            "Adaptations a second.",
            {SERVER: total(rate("handful_adapt_duration_seconds_count"), "instance")},
            "ops",
        ),
    ],
    "Predict: batches and queue": [
        course(
            "Queries classified",
            "Queries a second.",
            {SERVER: total(rate("handful_predict_queries_total"), "instance")},
            "ops",
        ),
        course(
            "Queries in a batch",
            "Above one: a batch mixes requests. Near one under load: clients send one query after another.",
            mean_and_p99("handful_batch_queries"),
        ),
        course("Tenants in a batch", "Above one: a batch mixes tenants.", mean_and_p99("handful_batch_tenants")),
        course(
            "Tokens queued",
            "Admitted and not yet computed, beside the most that may wait. Alert HandfulQueueFull at 80 % of it.",
            {SERVER: of("handful_queue_tokens"), f"{SERVER}, most": of("handful_queue_max_tokens")},
        ),
        course(
            "Wait in the queue",
            "From admission to the first computation, predictions and adaptations. A long wait wants more replicas.",
            percentiles("handful_queue_wait_seconds"),
            "s",
        ),
        course(
            "Abstentions",
            "Share of the queries for which no label was probable enough. Alert HandfulAbstentions above 50 % "
            "(dashed).",
            {
                SERVER: f"{total(rate('handful_abstentions_total'), 'instance')} / "
                f"{total(rate('handful_predict_queries_total'), 'instance')}"
            },
            "percentunit",
            limit=0.5,
            most=1,
        ),
    ],
    "Cache": [
        course(
            "Cache events",
            "Look-ups of adapters, and of features of support texts, a second. Steady evictions: the memory is too "
            "small.",
            {
                "adapters, {{event}}": total(rate("handful_cache_events_total"), "event"),
                "features, {{event}}": total(rate("handful_feature_cache_events_total"), "event"),
            },
            "ops",
        ),
        course(
            "Cache hit ratio",
            "Share of the look-ups that found the adapter in memory. Alert HandfulCacheTooSmall under 50 % with "
            "evictions (dashed).",
            {SERVER: f"{total(HITS, 'instance')} / {total(LOOKUPS, 'instance')}"},
            "percentunit",
            limit=0.5,
            most=1,
        ),
        course(
            "Cached adapters and features",
            "Bytes in memory, beside the most that adapters may take (HANDFUL_CACHE_MAX_BYTES).",
            {
                f"{SERVER}, adapters": of("handful_cache_bytes"),
                f"{SERVER}, adapters, most": of("handful_cache_max_bytes"),
                f"{SERVER}, features": of("handful_feature_cache_bytes"),
            },
            "bytes",
        ),
    ],
    "Store": [
        course(
            "Store latency by operation, p99",
            "One operation in a hundred takes longer.",
            {EITHER_STORE: quantile(0.99, "handful_store_duration_seconds", by=("store", "op"))},
            "s",
        ),
        course(
            "Store operations",
            "Operations a second.",
            {EITHER_STORE: total(rate("handful_store_duration_seconds_count"), "store", "op")},
            "ops",
        ),
        course(
            "Store errors",
            "Failed operations a second. Alert HandfulStoreErrors.",
            {EITHER_STORE: total(rate("handful_store_errors_total"), "store", "op")},
            "ops",
        ),
        course(
            "Degraded answers",
            "Predictions a second that were answered from memory, since the store could not be asked. "
            "Alert HandfulDegradedAnswers.",
            {SERVER: total(rate("handful_degraded_answers_total"), "instance")},
            "reqps",
            width=12,
        ),
        course(
            "Store emptied",
            "1 while the store has lost its data, or is another one than before. Alert HandfulStoreEmptied.",
            {SERVER: of("handful_store_emptied")},
            "none",
            width=12,
            limit=1,
            most=1,
        ),
    ],
    "Tasks": [
        course(
            "Stale tasks",
            "Tasks of a checkpoint that is not loaded, and those of them that wait for the background. "
            "Alert HandfulStaleTasks.",
            {
                "stale": f"max({of('handful_stale_tasks')})",
                "wait for the background": f"max({of('handful_readapt_pending_tasks')})",
            },
            width=6,
        ),
        course(
            "Tasks adapted again",
            "In the last hour, by the server itself: done, refused (they would be worse) or failed. "
            "Alert HandfulReadaptsNotDone.",
            {"{{trigger}} {{outcome}}": total(f"increase({of('handful_readapts_total')}[1h])", "trigger", "outcome")},
            width=6,
        ),
        course(
            "Feedback",
            "What became of corrections and confirmations, a second.",
            {"{{outcome}}": total(rate("handful_feedback_total"), "outcome")},
            "ops",
            width=6,
        ),
        course(
            "Drifting tasks",
            "Tasks whose recent queries fall below the abstention threshold more often than their earlier ones. "
            "Alert HandfulDrift.",
            {SERVER: of("handful_drifting_tasks")},
            width=6,
        ),
    ],
    "Checkpoints": [
        course(
            "Queries by checkpoint",
            "Queries a second that each checkpoint classified.",
            {NAMED: by_checkpoint("handful_checkpoint_queries_total")},
            "ops",
            width=6,
        ),
        course(
            "Batches by checkpoint",
            "Batches of queries a second. A batch has the queries of one checkpoint.",
            {NAMED: by_checkpoint("handful_checkpoint_batches_total")},
            "ops",
            width=6,
        ),
        course(
            "Adaptations by checkpoint",
            "Adaptations a second from each checkpoint; one that `auto` compares counts, too.",
            {NAMED: by_checkpoint("handful_checkpoint_adaptations_total")},
            "ops",
            width=6,
        ),
        course(
            "Memory by checkpoint",
            "Bytes of each checkpoint's weights, and of the adapters and features of its tasks.",
            {
                f"{NAMED} {{{{memory}}}}": shortened(
                    total(of("handful_checkpoint_bytes", 'name=~"$checkpoint"'), "name", "fingerprint", "memory")
                )
            },
            "bytes",
            width=6,
        ),
    ],
    "Process": [
        course("Memory", "Resident.", {SERVER: of("process_resident_memory_bytes")}, "bytes", width=6),
        course("CPU", "Cores in use.", {SERVER: rate("process_cpu_seconds_total")}, width=6),
        course(
            "Open files",
            "Share of the files and sockets that the process may open. Alert HandfulFilesRunOut above 80 % (dashed).",
            {SERVER: f"{of('process_open_fds')} / {of('process_max_fds')}"},
            "percentunit",
            width=6,
            limit=0.8,
            most=1,
        ),
        course(
            "Time since the start",
            "Falls to nothing with each restart, also of one worker. Alert HandfulRestarting.",
            {SERVER: f"time() - {of('process_start_time_seconds')}"},
            "s",
            width=6,
        ),
    ],
}
