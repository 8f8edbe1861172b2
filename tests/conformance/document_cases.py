"""How the body of a REST request is read as JSON."""

import gzip
import zlib

from tests.conformance.cases import (
    MODEL,
    Answer,
    Case,
    Rest,
    column,
    outputs,
    predict,
    predictions,
    refused,
    refused_with,
)

_PARSE = "util/json_tensor.cc: ParseJson"
_PARSED = "JSON Parse error: "
_GZIP_TEST = "util/net_http/server/internal/evhttp_request_test.cc: "
_BODY = b'{"inputs": 1}'


def _encoded(body: bytes, encoding: str) -> Rest:
    return Rest("POST", f"/v1/models/{MODEL}:predict", body, {"Content-Encoding": encoding})


def _broken(name: str, body: bytes, error: str) -> Case:
    """A document that RapidJSON 1.1.0 refuses under TF Serving's flags."""
    return Case(name, _PARSE, predict(body), refused(_PARSED + error))


CASES = [
    Case(
        "an empty body",
        "model_servers/http_rest_api_handler_test.cc: PredictRequestErrors",
        predict(b""),
        refused(_PARSED + "The document is empty"),
    ),
    Case(
        "a compressed body",
        _GZIP_TEST + "ValidGzipPost",
        _encoded(gzip.compress(_BODY), "gzip"),
        outputs(1.0),
    ),
    Case(
        "a body that is not compressed, as its header says",
        _GZIP_TEST + "InvalidGzipPost",
        _encoded(_BODY, "gzip"),
        refused_with(_PARSED + "The document is empty"),
    ),
    Case(
        "a compressed body that ends too early",
        "util/net_http/server/internal/evhttp_request.cc: ReadRequestGzipBytes",
        _encoded(gzip.compress(_BODY)[:-6], "gzip"),
        refused_with(_PARSED + "The document is empty"),
    ),
    Case(
        "another compression",
        "util/net_http/server/internal/evhttp_request.cc: NeedUncompressGzipContent",
        _encoded(zlib.compress(_BODY), "deflate"),
        refused(_PARSED + "Invalid value. at offset: 0"),
    ),
    Case(
        "a compressed body that is too large",
        _GZIP_TEST + "GzipExceedingLimit",
        _encoded(gzip.compress(b" " * 2**21), "gzip"),
        Answer(413, has="larger than the limit of 1048576 bytes"),
        differs="TF Serving's limit is 100 MB, and it then reads an empty body.",
    ),
    _broken("white space alone", b" \n ", "The document is empty. at offset: 3"),
    Case(
        "no JSON",
        "model_servers/http_rest_api_handler_test.cc: PredictRequestErrors",
        predict(b"instances = [1, 2]"),
        refused(_PARSED + "Invalid value. at offset: 0"),
    ),
    Case("a list", _PARSE, predict(b"[1]"), refused("JSON Value: [1] Is not object")),
    _broken(
        "an object that does not end",
        b'{"inputs": 1',
        "Missing a comma or '}' after an object member. at offset: 12",
    ),
    _broken(
        "a list that does not end",
        b'{"inputs": [1, 2',
        "Missing a comma or ']' after an array element. at offset: 16",
    ),
    _broken("a comma after the last element", b'{"inputs": [1,]}', "Invalid value. at offset: 14"),
    _broken(
        "a comma after the last member",
        b'{"inputs": 1,}',
        "Missing a name for object member. at offset: 13",
    ),
    _broken("a comment", b"// x\n{}", "Invalid value. at offset: 0"),
    _broken(
        "single quotation marks", b"{'inputs': 1}", "Missing a name for object member. at offset: 1"
    ),
    _broken(
        "no colon",
        b'{"inputs" 1}',
        "Missing a colon after a name of object member. at offset: 10",
    ),
    _broken("a literal cut off", b'{"inputs": tru}', "Invalid value. at offset: 14"),
    _broken(
        "a number that begins with 0",
        b'{"inputs": 01}',
        "Missing a comma or '}' after an object member. at offset: 12",
    ),
    _broken(
        "a point without digits", b'{"inputs": 1.}', "Miss fraction part in number. at offset: 13"
    ),
    _broken(
        "an exponent without digits", b'{"inputs": 1e}', "Miss exponent in number. at offset: 13"
    ),
    _broken(
        "a string that does not end",
        b'{"inputs": "a',
        "Missing a closing quotation mark in string. at offset: 13",
    ),
    _broken(
        "a line break in a string",
        b'{"inputs": "\n"}',
        "Invalid escape character in string. at offset: 12",
    ),
    _broken(
        "an unknown escape",
        b'{"inputs": "\\x"}',
        "Invalid escape character in string. at offset: 12",
    ),
    _broken(
        "an escape of too few digits",
        b'{"inputs": "\\u00e"}',
        "Incorrect hex digit after \\u escape in string. at offset: 12",
    ),
    _broken(
        "the first half of a surrogate pair",
        b'{"inputs": "\\ud83d"}',
        "The surrogate pair in string is invalid. at offset: 12",
    ),
    Case(
        "the second half of a surrogate pair",
        _PARSE,
        predict(b'{"inputs": "\\ude00"}'),
        refused(_PARSED + "The surrogate pair in string is invalid. at offset: 12"),
        differs="It is no text; TF Serving hands three bytes that are no UTF-8 to the model.",
    ),
    Case(
        "a surrogate pair",
        _PARSE,
        predict(b'{"signature_name": "length", "inputs": "\\ud83d\\ude00"}'),
        outputs(4),
    ),
    Case(
        "an escaped NUL",
        _PARSE,
        predict(b'{"signature_name": "length", "inputs": "a\\u0000b"}'),
        outputs(3),
    ),
    Case(
        "bytes that are no UTF-8",
        "util/json_tensor.cc: ParseJson (no kParseValidateEncodingFlag)",
        predict(b'{"signature_name": "one_bytes", "inputs": "\xff\xfe"}'),
        outputs({"b64": "//4="}),
    ),
    Case(
        "text after the document",
        "util/json_tensor.cc: ParseJson (kParseStopWhenDoneFlag)",
        predict(b'{"inputs": 1}} and more'),
        outputs(1.0),
    ),
    Case(
        "a byte order mark",
        "util/json_tensor.cc: ParseJson (EncodedInputStream)",
        predict(b'\xef\xbb\xbf{"inputs": 1}'),
        outputs(1.0),
    ),
    Case(
        "NaN and infinity",
        "util/json_tensor_test.cc: JsontensorTest.MultipleNamedTensor",
        predict(b'{"inputs": [NaN, Infinity, -Infinity]}'),
        outputs([float("nan"), float("inf"), -float("inf")]),
    ),
    Case(
        "short names of infinity, and NaN with a sign",
        "util/json_tensor.cc: ParseJson (kParseNanAndInfFlag)",
        predict(b'{"inputs": [Inf, -Inf, -NaN]}'),
        outputs([float("inf"), -float("inf"), float("nan")]),
    ),
    _broken("infinity cut off", b'{"inputs": Infini}', "Invalid value. at offset: 17"),
    _broken(
        "a number beyond a double",
        b'{"inputs": 1e400}',
        "Number too big to be stored in double. at offset: 11",
    ),
    _broken(
        "an integer beyond a double",
        b'{"inputs": 1' + b"0" * 400 + b"}",
        "Number too big to be stored in double. at offset: 11",
    ),
    Case("a number that is too small", _PARSE, predict(b'{"inputs": 1e-400}'), outputs(0.0)),
    Case(
        "deep nesting where nobody looks",
        "util/json_tensor_test.cc: JsontensorTest.DeeplyNestedWellFormed",
        predict(b'{"instances": [1], "nested":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        predictions([1.0]),
    ),
    Case(
        "deep nesting where a string must be",
        "util/json_tensor_test.cc: JsontensorTest.DeeplyNestedMalformed",
        predict(b'{"signature_name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        refused_with("key must be a string value"),
    ),
    Case(
        "deep nesting in an input",
        "util/json_tensor.cc: FillTensorProto",
        predict(b'{"inputs": ' + b"[" * 100_000 + b"1" + b"]" * 100_000 + b"}"),
        refused_with("Input x has ", " dimensions; the limit is 8 (max_input_rank)"),
        differs="The rank of an input is limited; TF Serving reads it by recursion.",
    ),
    Case(
        "a key twice: the first one counts",
        "util/json_tensor.cc: FillPredictRequestFromJson (FindMember)",
        predict(b'{"inputs": 1, "inputs": 2}'),
        outputs(1.0),
    ),
    Case(
        "an input twice in column format: the first one counts",
        "util/json_tensor.cc: FillTensorMapFromInputsMap (FindMember)",
        predict(b'{"inputs": {"x": 1, "x": 2}}'),
        outputs(1.0),
    ),
    Case(
        "an input twice in a row",
        "util/json_tensor.cc: FillTensorMapFromInstancesList",
        predict(b'{"instances": [{"x": 1, "x": 2}, {"x": 3}]}'),
        refused(
            "Failed to process element: 0 of 'instances' list. JSON object: {\n"
            '    "x": 1\n} has a key more than once'
        ),
        differs="TF Serving gives the second value to the next row.",
    ),
    Case(
        "other keys beside the known ones",
        "util/json_tensor.cc: FillPredictRequestFromJson",
        predict({"inputs": 1, "comment": ["ignored"]}),
        outputs(1.0),
    ),
    Case(
        "an object in an error",
        "util/json_tensor.cc: JsonValueToDebugString (kFormatSingleLineArray)",
        predict({"signature_name": 5, "a": [1, {"b": "c"}], "d": {}}),
        refused(
            'JSON Value: {\n    "signature_name": 5,\n    "a": [1, {\n            "b": "c"\n'
            "        }],\n"
            "    \"d\": {}\n} not formatted correctly. 'signature_name' key must be a string value."
        ),
    ),
    Case(
        "a long string in an error",
        "util/json_tensor.cc: JsonWriterWithLimit",
        column("a" * 1000),
        refused(f'JSON Value: "{"a" * 255} Type: String is not of expected type: float'),
        differs="It is cut too; TF Serving looks at its limit between values only.",
    ),
    Case(
        "a long document in an error",
        "util/json_tensor.cc: JsonValueToDebugString (kMaxJsonDebugStringBytes)",
        predict({"signature_name": 5, "inputs": [1] * 500}),
        refused(
            'JSON Value: {\n    "signature_name": 5,\n    "inputs": ['
            + ", ".join(["1"] * 72)
            + " not formatted correctly. 'signature_name' key must be a string value."
        ),
    ),
    Case(
        "numbers in an error",
        "util/json_tensor.cc: JsonValueToDebugString",
        predict(b"[1, 1.0, 1e21, 1e-7, 18446744073709551615, -0]"),
        Answer(
            400, error="JSON Value: [1, 1.0, 1e21, 1e-7, 18446744073709551615, 0] Is not object"
        ),
    ),
]
