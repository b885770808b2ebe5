"""Concurrent coroutines, and blocks that are ended from outside their tasks."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from gateway.concurrency import CancelScope, gather


class EndedError(Exception):
    """What a test ends a block with."""


async def value_after(seconds: float, value: int) -> int:
    await asyncio.sleep(seconds)
    return value


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_gather_returns_results_in_order(count: int) -> None:
    assert await gather([value_after(0.02 - 0.01 * i, i) for i in range(count)]) == list(range(count))


@pytest.mark.parametrize("others", [0, 2])
async def test_gather_raises_the_first_failure_and_cancels_the_others(others: int) -> None:
    cancelled = 0

    async def fail() -> int:
        await asyncio.sleep(0.01)
        raise EndedError

    async def wait() -> int:
        nonlocal cancelled
        try:
            return await value_after(30, 1)
        except asyncio.CancelledError:
            cancelled += 1
            raise

    with pytest.raises(EndedError):
        await gather([fail(), *(wait() for _ in range(others))])
    assert cancelled == others


async def sleep_in(scope: CancelScope) -> None:
    with scope:
        await asyncio.sleep(30)


def pending_cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


class TestCancelScope:
    async def test_the_block_raises_the_reason_and_the_task_goes_on(self) -> None:
        scope = CancelScope()
        asyncio.get_running_loop().call_soon(scope.cancel, EndedError())
        with pytest.raises(EndedError):
            await sleep_in(scope)
        assert pending_cancellations() == 0
        await asyncio.sleep(0)

    async def test_the_first_reason_counts(self) -> None:
        scope, loop = CancelScope(), asyncio.get_running_loop()
        loop.call_soon(scope.cancel, EndedError("first"))
        loop.call_soon(scope.cancel, EndedError("second"))
        with pytest.raises(EndedError, match="first"):
            await sleep_in(scope)
        assert pending_cancellations() == 0

    async def test_after_the_block_nothing_is_cancelled(self) -> None:
        with CancelScope() as scope:
            scope.cancel_after(0.01, EndedError)
        scope.cancel(EndedError())
        await asyncio.sleep(0.03)

    async def test_after_so_many_seconds(self) -> None:
        scope = CancelScope()
        scope.cancel_after(0.01, EndedError)
        with pytest.raises(EndedError):
            await sleep_in(scope)

    async def test_a_failure_of_the_block_itself_is_not_replaced(self) -> None:
        async def block() -> None:
            with CancelScope() as scope:
                asyncio.get_running_loop().call_soon(scope.cancel, EndedError())
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    raise ValueError from None

        with pytest.raises(ValueError):
            await block()
        assert pending_cancellations() == 0

    @pytest.mark.parametrize("scope_first", [True, False])
    async def test_a_cancellation_from_elsewhere_stays_one(self, scope_first: bool) -> None:
        """Even if it comes in the same iteration of the loop, as when a server stops."""
        scope = CancelScope()
        task = asyncio.create_task(sleep_in(scope))
        await asyncio.sleep(0)
        if not scope_first:
            task.cancel()
        scope.cancel(EndedError())
        if scope_first:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    async def test_a_timeout_within_that_expires_is_not_the_scopes(self) -> None:
        with CancelScope() as scope:
            scope.cancel_after(30, EndedError)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(30), 0.01)
            await asyncio.sleep(0)

    async def test_a_timeout_within_does_not_hide_the_reason(self) -> None:
        async def block() -> None:
            with CancelScope() as scope:
                scope.cancel_after(0.01, EndedError)
                async with asyncio.timeout(30):
                    await asyncio.sleep(30)

        with pytest.raises(EndedError):
            await block()
        assert pending_cancellations() == 0

    async def test_a_timeout_within_that_expires_at_the_same_time(self) -> None:
        async def block() -> None:
            loop = asyncio.get_running_loop()
            with CancelScope() as scope:
                async with asyncio.timeout(None) as timeout:
                    timeout.reschedule(loop.time())  # cancels the task in the loop's next iteration
                    loop.call_soon(scope.cancel, EndedError())
                    await asyncio.sleep(30)

        with pytest.raises(EndedError):
            await block()
        assert pending_cancellations() == 0

    async def test_a_timeout_around_that_expires_at_the_same_time(self) -> None:
        async def block() -> None:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(None) as timeout:
                with CancelScope() as scope:
                    timeout.reschedule(loop.time())
                    loop.call_soon(scope.cancel, EndedError())
                    await asyncio.sleep(30)

        with pytest.raises(TimeoutError):
            await block()
        assert pending_cancellations() == 0

    async def test_a_group_of_tasks_within_is_cancelled(self) -> None:
        cancelled = 0

        async def work() -> int:
            nonlocal cancelled
            try:
                return await value_after(30, 1)
            except asyncio.CancelledError:
                cancelled += 1
                raise

        async def block() -> None:
            with CancelScope() as scope:
                scope.cancel_after(0.01, EndedError)
                await gather([work(), work()])

        with pytest.raises(EndedError):
            await block()
        assert cancelled == 2


async def test_what_failed_and_cancelled_tasks_held_is_freed_at_once() -> None:
    """Without the garbage collector, whose next full run may be minutes away."""

    class Body:
        pass

    held: list[weakref.ref[Body]] = []

    async def hold(fails: bool) -> None:
        body = Body()
        held.append(weakref.ref(body))
        await asyncio.sleep(0)
        if fails:
            raise ValueError
        await asyncio.sleep(60)

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            await gather([hold(False), hold(True), hold(False)])
        await asyncio.sleep(0)
        assert [body() for body in held] == [None, None, None]
    finally:
        gc.enable()


async def test_what_an_ended_block_held_is_freed_at_once() -> None:
    class Body:
        pass

    held: list[weakref.ref[Body]] = []

    async def block() -> None:
        body = Body()
        held.append(weakref.ref(body))
        with CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel, ValueError())
            await asyncio.sleep(60)

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            await block()
        await asyncio.sleep(0)
        assert [body() for body in held] == [None]
    finally:
        gc.enable()
