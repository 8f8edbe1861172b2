"""Reads the bearer token files of server and client, and builds the header for a token."""

import re
from pathlib import Path

AUTHORIZATION = "Authorization"
SCHEME = "Bearer"

_COMMENT = "#"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_MIN_CHARACTERS = 16


class TokenFileError(ValueError):
    """A token file is empty or has an invalid line; the message does not show that line."""


def read_tokens(path: Path) -> list[str]:
    """Reads a file with one token per line; skips empty lines and lines that begin with ``#``.

    Returns:
      The tokens, at least one, in the order of the file.

    Raises:
      OSError: the file cannot be read.
      TokenFileError: the file holds no token, or one of its lines is not a token.
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
            f"{path} holds no token; write one per line, for example from `openssl rand -hex 32`"
        )
    return tokens


def authorization(token: str) -> str:
    """Returns the value of the ``Authorization`` header for ``token``."""
    return f"{SCHEME} {token}"
