import asyncio
import threading

import pytest

from mmseg_siglip.web.limits import Refusal
from mmseg_siglip.web.waiting_room import WaitingRoom


def test_one_at_a_time_and_few_who_wait():
    inside, most, go = [], [], threading.Event()

    def work(number: int) -> int:
        inside.append(number)
        most.append(len(inside))
        go.wait(10)
        inside.remove(number)
        return number

    async def visit() -> list:
        turns = WaitingRoom(waiting=2)
        asked = [asyncio.create_task(turns(work, number)) for number in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match='2 requests are waiting already') as refused:
            await turns(work, 3)
        assert refused.value.status == 503
        go.set()
        found = await asyncio.gather(*asked)
        return [*found, await turns(work, 4)]

    assert asyncio.run(visit()) == [0, 1, 2, 4] and max(most) == 1


def test_what_fails_gives_its_place_back():
    def fail() -> None:
        raise KeyError

    async def visit() -> int:
        turns = WaitingRoom(waiting=0)
        for _ in range(3):
            with pytest.raises(KeyError):
                await turns(fail)
        return await turns(lambda: 5)

    assert asyncio.run(visit()) == 5
