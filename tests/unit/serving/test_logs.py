"""What of the log's records is written."""

import logging

from serving.logs import ErrorThrottle, Throttle


def _record(name, message="failed", error=None):
    info = (type(error), error, None) if error else None
    return logging.LogRecord(name, logging.ERROR, "file", 1, message, ("a",), info)


def test_each_kind_of_exception_passes_once_per_interval():
    now = [0.0]
    throttle = ErrorThrottle(10.0, clock=lambda: now[0])

    def passes(*args, **kwargs):
        record = _record(*args, **kwargs)
        return record if throttle.filter(record) else None

    first = passes("grpc", "Unexpected %s", ValueError("secret"))
    assert first.getMessage() == "exception in a library"
    assert (first.exception_type, first.exc_info, first.held_back) == ("ValueError", None, None)
    now[0] = 9.9
    assert not passes("grpc", "Unexpected %s", ValueError("other"))
    assert not passes("grpc", "Unexpected %s", ValueError("other"))
    # Others are kinds of their own.
    assert passes("grpc", "Unexpected %s", TypeError())
    assert passes("aiohttp", "Unexpected %s", ValueError())
    assert passes("grpc", "something else %s", ValueError())
    now[0] = 10.0
    assert passes("grpc", "Unexpected %s", ValueError()).held_back == 2


def test_records_without_an_exception_and_our_own_tracebacks_stay_whole():
    throttle = ErrorThrottle(10.0, clock=lambda: 0.0)
    for _ in range(3):
        plain = _record("serving.request_log", "request %s")
        assert throttle.filter(plain)
        assert plain.getMessage() == "request a"
    own = _record("serving.rest", "request failed %s", RuntimeError("a bug"))
    assert throttle.filter(own)
    assert own.exc_info


def test_some_lines_of_each_kind_pass_in_an_interval():
    now = [0.0]
    throttle = Throttle(2, 10.0, clock=lambda: now[0])
    assert [throttle.take("a") for _ in range(5)] == [0, 0, None, None, None]
    assert throttle.take("b") == 0
    now[0] = 9.9
    assert throttle.take("a") is None
    now[0] = 10.0
    # Four were held back: three at first, and one just now.
    assert [throttle.take("a") for _ in range(3)] == [4, 0, None]
    assert throttle.take("b") == 0
    now[0] = 20.0
    assert throttle.take("a") == 1


def test_kinds_without_end_do_not_take_memory_without_end():
    throttle = Throttle(1, clock=lambda: 0.0)
    for number in range(5000):
        throttle.take(number)
    assert len(throttle._kinds) <= 1000
