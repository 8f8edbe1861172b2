"""The client reports categories that the catalogue does not have."""

import warnings

import pytest

from contract.requests import RequestOptions
from serving.client import UnknownCategoryWarning
from serving.client.categories import CategoryCheck

_NAMES = ("Drama", "Comedy", "Horror", "Film-Noir", "War", "Western")


@pytest.fixture
def check():
    check = CategoryCheck()
    check.learn(_NAMES)
    return check


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Horrrror", "did you mean 'Horror'?"),
        ("horror", "did you mean 'Horror'?"),
        ("FILM NOIR", "did you mean 'Film-Noir'?"),
        ("xyz", "the largest categories are 'Drama', 'Comedy', 'Horror', 'Film-Noir', 'War'"),
    ],
)
def test_the_nearest_category_is_named(check, name, hint):
    with pytest.warns(UnknownCategoryWarning) as caught:
        check.warn(RequestOptions(deny_categories=[["Drama", name], []]))
    (message,) = [str(warning.message) for warning in caught]
    assert message == f"no item of the catalogue has the category {name!r}; {hint}"


def test_known_categories_are_not_reported(check):
    options = RequestOptions(allow_categories=[["Drama", ""]], deny_categories=[["Horror"]])
    assert not check.must_ask(options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.warn(options)


def test_the_catalogue_is_asked_only_when_a_name_is_not_known(check):
    assert not CategoryCheck().must_ask(RequestOptions(diversity=1.0))
    assert CategoryCheck().must_ask(RequestOptions(allow_categories=[["Drama"]]))
    new = RequestOptions(allow_categories=[["Musical"]])
    assert check.must_ask(new)  # a new version may have brought it
    check.learn([*_NAMES, "Musical"])
    assert not check.must_ask(new)


def test_a_name_is_reported_once(check):
    options = RequestOptions(deny_categories=[["Gone"]])
    with pytest.warns(UnknownCategoryWarning):
        check.warn(options)
    assert not check.must_ask(options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.warn(options)


def test_as_an_error_it_is_raised_every_time(check):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownCategoryWarning)
        for _ in range(2):
            with pytest.raises(UnknownCategoryWarning, match="did you mean 'Horror'"):
                check.warn(RequestOptions(deny_categories=[["Horrrror"]]))
