"""Connections to a Redis or Valkey server: location, password and timeouts.

A location is a URL: ``redis://host:6379/0``, ``rediss://`` with TLS, or ``unix:///path``. Messages
and logs never show the part of a location that may contain a password.
"""

import dataclasses
import socket
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.errors import UserError

if TYPE_CHECKING:
    import redis

# Parameters of a location. Those for TLS have the names that redis-py gives them.
PASSWORD_FILE: Final = "password_file"
_DATABASE: Final = "db"
_TLS_PARAMETERS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

_SCHEME, _TLS_SCHEME, _SOCKET_SCHEME = "redis", "rediss", "unix"
_DEFAULT_PORT: Final = 6379
# Time limits for a server that hangs, in seconds.
CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
# After 30 seconds of silence, the operating system checks whether the other side is still there.
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class RedisLocationError(UserError):
    """An invalid location of a Redis server; the message never shows a password."""


def is_redis(location: str) -> bool:
    """Whether a location names a Redis server and not a path."""
    return location.startswith((f"{_SCHEME}:", f"{_TLS_SCHEME}:", f"{_SOCKET_SCHEME}:"))


@dataclasses.dataclass(frozen=True)
class RedisLocation:
    """The location of a Redis server, and how to log in.

    Attributes:
      shown: The location for messages, without user, password and parameters.
      options: Arguments of ``redis.Redis`` other than user and password.
      user: Name of the user; empty for the default user.
      password: The password; empty for none.
      password_file: File with the password, used instead of ``password``. It is read for each
        connection, so that the password can be changed without a restart.
    """

    shown: str
    options: dict[str, Any]
    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    password_file: str = ""

    @classmethod
    def parse(cls, location: str) -> "RedisLocation":
        """Parses a location.

        Args:
          location: ``redis://[user[:password]@]host[:port][/database]``, the same with
            ``rediss``, or ``unix://[user[:password]@]/path[?db=database]``. Parameters may follow
            after ``?``: ``password_file`` and, with ``rediss``, ``ssl_ca_certs``,
            ``ssl_certfile`` and ``ssl_keyfile``.

        Raises:
          RedisLocationError: if ``location`` is not such a URL, or has both a password and a
            ``password_file``.
        """
        try:
            parts = urllib.parse.urlsplit(location)
            host, port = parts.hostname, parts.port
            parameters = dict(
                urllib.parse.parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
                if parts.query
                else ()
            )
            is_socket = parts.scheme == _SOCKET_SCHEME
            path = urllib.parse.unquote(parts.path)
            text = parameters.pop(_DATABASE, "0") if is_socket else path.removeprefix("/") or "0"
            database = int(text)
        except ValueError:
            # The text of the original error may contain a part of the password.
            raise _no_url() from None
        if parts.fragment or bool(host) == is_socket or (is_socket and not path):
            raise _no_url()
        password_file = parameters.pop(PASSWORD_FILE, "")
        known = _TLS_PARAMETERS if parts.scheme == _TLS_SCHEME else ()
        if not set(parameters) <= set(known):
            raise _no_url()
        if is_socket:
            shown = f"{_SOCKET_SCHEME}://{path}"
            options: dict[str, Any] = {"unix_socket_path": path}
        else:
            port = _DEFAULT_PORT if port is None else port
            shown = f"{parts.scheme}://{host}:{port}/{database}"
            options = {
                "host": host,
                "port": port,
                "ssl": parts.scheme == _TLS_SCHEME,
                "socket_keepalive": True,
                "socket_keepalive_options": _KEEPALIVE,
                **parameters,
            }
        password = urllib.parse.unquote(parts.password or "")
        if password and password_file:
            raise RedisLocationError(
                f"The location {shown} has a password and {PASSWORD_FILE}; give one of them"
            )
        user = urllib.parse.unquote(parts.username or "")
        return cls(shown, {**options, "db": database}, user, password, password_file)

    def get_credentials(self) -> tuple[str, ...]:
        """Returns the credentials for a new connection, as redis-py's ``CredentialProvider`` does.

        Raises:
          redis.AuthenticationError: if the password file cannot be read or is empty. After any
            other error, redis-py would keep the connection and use it without a login.
        """
        password = self.password or self._password_of_file()
        return (self.user, password) if self.user else (password,)

    def _password_of_file(self) -> str:
        if not self.password_file:
            return ""
        try:
            password = Path(self.password_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as e:
            raise _library().AuthenticationError(
                f"the password cannot be read from {self.password_file}:"
                f" {getattr(e, 'strerror', None) or 'it is not a text file'}"
            ) from None
        if not password:
            raise _library().AuthenticationError(
                f"{self.password_file} is empty; it must hold the password and nothing else"
            )
        return password


def connect(location: RedisLocation, answer_seconds: float = ANSWER_SECONDS) -> "redis.Redis":
    """Returns a client for several threads, which connects when it is first used.

    The client does not retry commands, because a command that failed may have been executed. It
    replaces a connection that the server has closed before using it.

    Args:
      location: Where the server is.
      answer_seconds: Longest time to wait for an answer, in seconds.

    Raises:
      RedisLocationError: if the Python package redis is not installed.
    """
    library = _library()
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    has_login = location.user or location.password or location.password_file
    return library.Redis(
        **location.options,
        credential_provider=location if has_login else None,
        decode_responses=True,
        # With version 3 of the protocol, redis-py does not replace a connection that the server
        # has closed.
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=answer_seconds,
        retry=Retry(NoBackoff(), 0),
    )


def errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions that a client raises if a command fails.

    Raises:
      RedisLocationError: if the Python package redis is not installed.
    """
    return (_library().RedisError, OSError)


def check_location(location: str) -> None:
    """Checks the location of a store as far as possible without using it.

    Args:
      location: A directory, or the location of a Redis server.

    Raises:
      RedisLocationError: if ``location`` is neither, or names a Redis server and the Python
        package redis is not installed.
    """
    if is_redis(location):
        RedisLocation.parse(location)
        _library()
    elif "://" in location:
        raise RedisLocationError(
            "The location must be a local directory, or a server named by redis://, rediss:// or"
            f" unix://; got {location.partition('://')[0]}://..."
        )


def _library() -> Any:
    try:
        import redis
    except ImportError as e:
        raise RedisLocationError(
            "A location that begins with redis://, rediss:// or unix:// needs the Python package"
            " redis, which is not installed; install it, or this project with its extra 'redis'"
        ) from e
    return redis


def _no_url() -> RedisLocationError:
    return RedisLocationError(
        "The location of a Redis server must be redis://[user@]host[:port][/database], the same"
        " with rediss://, or unix:///path, each with ?password_file=FILE if it needs a password;"
        f" rediss:// also takes {', '.join(_TLS_PARAMETERS)}. The given location is not shown,"
        " because it may contain a password. In a password, every character other than letters and"
        " digits must be written as %XX"
    )
