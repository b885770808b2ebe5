"""Run coroutines concurrently, and end a block of code from outside its task."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """`asyncio.TaskGroup`, but raise the first failure itself instead of an exception group.

    A failure must not be part of a reference cycle. Such a cycle keeps what the tasks held, bodies of images among it,
    until the garbage collector's next full run. So the failure has no context, which would be the exception group. And
    no variable of a frame in the failure's traceback refers to the failure.
    """
    group = asyncio.TaskGroup()
    failure = None
    try:
        async with group:
            yield group
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
        failures.__traceback__ = None  # Its innermost frame refers to `failures`.
    finally:
        del group
    try:
        if failure is not None:
            raise failure
    finally:
        del failure


async def gather(coroutines: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines concurrently. Unlike `asyncio.gather`, cancel the others as soon as one fails.

    Returns:
        The results, in the order of `coroutines`.

    Raises:
        Exception: the first failure.
    """
    if len(coroutines) == 1:
        return [await coroutines[0]]  # Most requests have one item, and a task would cost more than the call.
    tasks: list[asyncio.Task[_T]] = []
    try:
        async with task_group() as group:
            tasks += [group.create_task(coroutine) for coroutine in coroutines]
        return [task.result() for task in tasks]
    finally:
        del group, tasks  # They refer to the failure, too.


class CancelScope:
    """A block that other code can end with an error of its choice.

    `cancel` cancels the task that runs the block, and the block then raises the given error instead of
    `CancelledError`. Cancellations are counted as `asyncio.timeout` counts them (`Task.uncancel`): nested scopes and
    timeouts each raise their own error, and a cancellation from elsewhere stays a `CancelledError`.
    """

    __slots__ = ("_cancelling", "_error", "_task", "_timer")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        return self

    def cancel(self, error: Exception) -> None:
        """End the block with `error`. Do nothing if the block has ended, or was cancelled before.

        Call it from another task or a callback of the loop. A task that wants to end its own block raises the error.
        """
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    def cancel_after(self, seconds: float, make_error: Callable[[], Exception]) -> None:
        """End the block with `make_error()` if it still runs after so many seconds."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, lambda: self.cancel(make_error()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
        if self._error is None or task is None:
            return
        cancelled_by_others = task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not cancelled_by_others:
            # The error's traceback has the caller's frame, which refers to this object. See `task_group`.
            ending, self._error = self._error, None
            try:
                raise ending from None
            finally:
                del ending
