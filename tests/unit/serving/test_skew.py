"""Requests beside training, by hand."""

import math

import pytest

from serving.request_sample import RequestSample
from serving.skew import Trained, skew

_SECONDS = 1_795_706_188  # 2026-11-26T15:16:28Z


def _samples(*histories, **inputs):
    return [
        RequestSample("2026-11-26T15:16:28Z", "mind", 7, "", {"history": list(h), **inputs})
        for h in histories
    ]


def _trained(counts=None, person_inputs=(), lengths=(), given=None):
    return Trained(counts, tuple(person_inputs), tuple(lengths), given or {})


def test_unknown_items_and_requests_without_a_known_one():
    found = skew(_samples("abx", "xy", "", "a"), _trained({"a": 1, "b": 0}))
    assert found.unknown_items == pytest.approx(3 / 6)
    assert found.cold == pytest.approx(2 / 4)
    assert "There are only 4 requests: small differences mean nothing." in found.findings
    assert any("does not know 50.0% of the items" in text for text in found.findings)
    assert any("50.0% of the requests have no item" in text for text in found.findings)


def test_popularity_in_ten_buckets_of_equal_parts_of_train():
    # Ten items of one tenth of train each, and one that never stood in train.
    counts = {f"i{n}": 5 for n in range(10)} | {"new": 0}
    evenly = skew(_samples([f"i{n}" for n in range(10)]), _trained(counts))
    assert evenly.trained_popularity == pytest.approx([0.1] * 10)
    assert evenly.popularity_divergence == pytest.approx(0.0)
    found = skew(_samples(["i0", "new", "unknown"]), _trained(counts))
    # The new item is with the least popular ones, the unknown one nowhere.
    assert found.asked_popularity == pytest.approx([0.5, *[0.0] * 8, 0.5])
    # Eight buckets have .1 and 0, of which .1 log2 2 is left; two have .1 and .5.
    expected = (0.8 + 2 * 0.1 * math.log2(0.1 / 0.3) + 2 * 0.5 * math.log2(0.5 / 0.3)) / 2
    assert found.popularity_divergence == pytest.approx(expected)
    assert any("has 50.0% of the items in the requests and 50.0%" in t for t in found.findings)


def test_one_popular_item_fills_a_bucket_of_its_own():
    found = skew(_samples(["rare"]), _trained({"hit": 90, "rare": 10}))
    assert found.trained_popularity == pytest.approx([0.9, *[0.0] * 8, 0.1])
    assert found.asked_popularity == pytest.approx([*[0.0] * 9, 1.0])


def test_lengths_in_powers_of_two():
    same = skew(_samples("ab", "abcde"), _trained(lengths=[3, 3, 6, 7]))
    assert same.length_divergence == pytest.approx(0.0)
    assert same.trained_lengths == pytest.approx((4.5, 6.7))
    assert same.asked_lengths == pytest.approx((3.5, 4.7))
    found = skew(_samples("a", "a"), _trained(lengths=[3, 3]))
    assert found.length_divergence == pytest.approx(1.0)
    assert any("the median is 1 items in the requests and 3 in" in t for t in found.findings)


def test_lengths_count_as_far_as_the_model_reads():
    trained = Trained(None, (), history_lengths=(170, 390), max_history=4)
    found = skew(_samples("abcd", "abcdefg"), trained)
    assert found.trained_lengths == found.asked_lengths == (4.0, 4.0)
    assert found.length_divergence == 0.0


def test_empty_places_in_a_history_are_no_items():
    found = skew(_samples(["", "a", "", "b"]), _trained({"a": 1, "b": 1}))
    assert found.asked_lengths == (2.0, 2.0)
    assert found.unknown_items == 0.0


def test_inputs_that_requests_lack():
    samples = [
        *_samples("a", "a", "a", user_age="35"),
        *_samples("a", user_age="35", user_city="x"),
    ]
    names = ("user_age", "user_city", "user_rare", "user_sex")
    given = {"user_age": 1.0, "user_city": 0.8, "user_rare": 0.01, "user_sex": 0.9}
    found = skew(samples, _trained(person_inputs=names, given=given))
    assert found.inputs == {
        "user_age": (1.0, 1.0),
        "user_city": (0.8, 0.25),
        "user_rare": (0.01, 0.0),
        "user_sex": (0.9, 0.0),
    }
    assert found.findings[1:] == (
        "The model reads user_city. 25.0% of the requests give it, while 80.0% of the examples "
        "have it.",
        "The model reads user_sex. No request gives it, while 90.0% of the examples have it.",
    )
    assert found.unread == ()
    without_examples = skew(samples, _trained(person_inputs=["user_sex"]))
    assert without_examples.inputs == {"user_sex": (None, 0.0)}
    assert without_examples.findings[1:] == (
        "The model reads user_sex. No request gives it.",
        "The requests give user_age, which the model does not read.",
        "The requests give user_city, which the model does not read.",
    )


def test_times_in_milliseconds_stand_out():
    trained = _trained(person_inputs=["history_time"])
    good = skew(_samples("a", history_time=[_SECONDS]), trained)
    assert good.future_times == 0.0
    assert len(good.findings) == 1
    bad = skew(_samples("a", history_time=[1000 * _SECONDS]), trained)
    assert bad.future_times == 1.0
    assert "in seconds since 1970" in bad.findings[1]
    assert skew(_samples("a"), _trained()).future_times is None


def test_what_is_not_known_is_not_compared():
    found = skew(_samples(*["ab"] * 100), _trained())
    assert found.unknown_items is found.cold is found.trained_lengths is None
    assert found.length_divergence is found.popularity_divergence is None
    assert found.findings == ()
