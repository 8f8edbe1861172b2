"""What a client sends is what the server reads."""

from hypothesis import given
from hypothesis import strategies as st

from contract.catalogue_changes import CATEGORICAL, NUMERIC, Upsert, parse_id, parse_item
from contract.catalogue_messages import remove_fields, upsert_fields

_texts = st.text(min_size=1, max_size=5)
_upserts = st.builds(
    Upsert,
    title=st.none() | st.text(max_size=5),
    features=st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "price": st.floats(allow_nan=False, allow_infinity=False),
            "genre": st.lists(_texts, max_size=3).map(tuple),
        },
    ),
    in_stock=st.none() | st.booleans(),
)


@given(st.dictionaries(_texts, _upserts, max_size=3), st.text(max_size=3))
def test_items_are_read_as_they_were_meant(items, key):
    fields = upsert_fields(items, key)
    kinds = {"price": NUMERIC, "genre": CATEGORICAL}
    assert dict(parse_item(item, kinds) for item in fields["items"]) == items
    assert fields.get("key", "") == key


def test_removals_are_read_as_they_were_meant():
    assert remove_fields(["a", "b"], "") == {"items": ["a", "b"]}
    assert [parse_id(item) for item in remove_fields(("a",), "k")["items"]] == ["a"]
