"""Coalescing: one call for simultaneous questions, the values that each gets, and failures."""

import asyncio
from collections.abc import Sequence

import pytest

from service.coalescing import Coalescer
from service.timings import Timings, _current


class Calls:
    """Calls that last until the test ends them; a value is its key and the number of writes so far."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.writes = 0
        self.fails = False
        self.gate = asyncio.Event()

    async def __call__(self, keys: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(keys))
        seen = self.writes
        await self.gate.wait()
        if self.fails:
            raise ValueError("away")
        return [f"{key} {seen}" for key in keys]


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_asks_while_a_call_is_under_way_shares_the_next_and_sees_what_was_written_before() -> None:
    async def main() -> None:
        calls = Calls()
        coalescer = Coalescer(calls, most=3)
        first = asyncio.ensure_future(coalescer.get("a"))
        await _turns()
        assert calls.batches == [["a"]], "nobody waits while nothing is under way"
        calls.writes = 1
        later = [asyncio.ensure_future(coalescer.get(key)) for key in "bcdab"]
        await _turns()
        assert len(calls.batches) == 1
        calls.gate.set()
        assert await first == "a 0"
        assert await asyncio.gather(*later) == ["b 1", "c 1", "d 1", "a 1", "b 1"]
        assert calls.batches == [["a"], ["b", "c", "d"], ["a", "b"]]
        assert await coalescer.get("e") == "e 1"

    asyncio.run(main())


def test_a_failure_reaches_all_who_share_the_call_and_nobody_after() -> None:
    async def main() -> None:
        calls = Calls()
        coalescer = Coalescer(calls, most=10)
        calls.fails = True
        asking = [asyncio.ensure_future(coalescer.get(key)) for key in "ab"]
        await _turns()
        calls.gate.set()
        for each in asking:
            with pytest.raises(ValueError, match="away"):
                await each
        calls.fails = False
        assert await coalescer.get("a") == "a 0"

    asyncio.run(main())


def test_a_key_of_its_own_trouble_leaves_its_neighbours_alone() -> None:
    async def main() -> None:
        async def call(keys: Sequence[str]) -> Sequence[str | Exception]:
            return [ValueError("damaged") if key == "b" else key.upper() for key in keys]

        coalescer = Coalescer(call, most=10)
        answers = await asyncio.gather(*(coalescer.get(key) for key in "abc"), return_exceptions=True)
        assert (answers[0], answers[2]) == ("A", "C")
        assert isinstance(answers[1], ValueError)

    asyncio.run(main())


def test_one_who_gives_up_is_not_asked_for_and_takes_nobody_along() -> None:
    async def main() -> None:
        calls = Calls()
        coalescer = Coalescer(calls, most=10)
        first, second, third = (asyncio.ensure_future(coalescer.get(key)) for key in "abc")
        await _turns()
        assert calls.batches == [["a", "b", "c"]]
        fourth, fifth = (asyncio.ensure_future(coalescer.get(key)) for key in "de")
        await _turns()
        second.cancel()
        fourth.cancel()
        await _turns()
        calls.gate.set()
        assert await asyncio.gather(first, third, fifth) == ["a 0", "c 0", "e 0"]
        assert calls.batches[1:] == [["e"]]

    asyncio.run(main())


def test_a_call_belongs_to_no_request() -> None:
    async def main() -> None:
        timings = Timings()
        _current.set(timings)
        seen: list[Timings | None] = []

        async def call(keys: Sequence[str]) -> Sequence[str]:
            seen.append(_current.get(None))
            return keys

        await Coalescer(call, most=1).get("a")
        assert seen == [None]

    asyncio.run(main())
