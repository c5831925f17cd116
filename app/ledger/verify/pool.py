"""Work shared out to processes, a little ahead of what is taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_ahead(pool: Executor, call: Callable[[Task], Result], tasks: Iterable[Task], *, ahead: int) -> Iterator[Result]:
    """Yield what `call` returns for each task, in their order; at most `ahead` of them are handed in and not yet taken.

    `Executor.map` hands in all of them before the first result: that is as many as somebody else's database says.
    """
    waiting: deque[Future[Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(call, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
