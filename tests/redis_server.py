"""A real Redis or Valkey server, which can be killed, started again, and made to hang."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.running_server import LONG_SECONDS, wait_until

_PROGRAMS = ("valkey-server", "redis-server")


class RedisServer:
    """Context manager: a server on a free port of the loopback that keeps what it acknowledges.

    Attributes:
      location: Its URL, without a password.
      process: The process that runs.
    """

    def __init__(self, folder: Path, *settings: str):
        """Names the files; ``start`` starts it.

        Args:
          folder: For its data; is made.
          *settings: Further arguments; the last one of a name wins.
        """
        programs = [path for path in map(shutil.which, _PROGRAMS) if path]
        assert programs, (
            "neither valkey-server nor redis-server is installed: apt-get update && (apt-get"
            " install --yes --no-install-recommends valkey-server || apt-get install --yes"
            " --no-install-recommends redis-server)"
        )
        folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._command = [
            *(programs[0], "--port", str(self._port), "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--save", "", "--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", "always"),
            *settings,
        ]
        self.location = f"redis://127.0.0.1:{self._port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, with what is in its folder, and waits until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def kill(self) -> None:
        """Ends it at once, as ``kill -9`` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(LONG_SECONDS)

    def hang(self) -> None:
        """Stops it: it takes connections, and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets it answer again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """A client for tests that look at, or change, what is there."""
        return redis.Redis(port=self._port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self._command[0]} ended"
        try:
            return self.client().ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False
