"""JSON values of each type, and how outputs of each type are written."""

from tests.conformance.cases import Answer, Case, column, outputs, predictions, refused, rows

_TEST = "util/json_tensor_test.cc: JsontensorTest."
_CODE = "util/json_tensor.cc: "
_ADD_VALUE = _CODE + "AddValueToTensor"
_BASE64 = _CODE + "JsonDecodeBase64Object"


def _mistyped(name: str, signature: str, value: object, shown: str, kind: str, dtype: str) -> Case:
    return Case(
        name,
        _ADD_VALUE,
        column([value], signature),
        refused(f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype}"),
    )


_LARGEST_FLOAT64 = 1.7976931348623157e308
_SMALLEST_FLOAT64 = 2.2250738585072014e-308

CASES = [
    # Floats.
    Case(
        "whole numbers for a float",
        _TEST + "MixedInputForFloatTensor",
        rows([1, 2.0, 3, 5.003, 0.007, 0.0]),
        predictions([1.0, 2.0, 3.0, 5.003, 0.007, 0.0]),
    ),
    Case(
        "whole numbers for a double",
        _TEST + "MixedInputForDoubleTensor",
        rows([1.0, 2, 0.662, 0], "float64"),
        predictions([1.0, 2.0, 0.662, 0.0]),
    ),
    Case(
        "an integer that a float cannot hold",
        _TEST + "FloatTensorWithPrecisionLoss",
        rows([16777217, 16777217.0]),
        predictions([16777216.0, 16777216.0]),
    ),
    Case(
        "the digits of a float",
        _CODE + "WriteDecimal",
        column([1435774380]),
        outputs([1435774300.0]),
        differs="The fewest digits that give the same float32; TF Serving writes six, or nine.",
    ),
    Case(
        "an integer that a double cannot hold",
        "g3doc/api_rest.md: Floating Point Precision",
        column([2**53 + 1, 2**63 + 1], "float64"),
        outputs([9007199254740992.0, 9.223372036854775808e18]),
    ),
    Case(
        "an integer of more than 64 bits for a float",
        _ADD_VALUE,
        column([10**20]),
        outputs([1e20]),
    ),
    Case(
        "numbers beyond a float",
        _TEST + "FloatTensorThatExceedsMaxReturnsInf",
        rows([_LARGEST_FLOAT64, -_LARGEST_FLOAT64]),
        predictions([float("inf"), -float("inf")]),
    ),
    Case(
        "numbers too small for a float",
        _TEST + "FloatTensorThatExceedsMinReturnsZero",
        rows([_SMALLEST_FLOAT64, -_SMALLEST_FLOAT64]),
        predictions([0.0, -0.0]),
    ),
    _mistyped("a string for a float", "float32", "1", '"1"', "String", "float"),
    _mistyped("a string for a double", "float64", "1", '"1"', "String", "double"),
    _mistyped("a boolean for a float", "float32", True, "true", "True", "float"),
    _mistyped("null for a float", "float32", None, "null", "Null", "float"),
    Case(
        "an object for a float",
        _CODE + "FillTensorProto",
        column([{"a": 1}]),
        refused(
            'JSON Value: {\n    "a": 1\n} Type: Object is not of expected type: float',
        ),
    ),
    # Integers.
    _mistyped("a fraction for an integer", "int32", 1.5, "1.5", "Number", "int32"),
    _mistyped("a whole number with a point", "int64", 1.0, "1.0", "Number", "int64"),
    _mistyped("an integer beyond int32", "int32", 2**31, str(2**31), "Number", "int32"),
    _mistyped("an integer beyond int64", "int64", 2**63, str(2**63), "Number", "int64"),
    _mistyped("an integer beyond uint32", "uint32", 2**32, str(2**32), "Number", "uint32"),
    _mistyped("a negative number for uint64", "uint64", -1, "-1", "Number", "uint64"),
    _mistyped("a boolean for an integer", "int32", False, "false", "False", "int32"),
    Case(
        "the ends of int64",
        _ADD_VALUE,
        column([-(2**63), 2**63 - 1], "int64"),
        outputs([-(2**63), 2**63 - 1]),
    ),
    Case(
        "the largest uint64",
        _ADD_VALUE,
        column([2**64 - 1, 0], "uint64"),
        outputs([2**64 - 1, 0]),
    ),
    Case("the largest uint32", _ADD_VALUE, column([2**32 - 1], "uint32"), outputs([2**32 - 1])),
    Case("the ends of int8", _ADD_VALUE, column([-128, 127], "int8"), outputs([-128, 127])),
    Case("the ends of int16", _ADD_VALUE, column([-(2**15)], "int16"), outputs([-(2**15)])),
    Case("the largest uint8", _ADD_VALUE, column([255], "uint8"), outputs([255])),
    Case(
        "an integer beyond a small type",
        _ADD_VALUE,
        column([300], "uint8"),
        refused("JSON Value: 300 Type: Number is not of expected type: uint8"),
        differs="TF Serving checks the range of int32 only, and 300 becomes 44.",
    ),
    # Other types.
    Case("booleans", _ADD_VALUE, column([True, False], "bool"), outputs([True, False])),
    _mistyped("a number for a boolean", "bool", 1, "1", "Number", "bool"),
    _mistyped("a number for a string", "string", 1, "1", "Number", "string"),
    _mistyped("null for a string", "string", None, "null", "Null", "string"),
    *(
        Case(
            f"the type {dtype}, which JSON cannot carry",
            "util/json_tensor.cc: AddValueToTensor (default)",
            column([1], signature),
            Answer(501, error=f"Conversion of JSON Value: 1 to type: {dtype}"),
        )
        for signature, dtype in (
            ("float16", "half"),
            ("uint16", "uint16"),
            ("complex64", "complex64"),
        )
    ),
    # Strings and binary values.
    Case(
        "a string of other characters",
        _ADD_VALUE,
        column("é\n\u2028", "string"),
        outputs("é\n\u2028"),
    ),
    Case(
        "binary instances",
        _TEST + "SingleUnnamedTensorBase64Scalars",
        rows([{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}], "string"),
        predictions(["hello", "world"]),
    ),
    Case(
        "lists of binary values",
        _TEST + "SingleUnnamedTensorBase64Lists",
        rows([[{"b64": "aGVsbG8="}], ["plain"]], "string"),
        predictions([["hello"], ["plain"]]),
    ),
    Case(
        "a named list of binary values",
        _TEST + "SingleNamedTensorBase64",
        rows([{"x": [[{"b64": "aGVsbG8="}]]}], "string"),
        predictions([[["hello"]]]),
    ),
    Case(
        "a binary value alone",
        _CODE + "FillTensorMapFromInputsMap (IsValBase64Object)",
        column({"b64": "aGVsbG8="}, "string"),
        outputs("hello"),
    ),
    Case("base64 without padding", _BASE64, column([{"b64": "aGk"}], "string"), outputs(["hi"])),
    Case(
        "base64 with white space", _BASE64, column([{"b64": " aG\nk= "}], "string"), outputs(["hi"])
    ),
    Case(
        "base64 with too much padding",
        _BASE64,
        column([{"b64": "aGk=="}], "string"),
        refused("Unable to base64 decode"),
    ),
    Case(
        "base64 of other characters",
        _BASE64,
        column([{"b64": "a-_?"}], "string"),
        refused("Unable to base64 decode"),
    ),
    Case(
        "an object with another key beside b64",
        _CODE + "IsValBase64Object",
        column([{"b64": "aGk=", "c": 1}], "string"),
        refused(
            'JSON Value: {\n    "b64": "aGk=",\n    "c": 1\n} not formatted correctly for base64'
            " data"
        ),
    ),
    Case(
        "a number under b64",
        _CODE + "IsValBase64Object",
        column([{"b64": 1}], "string"),
        refused('JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
    ),
    # Answers.
    Case(
        "one output stands alone in rows",
        _TEST + "FromJsonSingleTensor",
        rows([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "int32"),
        predictions([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
    ),
    Case(
        "several outputs in rows",
        _TEST + "FromJsonMultipleNamedTensors",
        rows([0, 0], "many"),
        predictions(
            [
                {
                    "double_scalar_tensor": 8.0,
                    "float_tensor": [1.0],
                    "int_tensor": [[1, 2], [3, 4]],
                    "str_tensor": ["foo", "bar"],
                    "str_tensor_bytes": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}],
                },
                {
                    "double_scalar_tensor": 9.0,
                    "float_tensor": [2.0],
                    "int_tensor": [[5, 6], [7, 8]],
                    "str_tensor": ["baz", "bat"],
                    "str_tensor_bytes": [{"b64": "dGY="}, {"b64": "c2VydmluZw=="}],
                },
            ]
        ),
    ),
    Case(
        "several outputs in columns",
        _TEST + "FromJsonMultipleNamedTensors",
        column(0, "many"),
        outputs(
            {
                "double_scalar_tensor": [8.0, 9.0],
                "float_tensor": [[1.0], [2.0]],
                "int_tensor": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
                "str_tensor": [["foo", "bar"], ["baz", "bat"]],
                "str_tensor_bytes": [
                    [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}],
                    [{"b64": "dGY="}, {"b64": "c2VydmluZw=="}],
                ],
            }
        ),
    ),
    Case(
        "strings of outputs named _bytes are base64 in rows",
        _TEST + "FromJsonSingleBytesTensor",
        rows(["hi", ""], "one_bytes"),
        predictions([{"b64": "aGk="}, {"b64": ""}]),
    ),
    Case(
        "strings are base64 by the name of the output",
        _CODE + "IsNamedTensorBytes",
        rows(["hi"], "bytes"),
        predictions([{"image_bytes": {"b64": "aGk="}, "plain": "hi"}]),
    ),
    Case(
        "an output without rows in row format",
        _TEST + "FromJsonSingleTensorErrors",
        rows([1, 2], "sum"),
        refused("Tensor name: y has no shape information "),
    ),
    Case(
        "an output without rows in column format",
        _CODE + "MakeColumnarFormatJsonFromTensors",
        column([1, 2], "sum"),
        outputs(3.0),
    ),
    Case(
        "outputs of unequal numbers of rows",
        _TEST + "FromJsonMultipleNamedTensorsErrors",
        rows([1], "uneven"),
        Answer(400, has=("Tensor name: ", " has inconsistent batch size: ", " expecting: ")),
    ),
    Case(
        "outputs of unequal lengths in column format",
        _CODE + "MakeColumnarFormatJsonFromTensors",
        column([1], "uneven"),
        outputs({"a": [1.0], "b": [1.0, 0.0]}),
    ),
    Case(
        "an output of no rows",
        _TEST + "FromJsonSingleZeroBatchTensor",
        rows([1], "nothing"),
        predictions([]),
    ),
    Case(
        "floats have no digits beyond their precision",
        _TEST + "FromJsonSingleFloatTensorSixDigitPrecision",
        rows([[999999, 0.5], [0.0003, 3e-05]]),
        predictions([[999999.0, 0.5], [0.0003, 3e-05]]),
    ),
    Case(
        "outputs that are not finite",
        _TEST + "FromJsonSingleFloatTensorNonFinite",
        rows([[float("nan"), float("inf")], [3, -float("inf")]]),
        predictions([[float("nan"), float("inf")], [3.0, -float("inf")]]),
    ),
    Case(
        "an output string that is no UTF-8",
        _CODE + "AddSingleValueAndAdvance",
        column([{"b64": "YWL/"}], "string"),
        outputs(["ab\ufffd"]),
        differs="The answer is valid UTF-8 always; TF Serving sends the bytes as they are.",
    ),
]
