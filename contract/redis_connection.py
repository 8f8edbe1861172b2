"""Connections to a Redis or Valkey server: its location, its password, and how long to wait.

A location is a URL: ``redis://host:6379/0``, ``rediss://`` with TLS, or ``unix:///path``. Nothing
of this project shows the part of one that may hold a password.
"""

import dataclasses
import socket
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.errors import UserError

if TYPE_CHECKING:
    import redis

# Parameters of a location. The others are those of redis-py for TLS.
PASSWORD_FILE: Final = "password_file"
_DATABASE: Final = "db"
_TLS_PARAMETERS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

_SCHEME, _TLS_SCHEME, _SOCKET_SCHEME = "redis", "rediss", "unix"
_DEFAULT_PORT: Final = 6379
# Whoever waits for a server that hangs goes on after these.
CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
# After half a minute of silence, the system asks whether the other side is still there.
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class RedisLocationError(UserError):
    """A location of a Redis server that cannot be used; the message shows no password."""


def is_redis(location: str) -> bool:
    """Whether a location is that of a Redis server, and not a path."""
    return location.startswith((f"{_SCHEME}:", f"{_TLS_SCHEME}:", f"{_SOCKET_SCHEME}:"))


@dataclasses.dataclass(frozen=True)
class RedisLocation:
    """Where a Redis server is, and how to log in.

    Attributes:
      shown: The location for messages, without user, password and parameters.
      options: Arguments of ``redis.Redis``, except for the password.
      user: Its name; empty is the default user.
      password: The password; empty is none.
      password_file: File that holds the password, in place of ``password``; it is read for each
        connection, so that the password can be replaced.
    """

    shown: str
    options: dict[str, Any]
    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    password_file: str = ""

    @classmethod
    def parse(cls, location: str) -> "RedisLocation":
        """Reads a location.

        Args:
          location: ``redis://[user[:password]@]host[:port][/database]``, the same with
            ``rediss``, or ``unix://[user[:password]@]/path[?db=database]``; with parameters after
            ``?``: ``password_file``, and ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``
            for TLS.

        Raises:
          RedisLocationError: it is no such URL.
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
            # Its text may have a part of the password.
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
        """Of redis-py's ``CredentialProvider``: what to log in with, for each connection.

        Raises:
          redis.AuthenticationError: the file of the password cannot be read, or holds none. With
            any other error, redis-py would keep the connection and use it without a login.
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
                f" {getattr(e, 'strerror', None) or 'it holds no text'}"
            ) from None
        if not password:
            raise _library().AuthenticationError(
                f"{self.password_file} is empty; it must hold the password and nothing else"
            )
        return password


def connect(location: RedisLocation, answer_seconds: float = ANSWER_SECONDS) -> "redis.Redis":
    """Returns a client, which connects when it is first used; for use from several threads.

    Nothing is tried again: what failed may have been done. A connection that the server has closed
    meanwhile is replaced before it is used.

    Args:
      location: Where the server is.
      answer_seconds: Longest time to wait for an answer.

    Raises:
      RedisLocationError: the library is not installed.
    """
    library = _library()
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    has_login = location.user or location.password or location.password_file
    return library.Redis(
        **location.options,
        credential_provider=location if has_login else None,
        decode_responses=True,
        # With the third version, a connection that the server has closed is not replaced.
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=answer_seconds,
        retry=Retry(NoBackoff(), 0),
    )


def errors() -> tuple[type[Exception], ...]:
    """What a client raises that cannot do its work.

    Raises:
      RedisLocationError: the library is not installed.
    """
    return (_library().RedisError, OSError)


def check_location(location: str) -> None:
    """Checks what can be known of the location of a store before it is used.

    Args:
      location: A directory, or the location of a Redis server.

    Raises:
      RedisLocationError: it is neither, or the library is not installed.
    """
    if is_redis(location):
        RedisLocation.parse(location)
        _library()
    elif "://" in location:
        raise RedisLocationError(
            "It must be a local directory, or a server named by redis://, rediss:// or unix://;"
            f" got {location.partition('://')[0]}://..."
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
        f" rediss:// also takes {', '.join(_TLS_PARAMETERS)}. What was given is not shown, because"
        " it may hold a password; in one, every character but letters and digits must be written"
        " as %XX"
    )
