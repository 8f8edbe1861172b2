"""Where messages are decoded and encoded."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serving.threads import background_threads

_Result = TypeVar("_Result")

# Bytes above which a message is large: more than a millisecond of the event loop.
_LARGE = 32 * 2**10


class CodecThread:
    """Keeps large messages from holding up small ones.

    Small messages are decoded and encoded on the event loop itself. Large ones take their turn
    on a single thread: one after the other, they need the memory of one, and as Python runs one
    thread at a time, more threads would be no faster.
    """

    def __init__(self) -> None:
        self._thread = background_threads(1, "codec")

    async def run(
        self, num_bytes: int, function: Callable[..., _Result], *arguments: object
    ) -> _Result:
        """Calls ``function`` for a message of ``num_bytes``, and returns what it returns."""
        if num_bytes <= _LARGE:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def close(self) -> None:
        """Ends the thread once what it does has ended."""
        self._thread.shutdown()
