"""The compute thread: batches mix tenants, nobody waits for another's trouble, and the queue is bounded."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import torch

from metalearn.encoder.encoder import Encoder
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.types import Adapter, TextInput
from model_store.checkpoint import Checkpoint
from model_store.learner_models import Models
from service.engine import compute
from service.engine.compute import ComputeThread
from service.engine.errors import ComputeStopped, QueueFull
from service.engine.work import PredictWork, SlicedWork
from service.metrics import Metrics
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, parts_of, predict
from tests.waiting import LIMIT_S, until, until_on_loop

SENTENCE = "why was my new virtual card charged an extra fee and where does the statement show that it has arrived"
WORDS = tuple(SENTENCE.split())
POISON = "poison"


class Gate:
    """A wrapper of the encoder that holds its calls back until it is opened, and notes them."""

    def __init__(self, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self._encode = checkpoint.encoder.encode_batch
        self._open = threading.Event()
        self._arrived = threading.Semaphore(0)
        self._poison = tuple(checkpoint.encoder.tokenize([TextInput(POISON)])[0].ids)
        self.batches: list[list[TokenizedText]] = []
        monkeypatch.setattr(Encoder, "encode_batch", lambda _, texts, *more: self._gated(texts))

    def _gated(self, texts: Sequence[TokenizedText]) -> torch.Tensor:
        self._arrived.release()
        assert self._open.wait(LIMIT_S)
        self.batches.append(list(texts))
        if any(tuple(text.ids) == self._poison for text in texts):
            raise RuntimeError("this text cannot be encoded")
        return self._encode(texts)

    def open(self) -> None:
        """Lets every call through from now on."""
        self._open.set()

    def wait_for_call(self) -> None:
        """Returns once the compute thread stands before the gate."""
        assert self._arrived.acquire(timeout=LIMIT_S)


@pytest.fixture
def gate(loaded_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed gate before the shared checkpoint's encoder."""
    gate = Gate(loaded_checkpoint, monkeypatch)
    yield gate
    gate.open()


@pytest.fixture
def make_thread(loaded_checkpoint: Checkpoint) -> Iterator[Callable[..., tuple[ComputeThread, Metrics]]]:
    """Starts compute threads, and ends them after the test."""
    threads: list[ComputeThread] = []
    models = Models(loaded_checkpoint)

    def make(*, max_queue_tokens: int = 10_000, max_batch_tokens: int = 512) -> tuple[ComputeThread, Metrics]:
        metrics = Metrics()
        thread = ComputeThread(
            lambda _: models, metrics, max_queue_tokens=max_queue_tokens, max_batch_tokens=max_batch_tokens
        )
        threads.append(thread)
        return thread, metrics

    yield make
    for thread in threads:
        thread.close()


def head(n_classes: int, seed: int) -> Adapter:
    """Random fast weights."""
    draw = torch.Generator().manual_seed(seed)
    weights = {
        HEAD_WEIGHT: torch.randn(n_classes, 32, generator=draw),
        HEAD_BIAS: torch.randn(n_classes, generator=draw),
    }
    return Adapter(weights, tuple(f"class {i:03}" for i in range(n_classes)), "fingerprint")


def sentences(n: int, seed: int = 0) -> list[TextInput]:
    """Texts of different lengths."""
    draw = torch.Generator().manual_seed(seed)

    def number(below: int) -> int:
        return int(torch.randint(below, (1,), generator=draw))

    return [TextInput(" ".join(WORDS[number(len(WORDS))] for _ in range(1 + number(12)))) for _ in range(n)]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Runs a test's own event loop, bounded."""

    async def bounded() -> Any:
        return await asyncio.wait_for(main, LIMIT_S)

    return asyncio.run(bounded())


def queued(metrics: Metrics) -> float:
    """The value of the queue's gauge."""
    value = metrics.registry.get_sample_value("handful_queue_tokens")
    assert value is not None
    return value


