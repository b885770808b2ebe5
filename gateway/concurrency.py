"""Coroutines side by side, with one plain exception where several could fail."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


async def together(coroutines: Sequence[Coroutine[Any, Any, _A]]) -> list[_A]:
    """Their results, in order. The first failure is raised as it is, once the others have been cancelled."""
    if len(coroutines) == 1:
        return [await coroutines[0]]  # the common case needs no task
    with _first_failure():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


async def both(a: Coroutine[Any, Any, _A], b: Coroutine[Any, Any, _B]) -> tuple[_A, _B]:
    """As ``together``, for two results of different types."""
    with _first_failure():
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(a), group.create_task(b)
    return first.result(), second.result()


@contextmanager
def _first_failure() -> Iterator[None]:
    try:
        yield
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
