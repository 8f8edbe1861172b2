"""Recognises addresses of this machine's loopback interface."""

import functools
import ipaddress

_LOOPBACK_NAME = "localhost"
_HOSTS_REMEMBERED = 256  # every request looks them up


@functools.lru_cache(_HOSTS_REMEMBERED)
def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, belongs to this machine's loopback interface."""
    if host.lower() == _LOOPBACK_NAME:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