def test_a_batch_that_mixes_tenants_answers_as_each_alone_would(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread()
    cases = [(f"tenant {i}", head(2 + 3 * i, i), sentences(1 + i % 4, i)) for i in range(30)]

    def work(case: tuple[str, Adapter, list[TextInput]]) -> PredictWork:
        tenant, adapter, inputs = case
        return PredictWork(tenant, adapter, loaded_checkpoint.encoder.tokenize(inputs))

    async def main() -> tuple[list[Any], list[Any]]:
        works = [work(case) for case in cases]
        for one in works:
            thread.submit(one)
        gate.open()
        together = await asyncio.gather(*(one.result() for one in works))
        alone = []
        for case in cases:
            one = work(case)
            thread.submit(one)
            alone.append(await one.result())
        return together, alone

    together, alone = run(main())
    for (_, adapter, inputs), mixed, single in zip(cases, together, alone, strict=True):
        assert len(mixed) == len(inputs)
        for row, expected in zip(mixed, single, strict=True):
            assert len(row) == len(adapter.labels)
            assert row == pytest.approx(expected, abs=1e-5)
            assert sum(row) == pytest.approx(1, abs=1e-5)
    # Else the test above would hold for a thread that never mixes
    of_most = metrics.registry.get_sample_value("handful_batch_tenants_bucket", {"le": "8.0"})
    n_batches = metrics.registry.get_sample_value("handful_batch_tenants_count")
    assert of_most is not None
    assert n_batches is not None
    assert of_most < n_batches
    assert queued(metrics) == 0


def test_rows_are_answered_in_the_order_of_the_queries(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, _ = make_thread(max_batch_tokens=48)
    adapter, inputs = head(5, 0), sentences(40)

    async def main() -> tuple[Any, list[Any]]:
        work = PredictWork("a", adapter, loaded_checkpoint.encoder.tokenize(inputs))
        thread.submit(work)
        singles = []
        for text in inputs:
            single = PredictWork("a", adapter, loaded_checkpoint.encoder.tokenize([text]))
            thread.submit(single)
            singles.append((await single.result())[0])
        return await work.result(), singles

    rows, singles = run(main())
    for row, single in zip(rows, singles, strict=True):
        assert row == pytest.approx(single, abs=1e-5)


def test_no_batch_is_wider_than_the_bound(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, _ = make_thread(max_batch_tokens=40)

    async def main() -> None:
        works = [PredictWork("a", head(2, i), loaded_checkpoint.encoder.tokenize(sentences(7, i))) for i in range(12)]
        for work in works:
            thread.submit(work)
        gate.open()
        await asyncio.gather(*(work.result() for work in works))

    run(main())
    assert sum(len(batch) for batch in gate.batches) == 12 * 7
    for batch in gate.batches:
        assert len(batch) == 1 or len(batch) * max(len(text.ids) for text in batch) <= 40


def test_what_the_queue_has_no_room_for_is_refused_at_once(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread(max_queue_tokens=30)
    texts = loaded_checkpoint.encoder.tokenize([TextInput("why was my card charged")])
    size = len(texts[0].ids)

    async def main() -> None:
        admitted = []
        for _ in range(30 // size):
            work = PredictWork("a", head(2, 0), texts)
            thread.submit(work)
            admitted.append(work)
        assert queued(metrics) == size * len(admitted)
        for _ in range(3):
            with pytest.raises(QueueFull):
                thread.submit(PredictWork("b", head(2, 1), texts))
        assert queued(metrics) == size * len(admitted)
        gate.open()
        await asyncio.gather(*(work.result() for work in admitted))
        await until_on_loop(lambda: queued(metrics) == 0)
        after = PredictWork("b", head(2, 1), texts)
        thread.submit(after)
        assert len(await after.result()) == 1

    run(main())


def test_work_larger_than_the_queue_is_let_in_when_nothing_waits(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread(max_queue_tokens=10)

    async def main() -> None:
        work = PredictWork("a", head(2, 0), loaded_checkpoint.encoder.tokenize(sentences(20)))
        thread.submit(work)
        assert len(await work.result()) == 20
        await until_on_loop(lambda: queued(metrics) == 0)

    run(main())


class SlowToFinish(PredictWork):
    """Work that leaves time between its answer and the thread's next step."""

    def finish(self) -> bool:
        done = super().finish()
        time.sleep(0.05)
        return done


def test_whoever_has_an_answer_has_given_the_tokens_back(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    # Else a caller who asks again at once is refused because of the request that was just answered
    thread, metrics = make_thread(max_queue_tokens=1)

    async def main() -> None:
        for _ in range(3):
            work = SlowToFinish("a", head(2, 0), loaded_checkpoint.encoder.tokenize(sentences(1)))
            thread.submit(work)
            await work.result()
            assert queued(metrics) == 0

    run(main())


def test_a_large_request_does_not_starve_a_small_one(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, _ = make_thread(max_batch_tokens=32)
    finished: list[str] = []

    async def main() -> None:
        async def one(name: str, n: int) -> None:
            work = PredictWork(name, head(2, 0), loaded_checkpoint.encoder.tokenize(sentences(n)))
            thread.submit(work)
            await work.result()
            finished.append(name)

        large = asyncio.ensure_future(one("large", 200))
        await asyncio.to_thread(gate.wait_for_call)
        small = [asyncio.ensure_future(one(f"small {i}", 1)) for i in range(3)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(large, *small)

    run(main())
    assert sorted(finished[:3]) == ["small 0", "small 1", "small 2"]
    assert finished[3] == "large"
    # Else the large one was not large
    assert len(gate.batches) > 20


def sliced(
    n: int, log: list[str], name: str, pause_s: float = 0.0, hold: threading.Event | None = None
) -> Generator[int, None, str]:
    """Work of ``n`` slices that give no tokens back before its end; the first one waits until nothing holds it."""
    for _ in range(n):
        log.append(name)
        time.sleep(pause_s)
        if hold is not None:
            assert hold.wait(LIMIT_S)
        yield 0
    return name


class Noted(PredictWork):
    """Notes on the compute thread that it is answered."""

    log: list[str]

    def finish(self) -> None:
        self.log.append("predict")
        super().finish()


def test_a_prediction_does_not_wait_for_a_whole_adaptation(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, _ = make_thread()
    log: list[str] = []

    submitted = threading.Event()

    async def main() -> str:
        # Each slice is a turn: it takes longer than the budget
        long: SlicedWork[str] = SlicedWork(20, sliced(20, log, "adapt", 0.006, submitted))
        thread.submit(long)
        await until_on_loop(lambda: len(log) > 0)
        work = Noted("a", head(2, 0), loaded_checkpoint.encoder.tokenize(sentences(1)))
        work.log = log
        thread.submit(work)
        submitted.set()
        await work.result()
        return await long.result()

    assert run(main()) == "adapt"
    assert log == ["adapt", "predict", *["adapt"] * 19]


@pytest.mark.parametrize("longest_pause_s", [1000.0, -1.0])
def test_predictions_that_wait_go_first_until_an_adaptation_has_waited_long(
    loaded_checkpoint: Checkpoint,
    gate: Gate,
    make_thread: Callable[..., tuple[ComputeThread, Metrics]],
    monkeypatch: pytest.MonkeyPatch,
    longest_pause_s: float,
) -> None:
    monkeypatch.setattr(compute, "_LONGEST_PAUSE_S", longest_pause_s)
    thread, _ = make_thread(max_batch_tokens=16)
    batches_before: list[int] = []

    def slices() -> Generator[int, None, None]:
        for _ in range(10):
            batches_before.append(len(gate.batches))
            time.sleep(0.006)  # past the budget, so that a slice is a turn
            yield 0

    async def main() -> None:
        large = PredictWork("a", head(2, 0), loaded_checkpoint.encoder.tokenize(sentences(100)))
        thread.submit(large)
        await asyncio.to_thread(gate.wait_for_call)
        adaptation: SlicedWork[None] = SlicedWork(10, slices())
        thread.submit(adaptation)
        gate.open()
        await asyncio.gather(large.result(), adaptation.result())

    run(main())
    n_batches = len(gate.batches)
    assert n_batches > 11, "else there is nothing between batches"
    if longest_pause_s > 0:
        assert batches_before == [n_batches] * 10
    else:
        assert all(before < after for before, after in itertools.pairwise(batches_before)), "a batch between turns"


def test_an_adaptation_goes_on_while_predictions_keep_coming(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, _ = make_thread()
    log: list[str] = []
    texts = loaded_checkpoint.encoder.tokenize(sentences(30))

    async def main() -> int:
        async def keep_asking(done: asyncio.Event) -> int:
            answered = 0
            while not done.is_set():
                work = PredictWork("a", head(2, 0), texts)
                thread.submit(work)
                await work.result()
                answered += 1
            return answered

        done = asyncio.Event()
        askers = [asyncio.ensure_future(keep_asking(done)) for _ in range(4)]
        await asyncio.sleep(0.05)
        work: SlicedWork[str] = SlicedWork(10, sliced(10, log, "adapt", 0.005))
        thread.submit(work)
        await work.result()
        done.set()
        return sum(await asyncio.gather(*askers))

    assert run(main()) > 0
    assert len(log) == 10


def test_a_short_adaptation_does_not_wait_for_a_long_one(
    make_thread: Callable[..., tuple[ComputeThread, Metrics]],
) -> None:
    thread, _ = make_thread()
    log: list[str] = []

    submitted = threading.Event()

    async def main() -> None:
        long: SlicedWork[str] = SlicedWork(20, sliced(20, log, "long", 0.006, submitted))
        thread.submit(long)
        await until_on_loop(lambda: len(log) > 0)
        short: SlicedWork[str] = SlicedWork(3, sliced(3, log, "short", 0.006))
        thread.submit(short)
        submitted.set()
        await asyncio.gather(short.result(), long.result())

    run(main())
    assert log[:6] == ["long", "short"] * 3
    assert log.count("long") == 20


@pytest.mark.parametrize("longest_pause_s", [1000.0, -1.0])
def test_work_in_the_background_gives_way_to_all_other_work_until_it_has_waited_long(
    make_thread: Callable[..., tuple[ComputeThread, Metrics]],
    monkeypatch: pytest.MonkeyPatch,
    longest_pause_s: float,
) -> None:
    monkeypatch.setattr(compute, "_LONGEST_BACKGROUND_PAUSE_S", longest_pause_s)
    thread, _ = make_thread()
    log: list[str] = []
    submitted = threading.Event()

    async def main() -> None:
        # First in the queue, and its slices are far shorter than a turn of the others
        last: SlicedWork[str] = SlicedWork(10, sliced(10, log, "background", 0.0, submitted), background=True)
        thread.submit(last)
        await until_on_loop(lambda: len(log) > 0)
        others: list[SlicedWork[str]] = [SlicedWork(3, sliced(3, log, name, 0.006)) for name in ("one", "two")]
        for work in others:
            thread.submit(work)
        submitted.set()
        await asyncio.gather(last.result(), *(work.result() for work in others))

    run(main())
    if longest_pause_s > 0:
        assert log == ["background", *["one", "two"] * 3, *["background"] * 9]
    else:
        assert log[:7] == ["background", "one", "background", "two", "background", "one", "background"]
        assert sorted(log) == [*["background"] * 10, *["one"] * 3, *["two"] * 3]


def test_a_prediction_comes_before_the_next_slice_in_the_background(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, _ = make_thread()
    log: list[str] = []
    submitted = threading.Event()

    async def main() -> None:
        long: SlicedWork[str] = SlicedWork(20, sliced(20, log, "background", 0.0, submitted), background=True)
        thread.submit(long)
        await until_on_loop(lambda: len(log) > 0)
        work = Noted("a", head(2, 0), loaded_checkpoint.encoder.tokenize(sentences(1)))
        work.log = log
        thread.submit(work)
        submitted.set()
        await asyncio.gather(work.result(), long.result())

    run(main())
    assert log == ["background", "predict", *["background"] * 19]


def test_work_in_the_background_keeps_no_request_out(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread(max_queue_tokens=30)
    texts = loaded_checkpoint.encoder.tokenize([TextInput("why was my card charged")])

    async def main() -> None:
        first = PredictWork("a", head(2, 0), texts)
        thread.submit(first)
        await asyncio.to_thread(gate.wait_for_call)
        background: SlicedWork[str] = SlicedWork(1000, sliced(10, [], "done", 0.0), background=True)
        thread.submit(background)
        assert queued(metrics) == len(texts[0].ids)
        second = PredictWork("a", head(2, 0), texts)
        thread.submit(second)
        gate.open()
        await asyncio.gather(first.result(), second.result())
        assert await background.result() == "done"
        assert queued(metrics) == 0

    run(main())


def test_cancelled_work_is_dropped_and_its_tokens_are_given_back(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread(max_batch_tokens=16)
    log: list[str] = []

    async def main() -> None:
        async def answer(work: PredictWork | SlicedWork[str]) -> object:
            thread.submit(work)
            return await work.result()

        tokenize = loaded_checkpoint.encoder.tokenize
        running = asyncio.ensure_future(answer(PredictWork("a", head(2, 0), tokenize([TextInput("first one")]))))
        await asyncio.to_thread(gate.wait_for_call)
        doomed = [
            asyncio.ensure_future(answer(PredictWork("b", head(2, 1), tokenize(sentences(5, 7))))),
            asyncio.ensure_future(answer(SlicedWork(50, sliced(3, log, "adapt")))),
        ]
        kept = asyncio.ensure_future(answer(PredictWork("c", head(3, 2), tokenize([TextInput("last one")]))))
        await asyncio.sleep(0)
        before = queued(metrics)
        assert before > 50
        for task in doomed:
            task.cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(running, kept)
        await until_on_loop(lambda: queued(metrics) == 0)
        assert all(task.cancelled() for task in doomed)

    run(main())
    assert log == []
    doomed_ids = {tuple(text.ids) for text in loaded_checkpoint.encoder.tokenize(sentences(5, 7))}
    assert not [text for batch in gate.batches for text in batch if tuple(text.ids) in doomed_ids]


def test_work_cancelled_half_way_stops(
    loaded_checkpoint: Checkpoint, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread()
    log: list[str] = []
    cancelled = threading.Event()

    async def main() -> None:
        work: SlicedWork[str] = SlicedWork(100, sliced(1000, log, "adapt", hold=cancelled))
        thread.submit(work)
        waiting = asyncio.ensure_future(work.result())
        await until_on_loop(lambda: len(log) > 0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert work.cancelled
        cancelled.set()
        await until_on_loop(lambda: queued(metrics) == 0)

    run(main())
    assert log == ["adapt"]


@pytest.mark.parametrize("others", [0, 1, 6])
def test_one_requests_exception_fails_that_request_alone(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]], others: int
) -> None:
    thread, metrics = make_thread()
    tokenize = loaded_checkpoint.encoder.tokenize

    async def main() -> None:
        works = [PredictWork(f"t{i}", head(2 + i, i), tokenize(sentences(2, i))) for i in range(others)]
        bad = PredictWork("bad", head(2, 99), tokenize([TextInput("fine"), TextInput(POISON)]))
        works.insert(others // 2, bad)
        for work in works:
            thread.submit(work)
        gate.open()
        results = await asyncio.gather(*(work.result() for work in works), return_exceptions=True)
        for work, result in zip(works, results, strict=True):
            if work is bad:
                assert isinstance(result, RuntimeError)
            else:
                assert isinstance(result, list), result
                assert [len(row) for row in result] == [len(work.adapter.labels)] * 2
        await until_on_loop(lambda: queued(metrics) == 0)
        assert thread.alive
        later = PredictWork("later", head(2, 0), tokenize(sentences(1)))
        thread.submit(later)
        assert len(await later.result()) == 1

    run(main())


def test_a_failing_adaptation_fails_alone(make_thread: Callable[..., tuple[ComputeThread, Metrics]]) -> None:
    thread, metrics = make_thread()

    def failing() -> Generator[int, None, str]:
        yield 0
        raise ValueError("no")

    async def main() -> None:
        log: list[str] = []
        bad: SlicedWork[str] = SlicedWork(5, failing())
        good: SlicedWork[str] = SlicedWork(5, sliced(3, log, "good"))
        thread.submit(bad)
        thread.submit(good)
        with pytest.raises(ValueError, match="no"):
            await bad.result()
        assert await good.result() == "good"
        await until_on_loop(lambda: queued(metrics) == 0)
        assert thread.alive

    run(main())


def test_a_closed_thread_fails_what_waits_and_refuses_the_rest(
    loaded_checkpoint: Checkpoint, gate: Gate, make_thread: Callable[..., tuple[ComputeThread, Metrics]]
) -> None:
    thread, metrics = make_thread(max_batch_tokens=16)
    tokenize = loaded_checkpoint.encoder.tokenize

    async def main() -> None:
        works: list[Any] = [PredictWork("a", head(2, i), tokenize(sentences(30, i))) for i in range(3)]
        works.append(SlicedWork(5, sliced(1000, [], "adapt", 0.01)))
        works.append(SlicedWork(5, sliced(1000, [], "background", 0.01), background=True))
        for work in works:
            thread.submit(work)
        await asyncio.to_thread(gate.wait_for_call)
        closing = asyncio.ensure_future(asyncio.to_thread(thread.close))
        await until_on_loop(lambda: not thread.alive)
        gate.open()
        results = await asyncio.gather(*(work.result() for work in works), return_exceptions=True)
        await closing
        assert all(isinstance(result, ComputeStopped) for result in results), results
        with pytest.raises(ComputeStopped):
            thread.submit(PredictWork("a", head(2, 0), tokenize(sentences(1))))
        assert queued(metrics) == 0

    run(main())


# ---- through the service -------------------------------------------------------------------------------------------


def many_classes(n: int) -> list[dict[str, str]]:
    """A support set of ``n`` classes."""
    return [{"text": f"{WORDS[i % len(WORDS)]} number {i}", "label": f"class {i:02}"} for i in range(n)]


def wait_until_drained(client: httpx.Client) -> None:
    """Waits until the queue's gauge is zero again."""
    until(lambda: queued(parts_of(client).metrics) == 0)


def test_concurrent_requests_of_many_tasks_equal_single_ones(service: httpx.Client) -> None:
    sizes = [2, 3, 5, 8, 13, 21, 34, 55]
    for size in sizes:
        adapt(service, f"task-{size}", many_classes(size), steps=2)
    requests = [(size, TEXTS[i % 6 : i % 6 + 1 + i % 3]) for i, size in enumerate(sizes * 6)]
    single = [predict(service, f"task-{size}", texts)["predictions"] for size, texts in requests]
    with ThreadPoolExecutor(24) as threads:
        futures = [threads.submit(predict, service, f"task-{size}", texts) for size, texts in requests]
        together = [future.result()["predictions"] for future in futures]
    for (size, _), alone, mixed in zip(requests, single, together, strict=True):
        for one, other in zip(alone, mixed, strict=True):
            assert len(other["scores"]) == size
            assert other["scores"] == pytest.approx(one["scores"], abs=1e-5)
    wait_until_drained(service)


def test_a_full_queue_answers_503_and_recovers(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start_service(max_queue_tokens=200, runtime="torch")
    adapt(client)
    gate = Gate(parts_of(client).engine.checkpoints.default.checkpoint, monkeypatch)

    def ask(_: int) -> httpx.Response:
        return client.post("/v1/tasks/bank/predict", json={"queries": TEXTS})

    with ThreadPoolExecutor(12) as threads:
        futures = [threads.submit(ask, i) for i in range(12)]
        until(lambda: sum(future.done() for future in futures) >= 6)
        # An adapt is refused by the same queue
        refused_adapt = client.post("/v1/tasks/bank/adapt", json={"support": SUPPORT * 10})
        gate.open()
        answers = [future.result() for future in futures]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < len(answers)
    for answer in [*refused, refused_adapt]:
        assert answer.status_code == 503
        assert answer.json()["code"] == "server_busy"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
    assert predict(client)["version"] == 1
    wait_until_drained(client)


def test_a_text_that_cannot_be_computed_fails_its_own_request_alone(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start_service(runtime="torch")
    adapt(service, "one")
    adapt(service, "two", OTHER_SUPPORT)
    expected = predict(service, "one")["predictions"]
    gate = Gate(parts_of(service).engine.checkpoints.default.checkpoint, monkeypatch)
    with ThreadPoolExecutor(8) as threads:
        good = [threads.submit(predict, service, "one") for _ in range(4)]
        bad = threads.submit(service.post, "/v1/tasks/two/predict", json={"queries": ["fine", POISON]})
        bad_adapt = threads.submit(
            service.post,
            "/v1/tasks/three/adapt",
            json={"support": [*SUPPORT, {"text": POISON, "label": "card_arrival"}]},
        )
        compute_thread = parts_of(service).engine._compute
        until(lambda: len(compute_thread._predictions) == 5 and compute_thread._sliced)
        gate.open()
        for future in good:
            for one, other in zip(expected, future.result()["predictions"], strict=True):
                assert other["scores"] == pytest.approx(one["scores"], abs=1e-5)
        for failed in (bad.result(), bad_adapt.result()):
            assert failed.status_code == 500
            assert failed.json()["code"] == "internal_error"
            assert "cannot be encoded" not in failed.text
    assert predict(service, "two")["version"] == 1
    assert service.get("/v1/tasks/three").status_code == 404
    assert service.get("/livez").status_code == 200
    wait_until_drained(service)
