"""Documents, beside what RapidJSON 1.1.0 made of them under TF Serving's flags.

The expected errors and texts were printed by RapidJSON itself, in a program of a few lines
around ``ParseStream`` and ``PrettyWriter``.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.json_document import parse_object, show

_SHOWN = [
    (b'{"a":1} trailing', '{\n    "a": 1\n}'),
    (b'{"a":1}}', '{\n    "a": 1\n}'),
    (b'\xef\xbb\xbf {"a":1}', '{\n    "a": 1\n}'),
    (b'{"a":[{"b":[1,{}]},[]]}', '{\n    "a": [{\n            "b": [1, {}]\n        }, []]\n}'),
    ('["é\\u0001/\\"\\\\"]'.encode(), '["é\\u0001/\\"\\\\"]'),
    (
        b"[1e20,1e21,1e-5,1e-7,0.1,1.5e300,-0.0,-0,1.0]",
        "[100000000000000000000.0, 1e21, 0.00001, 1e-7, 0.1, 1.5e300, -0.0, 0, 1.0]",
    ),
    (
        b"[18446744073709551615,-9223372036854775808,100000000000000000000]",
        "[18446744073709551615, -9223372036854775808, 100000000000000000000.0]",
    ),
    (b"[0.0001e310,1e-400]", "[1e306, 0.0]"),
    (b'["\xff"]', '["\ufffd"]'),
    (b'["\\ud83d\\ude00","\\\\ud800"]', '["\U0001f600", "\\\\ud800"]'),
    (b'{"a":null,"b":true,"c":false}', '{\n    "a": null,\n    "b": true,\n    "c": false\n}'),
    (b'{"":[]}', '{\n    "": []\n}'),
    # The writer stops at what is no number.
    (b'{"a":[Inf,-Inf,"Inf"]}', '{\n    "a": ['),
    (b"[1,Infinity,-Infinity,NaN]", "[1, "),
]


def _shown(body: bytes) -> str:
    # What stands alone is shown in the error that it is no object.
    try:
        text = show(parse_object(body))
    except ServingError as e:
        return e.message.removeprefix("JSON Value: ").removesuffix(" Is not object")
    return text[1:-1]  # without the marks around a value of a request


@pytest.mark.parametrize(("body", "text"), _SHOWN)
def test_values_are_shown_as_rapidjson_writes_them(body, text):
    assert _shown(body) == text


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"   ", "The document is empty. at offset: 3"),
        (b"]", "The document is empty. at offset: 0"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b"{,}", "Missing a name for object member. at offset: 1"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b"{/**/}", "Missing a name for object member. at offset: 1"),
        (b'{"a"', "Missing a colon after a name of object member. at offset: 4"),
        (b'{"a":1', "Missing a comma or '}' after an object member. at offset: 6"),
        (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'[{"b":"]"} 5]', "Missing a comma or ']' after an array element. at offset: 11"),
        (b'["a" : 1]', "Missing a comma or ']' after an array element. at offset: 5"),
        (b"[1,2", "Missing a comma or ']' after an array element. at offset: 4"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1.5.5]", "Missing a comma or ']' after an array element. at offset: 4"),
        (b"[1\0]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[", "Invalid value. at offset: 1"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b'{"a":[}', "Invalid value. at offset: 6"),
        (b"hello", "Invalid value. at offset: 0"),
        (b"[tru]", "Invalid value. at offset: 4"),
        (b"[NaX]", "Invalid value. at offset: 3"),
        (b"[Infi]", "Invalid value. at offset: 5"),
        (b"[-Infix]", "Invalid value. at offset: 6"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[.5]", "Invalid value. at offset: 1"),
        (b"[+1]", "Invalid value. at offset: 1"),
        (b"[Inf, Inf, x]", "Invalid value. at offset: 11"),
        (b'\xef\xbb\xbf{"a":}', "Invalid value. at offset: 8"),
        ('{"é":x}'.encode(), "Invalid value. at offset: 6"),
        (b'{"\xff":x}', "Invalid value. at offset: 5"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[1e+x]", "Miss exponent in number. at offset: 4"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[0e400]", "Number too big to be stored in double. at offset: 1"),
        (b'["1e400", %s]' % (b"1" * 310), "Number too big to be stored in double. at offset: 10"),
        (b'{"a":"b', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a":"\0"}', "Missing a closing quotation mark in string. at offset: 6"),
        (b'{"a":"b\\', "Invalid escape character in string. at offset: 7"),
        (b'{"a":"\\x"}', "Invalid escape character in string. at offset: 6"),
        (b'{"a":"\n"}', "Invalid escape character in string. at offset: 6"),
        (b'{"a":"\\u12"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
        (b'["\\ud83d\\ude0"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ud800\\n"]', "The surrogate pair in string is invalid. at offset: 2"),
    ],
)
def test_errors_have_rapidjsons_words_and_offsets(body, error):
    with pytest.raises(ServingError) as e:
        parse_object(body)
    assert e.value.message == f"JSON Parse error: {error}"


@pytest.mark.parametrize("depth", [100, 5000, 200_000])
def test_what_is_nested_deeper_than_any_tensor_is_not_read(depth):
    body = b'{"a":"[", "b":%s[1,"]"]%s, "c":2}' % (b"[" * depth, b"]" * depth)
    document = parse_object(body)
    assert (document["a"], document["c"]) == ("[", 2)


def test_an_error_behind_deep_nesting_has_its_place():
    body = b"{" + b'"a":' + b"[" * 5000 + b"]" * 5000 + b" 5}"
    with pytest.raises(ServingError, match=f"object member. at offset: {len(body) - 2}"):
        parse_object(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _json), st.booleans())
def test_documents_are_read_as_they_were_written(document, ensure_ascii):
    body = json.dumps(document, ensure_ascii=ensure_ascii).encode("utf-8", "replace")
    expected = json.loads(body)
    assert repr(parse_object(body)) == repr(expected)
