"""Which addresses are this machine's loopback."""

import functools
import ipaddress

_LOOPBACK_NAME = "localhost"
_HOSTS_REMEMBERED = 256  # they are looked at in every request


@functools.lru_cache(_HOSTS_REMEMBERED)
def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is this machine's loopback."""
    if host.lower() == _LOOPBACK_NAME:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
