"""Decodes and encodes messages, the large ones on a thread of their own."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serving.threads import background_threads

_Result = TypeVar("_Result")

# Messages above this many bytes are large: they would block the event loop for more than a
# millisecond.
_LARGE = 32 * 2**10


class CodecThread:
    """Keeps large messages from delaying small ones.

    Small messages are decoded and encoded on the event loop itself. Large ones are processed one
    after another on a single thread, so that only one takes memory at a time. More threads would
    not be faster, because Python runs one thread at a time.
    """

    def __init__(self) -> None:
        self._thread = background_threads(1, "codec")

    async def run(
        self, num_bytes: int, function: Callable[..., _Result], *arguments: object
    ) -> _Result:
        """Calls ``function`` for a message of ``num_bytes`` bytes and returns its result."""
        if num_bytes <= _LARGE:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def close(self) -> None:
        """Stops the thread once its current work is done."""
        self._thread.shutdown()
