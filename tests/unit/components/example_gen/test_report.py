import itertools

from components.example_gen.report import merge


def test_merge():
    reports = [
        {"read": 1, "bad": {"x": 1}, "time": {"first": 5, "last": 6}},
        {"read": 2, "bad": {"x": 2, "y": 1}, "rows": ["b"]},
        {"time": {"first": 3, "last": 4}, "rows": ["a"]},
    ]
    expected = {
        "read": 3,
        "bad": {"x": 3, "y": 1},
        "time": {"first": 3, "last": 6},
        "rows": ["a", "b"],
    }
    for order in itertools.permutations(reports):
        assert merge(order) == expected
    assert merge([merge(reports[:2]), merge(reports[2:])]) == expected
    assert merge([]) == {}


def test_merge_leaves_its_input_alone():
    first = {"bad": {"x": 1}}
    merge([first, {"bad": {"x": 1}}])
    assert first == {"bad": {"x": 1}}
