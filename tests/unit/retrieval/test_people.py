"""Whose histories tune the index, and whose validate it."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval.people import group_of, read_people
from tests.synthetic_examples import sequence_example, write_examples


def test_groups_are_disjoint_and_about_equal():
    groups = [group_of(str(user).encode()) for user in range(2000)]
    assert groups == [group_of(str(user).encode()) for user in range(2000)]
    assert 0.45 < groups.count("tuning") / 2000 < 0.55


def test_a_history_is_what_comes_before_the_targets(tmp_path):
    examples = [
        sequence_example(f"u{user}", [f"a{user}", f"b{user}", f"c{user}", f"d{user}"], targets)
        for user, targets in enumerate([1, 2, 3, 1, 2, 3, 1, 2])
    ]
    # Nothing before the target: no history to ask with.
    examples.append(sequence_example("only-target", ["x"], 1))
    files = [
        write_examples(tmp_path / "0.gz", examples[:4]),
        write_examples(tmp_path / "1.gz", examples[4:]),
    ]
    got = [
        tuple(item.decode() for item in row if item)
        for group in ("tuning", "validation")
        for row in read_people(files, group, 100, []).history
    ]
    assert sorted(got) == sorted(
        tuple(f"{letter}{user}" for letter in "abcd"[: 4 - targets])
        for user, targets in enumerate([1, 2, 3, 1, 2, 3, 1, 2])
    )


def test_profiles_are_strings_whatever_their_type(tmp_path):
    tuning = [f"u{i}" for i in range(20) if group_of(f"u{i}".encode()) == "tuning"][:2]
    path = write_examples(
        tmp_path / "0.gz",
        [
            sequence_example(tuning[0], ["a", "b"], 1, {"user_city": "Rome", "user_age": 33.0}),
            sequence_example(tuning[1], ["a", "b"], 1),
        ],
    )
    people = read_people([path], "tuning", 10, ["user_age", "user_city"])
    assert people.person["user_city"].tolist() == [b"Rome", b""]
    assert people.person["user_age"].tolist() == [b"33", b""]


@pytest.mark.parametrize("number", [1234567.0, 0.1, -3.14159274, 1e-7, 16777215.0, 2.5e10])
def test_numbers_of_profiles_keep_every_digit(tmp_path, number):
    """The tower reads the text back as the very float32 that it was trained with."""
    (user,) = [f"u{i}" for i in range(20) if group_of(f"u{i}".encode()) == "tuning"][:1]
    example = sequence_example(user, ["a", "b"], 1, {"user_income": number})
    people = read_people(
        [write_examples(tmp_path / "0.gz", [example])], "tuning", 1, ["user_income"]
    )
    text = people.person["user_income"]
    assert tf.strings.to_number(text, tf.float32).numpy().tolist() == [np.float32(number)]


def test_times_stay_beside_their_items(tmp_path):
    tuning = [f"u{i}" for i in range(20) if group_of(f"u{i}".encode()) == "tuning"][:2]
    path = write_examples(
        tmp_path / "0.gz",
        [
            sequence_example(tuning[0], ["a", "b", "c"], 1, times=[10, 20, 30]),
            sequence_example(tuning[1], ["a", "b"], 1, times=[5, 6]),
        ],
    )
    people = read_people([path], "tuning", 10, ["history_time"])
    assert people.history.tolist() == [[b"a", b"b"], [b"a", b""]]
    np.testing.assert_array_equal(people.person["history_time"], [[10, 20], [5, 0]])


def test_nobody_with_a_history_is_an_error(tmp_path):
    path = write_examples(tmp_path / "0.gz", [sequence_example("u", ["x"], 1)])
    with pytest.raises(ValueError, match="at least one person with an item before the targets"):
        read_people([path], "tuning", 10, [])


def test_batches_and_repetitions(tmp_path):
    path = write_examples(
        tmp_path / "0.gz",
        [sequence_example(f"u{i}", [f"i{i}", "t"], 1, {"user_x": str(i)}) for i in range(40)],
    )
    people = read_people([path], "tuning", 7, ["user_x"])
    assert [len(batch) for batch in people.batches(3)] == [3, 3, 1]
    rejoined = np.concatenate([batch.history for batch in people.batches(3)])
    assert rejoined.tolist() == people.history.tolist()
    repeated = people.repeated(9)
    assert repeated.history[7:].tolist() == people.history[:2].tolist()
    assert repeated.person["user_x"][7:].tolist() == people.person["user_x"][:2].tolist()
