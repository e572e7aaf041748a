"""While the line is full a whole request for scores is turned away unread, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import time
from email.parser import BytesParser
from itertools import pairwise

import pytest

from serving.line import MOST_UNDER_WAY, Line
from serving.load_shedding import path_of_whole_score, turned_away
from tests.load import request

WHOLE = request("POST", "/v1/score", "secret", {"rows": []})


def test_a_whole_request_for_scores_is_known_by_a_few_bytes():
    accounts = request("POST", "/v1/score_accounts", "secret", {"account_ids": ["a"]})

    assert path_of_whole_score(WHOLE) == "/v1/score"
    assert path_of_whole_score(accounts) == "/v1/score_accounts"


@pytest.mark.parametrize(
    "other",
    [
        b"",
        WHOLE[:-1],
        WHOLE + b"P",
        WHOLE + WHOLE,
        WHOLE[: WHOLE.index(b"\r\n\r\n")],
        request("GET", "/readyz"),
        request("POST", "/v1/scores", body={}),
        request("POST", "/v1/score/", body={}),
        request("POST", "/v1/score?a=1", body={}),
        request("POST", "/v1/score", body={}, connection="close"),
        request("POST", "/v1/score", body={}, expect="100-continue"),
        request("POST", "/v1/score", body={}, transfer_encoding="chunked"),
        request("POST", "/v1/score", body={}, content_length="2"),
        request("POST", "/v1/score"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_whatever_else_comes_is_taken_apart(other):
    assert path_of_whole_score(other) is None


def test_the_answer_is_a_problem_like_any_other_with_an_id_of_its_own():
    first, second = (turned_away("/v1/score").partition(b"\r\n\r\n") for _ in range(2))
    status, _, lines = first[0].partition(b"\r\n")
    headers, said = BytesParser().parsebytes(lines), json.loads(first[2])

    assert status == b"HTTP/1.1 429 Too Many Requests"
    assert (headers["content-type"], headers["retry-after"]) == ("application/problem+json", "1")
    assert int(headers["content-length"]) == len(first[2])
    assert (said["status"], said["instance"], said["request_id"]) == (429, "/v1/score", headers["x-request-id"])
    assert json.loads(second[2])["request_id"] != said["request_id"]


def test_one_begins_in_each_turn_of_the_loop_and_one_who_left_the_line_holds_nobody_up():
    line, begun = Line(3, at_once=1), []

    async def come(name):
        if await line.enters():
            begun.append(name)

    async def run():
        tasks = [asyncio.create_task(come(name)) for name in range(6)]
        await asyncio.sleep(0)
        assert line.is_full
        tasks[1].cancel()
        counts = []
        for _ in range(8):
            await asyncio.sleep(0)
            counts.append(len(begun))
        assert all(later - earlier <= 1 for earlier, later in pairwise(counts))
        return await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())

    assert begun == [0, 2, 3], "1 left, 4 and 5 found the line full"
    assert not line.is_full


def test_a_place_is_free_again_whether_its_request_ended_or_was_given_up():
    line, begun = Line(8, at_once=1, places=2), []

    async def work(name, gate):
        assert await line.enters()
        begun.append(name)
        try:
            await gate.wait()
        finally:
            line.leaves()

    async def run():
        gate = asyncio.Event()
        tasks = [asyncio.create_task(work(name, gate)) for name in range(5)]
        for _ in range(8):
            await asyncio.sleep(0)
        assert (begun, line.is_full) == ([0, 1], True), "two have places, three wait for one"
        tasks[0].cancel()
        tasks[2].cancel()
        for _ in range(8):
            await asyncio.sleep(0)
        assert begun == [0, 1, 3]
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())

    assert begun == [0, 1, 3, 4]
    assert not line.is_full


async def works(line, name, parts, done):
    """Work in so many parts, each noted in `done` by its name."""
    assert await line.enters()
    try:
        for part in range(parts):
            if part:
                await line.gives_way()
            done.append(name)
    finally:
        line.leaves()


def test_long_work_keeps_nobody_from_beginning():
    line, done = Line(16, at_once=1), []

    async def run():
        long = [asyncio.create_task(works(line, "long", 100, done)) for _ in range(MOST_UNDER_WAY - 1)]
        while len(done) < 10 * MOST_UNDER_WAY:
            await asyncio.sleep(0)
        for name in range(3):
            before = len(done)
            await works(line, name, 1, done)
            assert len(done) - before <= 4, "a part or two of the others"
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)

    asyncio.run(run())

    assert not line.is_full


def test_nobody_begins_beside_much_long_work_until_some_of_it_ends_or_is_given_up():
    line, done = Line(16, at_once=2), []

    async def run():
        long = [asyncio.create_task(works(line, name, 40, done)) for name in range(MOST_UNDER_WAY)]
        while len(done) < 3 * MOST_UNDER_WAY:
            await asyncio.sleep(0)
        short = asyncio.create_task(works(line, "short", 1, done))
        for _ in range(20):
            await asyncio.sleep(0)
        assert "short" not in done
        assert {done.count(name) for name in range(MOST_UNDER_WAY)} <= set(range(4, 15)), "each has its turns"
        long[0].cancel()
        for _ in range(6):
            await asyncio.sleep(0)
        assert "short" in done
        await asyncio.gather(short, *long, return_exceptions=True)

    asyncio.run(run())

    assert not line.is_full


def test_the_line_is_shorter_while_each_takes_longer_and_long_again_when_nobody_waits():
    line, found, done = Line(64, at_once=1), [], []

    async def work():
        if await line.enters():
            time.sleep(0.02)  # So that ten take as long as one may wait.
            done.append(None)
            line.leaves()

    async def twenty():
        tasks = [asyncio.create_task(work()) for _ in range(20)]
        await asyncio.sleep(0)
        found.append(line.is_nearly_full)
        while len(done) < 5:
            await asyncio.sleep(0)
        found.append(line.is_nearly_full)
        await asyncio.gather(*tasks)
        done.clear()

    async def run():
        await twenty()
        await twenty()

    asyncio.run(run())

    assert found == [False, True, False, True]


def test_who_was_listened_to_counts_before_standing_in_the_line():
    async def run():
        line, loop = Line(4), asyncio.get_running_loop()
        for _ in range(3):
            line.expect(loop)
        counted = line.is_nearly_full
        await asyncio.sleep(0)
        return counted, line.is_nearly_full

    assert asyncio.run(run()) == (True, False)
