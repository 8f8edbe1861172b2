"""How the options of a request become inputs of the signature."""

import numpy as np
import pytest

from contract.requests import RequestOptions, inputs_by_id, listed_categories, request_inputs
from contract.signatures import neutral_inputs

_ALL = {
    "history",
    "history_time",
    "k",
    "exclude",
    "exclude_history",
    "diversity",
    "allow_categories",
    "deny_categories",
    "user_age",
}
_HISTORIES = [["a", "b"], ["c"]]


def _plain(inputs):
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in inputs.items()}


def test_without_options_every_input_asks_for_nothing():
    inputs = request_inputs(_ALL, _HISTORIES, 3)
    assert inputs["history_time"].dtype == np.int64
    assert _plain(inputs) == {
        "history": [["a", "b"], ["c", ""]],
        "history_time": [[0], [0]],
        "k": 3,
        "exclude": [[""], [""]],
        "exclude_history": True,
        "diversity": 0.0,
        "allow_categories": [[""], [""]],
        "deny_categories": [[""], [""]],
        "user_age": ["", ""],
    }
    # The neutral inputs are the same for one row.
    neutral = neutral_inputs(_ALL)
    one_row = _plain(request_inputs(_ALL, [["a"]], 3))
    assert neutral == {name: one_row[name] for name in neutral}
    assert set(one_row) - set(neutral) == {"history", "k", "exclude_history"}


def test_only_inputs_of_the_signature_are_sent():
    assert set(request_inputs({"history", "k"}, _HISTORIES, 3)) == {"history", "k"}


def test_options_become_padded_columns():
    options = RequestOptions(
        exclude=[["x"], []],
        exclude_history=False,
        history_times=[[1, 2], [3]],
        profiles=[{"age": "30"}, {}],
        diversity=[0.5, 0.0],
        allow_categories=[[], ["drama", "war"]],
        deny_categories=[["noir"], []],
    )
    assert _plain(request_inputs(_ALL, _HISTORIES, 3, **options)) == {
        "history": [["a", "b"], ["c", ""]],
        "history_time": [[1, 2], [3, 0]],
        "k": 3,
        "exclude": [["x"], [""]],
        "exclude_history": False,
        "diversity": [0.5, 0.0],
        "allow_categories": [["", ""], ["drama", "war"]],
        "deny_categories": [["noir"], [""]],
        "user_age": ["30", ""],
    }
    assert listed_categories(options) == {"drama", "war", "noir"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exclude": [["x"]]}, ValueError, r"exclude must have one entry per history \(2\)"),
        ({"profiles": [{}] * 3}, ValueError, r"profiles must have one entry .* got 3"),
        (
            {"history_times": [[1, 2], [3, 4]]},
            ValueError,
            r"one time per item of the history \(1\), got 2",
        ),
        ({"profiles": [{"agee": "3"}] * 2}, ValueError, "no inputs user_agee; it has allow_categ"),
        ({"deny_category": [["x"]] * 2}, TypeError, "no option deny_category; the options are"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        request_inputs(_ALL, _HISTORIES, 3, **options)


def test_an_option_without_its_input_is_refused_unless_it_asks_for_nothing():
    known = {"history", "k"}
    assert request_inputs(known, _HISTORIES, 3, diversity=0.0, deny_categories=[[], []])
    for options in (
        {"diversity": 0.1},
        {"allow_categories": [["x"], []]},
        {"history_times": [[0, 0], [0]]},
    ):
        with pytest.raises(ValueError, match="the model has no inputs"):
            request_inputs(known, _HISTORIES, 3, **options)


_WITH_FILTERS = {"history", "k", "allow_brand", "deny_brand", "min_price", "max_price"}


def test_filters_become_lists_and_texts_of_numbers():
    inputs = request_inputs(
        _WITH_FILTERS,
        _HISTORIES,
        3,
        allow_values=[{"brand": ["x", "y"]}, {}],
        deny_values=[{}, {"brand": ["z"]}],
        ranges=[{"price": (2.5, None)}, {"price": (None, 10)}],
    )
    del inputs["history"], inputs["k"]
    assert inputs == {
        "allow_brand": [["x", "y"], ["", ""]],
        "deny_brand": [[""], ["z"]],
        "min_price": ["2.5", ""],
        "max_price": ["", "10"],
    }


def test_without_wishes_filters_are_neutral():
    inputs = request_inputs(_WITH_FILTERS, [["a"]], 3)
    neutral = neutral_inputs(_WITH_FILTERS)
    assert {name: inputs[name] for name in neutral} == neutral
    assert set(neutral) == _WITH_FILTERS - {"history", "k"}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"allow_values": [{"colour": ["red"]}, {}]}, "allow_colour"),
        ({"deny_values": [{"colour": ["red"]}, {}]}, "deny_colour"),
        ({"ranges": [{"weight": (1, 2)}, {}]}, "min_weight"),
    ],
)
def test_a_filter_that_the_model_does_not_have_is_refused(option, name):
    with pytest.raises(ValueError, match=f"the model has no inputs {name}"):
        request_inputs(_WITH_FILTERS, _HISTORIES, 3, **option)


def test_filters_need_one_entry_for_each_history():
    with pytest.raises(ValueError, match=r"ranges must have one entry per history \(2\)"):
        request_inputs(_WITH_FILTERS, _HISTORIES, 3, ranges=[{"price": (1, 2)}])


def test_by_id_what_the_server_looks_up_is_not_sent():
    inputs = inputs_by_id(_ALL, ["u", "v"], 3, exclude=[["a"], []])
    assert inputs == {
        "user_id": ["u", "v"],
        "k": 3,
        "exclude": [["a"], [""]],
        "exclude_history": True,
        "diversity": 0.0,
        "allow_categories": [[""], [""]],
        "deny_categories": [[""], [""]],
    }
    given = inputs_by_id(_ALL, ["u", "v"], 3, profiles=[{"age": "7"}, {}])
    assert given["user_age"] == ["7", ""]


def test_by_id_some_things_cannot_be_asked():
    with pytest.raises(TypeError, match="history_times go with histories"):
        inputs_by_id(_ALL, ["u"], 3, history_times=[[1]])
    with pytest.raises(ValueError, match="a profile feature 'id', whose input is user_id"):
        inputs_by_id({*_ALL, "user_id"}, ["u"], 3)
    with pytest.raises(ValueError, match="no inputs user_city"):
        inputs_by_id(_ALL, ["u"], 3, profiles=[{"city": "Delft"}])
