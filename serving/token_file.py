"""The file of bearer tokens that server and client read, and the header that carries one."""

import re
from pathlib import Path

AUTHORIZATION = "Authorization"
SCHEME = "Bearer"

_COMMENT = "#"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_MIN_CHARACTERS = 16


class TokenFileError(ValueError):
    """A file of tokens that holds none, or a line that is none; the message does not show it."""


def read_tokens(path: Path) -> list[str]:
    """Reads a file with one token per line; empty lines and those with ``#`` in front are none.

    Returns:
      The tokens, at least one, in the order of the file.

    Raises:
      OSError: the file cannot be read.
      TokenFileError: it holds no token, or a line that is none.
    """
    tokens = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        token = line.strip()
        if not token or token.startswith(_COMMENT):
            continue
        if len(token) < _MIN_CHARACTERS or not _TOKEN.fullmatch(token):
            raise TokenFileError(
                f"{path}, line {number}: a token must have {_MIN_CHARACTERS} characters or more,"
                f" of letters, digits and ._~+/-, with = at its end only; got {len(token)}"
                " characters. `openssl rand -hex 32` makes one"
            )
        tokens.append(token)
    if not tokens:
        raise TokenFileError(
            f"{path} holds no token; write one per line, for example of `openssl rand -hex 32`"
        )
    return tokens


def authorization(token: str) -> str:
    """The value of the ``Authorization`` header that carries ``token``."""
    return f"{SCHEME} {token}"
