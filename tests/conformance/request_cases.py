"""What a REST predict request may consist of, and how its tensors are put together."""

from tests.conformance.cases import (
    HALF_PLUS_TWO,
    Case,
    column,
    outputs,
    predict,
    predictions,
    refused,
    refused_with,
    rows,
)

_TEST = "util/json_tensor_test.cc: JsontensorTest."
_CODE = "util/json_tensor.cc: "
_HANDLER_TEST = "model_servers/http_rest_api_handler_test.cc: "
_TWO = [{"number": [1, 2], "text": "a"}, {"number": [3, 4], "text": "b"}]

CASES = [
    # Which signature, and which of the two forms.
    Case(
        "the name of the signature is no string",
        _HANDLER_TEST + "PredictRequestErrors",
        predict({"signature_name": 100}),
        refused_with("not formatted correctly. 'signature_name' key must be a string value."),
    ),
    Case(
        "the name of the signature is null",
        _CODE + "FillSignature",
        predict({"signature_name": None, "inputs": 1}),
        refused_with("'signature_name' key must be a string value."),
    ),
    Case(
        "an unknown signature",
        "model_servers/http_rest_api_handler.cc: GetInfoMap",
        column(1, "none"),
        refused('Serving signature name: "none" not found in signature def'),
    ),
    Case(
        "a named signature",
        _TEST + "SingleUnnamedTensorWithSignature",
        rows([[1, 2]], "int32"),
        predictions([[1, 2]]),
    ),
    Case(
        "an empty name is the default signature",
        "model_servers/http_rest_api_handler.cc: GetInfoMap",
        predict({"signature_name": "", "inputs": 1}),
        outputs(1.0),
    ),
    Case(
        "a signature without inputs",
        _CODE + "FillPredictRequestFromJson",
        column({}, "constant"),
        refused("Failed to get input map for signature: constant"),
    ),
    Case(
        "both forms",
        _TEST + "SingleUnnamedTensorErrors",
        predict({"instances": [1], "inputs": [1]}),
        refused(
            'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly'
            " expecting only one of 'inputs' or 'instances' keys to exist "
        ),
    ),
    Case(
        "neither form",
        _CODE + "FillPredictRequestFromJson",
        predict({}),
        refused("Missing 'inputs' or 'instances' key"),
    ),
    # The row format.
    Case(
        "instances that are no list",
        _CODE + "FillPredictRequestFromJson",
        rows(1),
        refused("JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
    ),
    Case(
        "no instance",
        _CODE + "FillPredictRequestFromJson",
        rows([]),
        refused("JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    ),
    Case(
        "instances are stacked",
        _TEST + "SingleUnnamedTensor",
        rows([[1, 2], [3, 4], [5, 6]], "int32"),
        predictions([[1, 2], [3, 4], [5, 6]]),
    ),
    Case(
        "instances of several inputs",
        _TEST + "MultipleNamedTensor",
        rows(_TWO, "two"),
        predictions(_TWO),
    ),
    Case(
        "instances that name the only input",
        _CODE + "FillTensorMapFromInstancesList",
        rows([{"x": 1}, {"x": 2}]),
        predictions([1.0, 2.0]),
    ),
    Case(
        "plain instances for several inputs",
        _CODE + "FillTensorMapFromInstancesList",
        rows([1, 2], "two"),
        refused(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        ),
    ),
    Case(
        "binary instances for several inputs",
        _CODE + "FillTensorMapFromInstancesList (IsValBase64Object)",
        rows([{"b64": "aGk="}], "two"),
        refused_with("Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT"),
    ),
    Case(
        "an instance without an input",
        _CODE + "FillTensorMapFromInstancesList",
        rows([{"number": 1}], "two"),
        refused(
            "Failed to process element: 0 of 'instances' list. JSON object: {\n"
            '    "number": 1\n} keys must be equal to: number,text'
        ),
    ),
    Case(
        "an instance with an unknown input",
        _CODE + "AddInstanceItem",
        rows([{"number": 1, "text": "a", "z": 1}], "two"),
        refused(
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT:"
            " JSON object: does not have named input: z"
        ),
    ),
    Case(
        "a list among objects",
        _TEST + "MultipleNamedTensorErrors",
        rows([_TWO[0], [1, 20]], "two"),
        refused("Expecting object but got list at item 1 of input list"),
    ),
    Case(
        "an object among lists",
        _TEST + "MultipleNamedTensorErrors",
        rows([["a"], {"x": ["a"]}], "string"),
        refused("Expecting value/list but got object at item 1 of input list"),
    ),
    Case(
        "instances of unequal sizes",
        _TEST + "SingleUnnamedTensorErrors",
        rows([[1, 2], [3, 4], [5, 6, 7]], "int32"),
        refused(
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting"
            " tensor size: 2 but got: 3"
        ),
    ),
    Case(
        "instances of unequal shapes",
        _TEST + "SingleUnnamedTensorErrors",
        rows([[1, 2], [3, 4], [[5, 6]]], "int32"),
        refused(
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: Expecting"
            " shape [2] but got: [1,2]"
        ),
    ),
    Case(
        "a value and a list of one",
        _TEST + "SingleUnnamedTensorErrors",
        rows([1, [1]], "int32"),
        refused_with("Expecting shape [] but got: [1]"),
    ),
    Case(
        "instances of unequal types",
        _TEST + "SingleUnnamedTensorErrors",
        rows([[1, 2], ["a", "b"]], "int32"),
        refused(
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON"
            ' Value: "a" Type: String is not of expected type: int32'
        ),
    ),
    Case(
        "named instances of unequal sizes",
        _TEST + "MultipleNamedTensorErrors",
        rows([{"number": [1, 2], "text": "a"}, {"number": [1], "text": "a"}], "two"),
        refused(
            "Failed to process element: 1 key: number of 'instances' list. Error:"
            " INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1"
        ),
    ),
    Case(
        "an instance without an input that has a default",
        _CODE + "FillTensorMapFromInstancesList",
        rows([{"x": 1}, {"x": 2}], "defaults"),
        predictions([3.0, 4.0]),
        differs="Defaults work over REST too; TF Serving has them over gRPC only.",
    ),
    # The column format.
    Case(
        "columns",
        _TEST + "MultipleNamedTensorColumnarFormat",
        column({"number": [[1, 2], [3, 4]], "text": ["a"]}, "two"),
        outputs({"number": [[1, 2], [3, 4]], "text": ["a"]}),
    ),
    Case(
        "a column that is not named",
        _TEST + "SingleUnnamedTensorColumnarFormat",
        column([[[1, 2], [3, 4]]], "int32"),
        outputs([[[1, 2], [3, 4]]]),
    ),
    Case(
        "a plain value",
        "g3doc/api_rest.md: Specifying input tensors in column format",
        column(3),
        outputs(3.0),
    ),
    Case(
        "a plain column for several inputs",
        _CODE + "FillTensorMapFromInputsMap",
        column([1], "two"),
        refused(
            "inputs is a plain value/list, but expecting an object as multiple input tensors"
            " required as per tensorinfo_map"
        ),
    ),
    Case(
        "a missing column",
        _CODE + "FillTensorMapFromInputsMap",
        column({"number": 1}, "two"),
        refused("Missing named input: text in 'inputs' object."),
    ),
    Case(
        "an unknown column",
        _CODE + "FillTensorMapFromInputsMap",
        column({"x": 1, "z": 2}),
        refused("JSON object: does not have named input: z. Inputs of this signature: x"),
        differs="TF Serving ignores it, so that nobody notices a misspelt optional input.",
    ),
    Case(
        "a missing column that has a default",
        _CODE + "FillTensorMapFromInputsMap",
        column({"x": [1, 2]}, "defaults"),
        outputs([3.0, 4.0]),
        differs="Defaults work over REST too; TF Serving has them over gRPC only.",
    ),
    # Ragged lists.
    Case(
        "lists of unequal sizes",
        _CODE + "FillTensorProto",
        column([[1, 2], [3]]),
        refused("Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ),
    Case(
        "a value among lists",
        _CODE + "FillTensorProto",
        column([[1], 2]),
        refused("JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ),
    Case(
        "a list among values",
        _CODE + "FillTensorProto",
        column([1, [2]]),
        refused("Encountered list at unexpected level: 1 expected < 1"),
    ),
    Case(
        "of several faults, the first one in the document",
        _CODE + "FillTensorProto",
        column([[1, "a"], [2]]),
        refused('JSON Value: "a" Type: String is not of expected type: float'),
    ),
    Case("an empty list", _CODE + "GetDenseTensorShape", column([[], []]), outputs([[], []])),
    # Shapes are the graph's matter.
    Case(
        "rows of another rank than the signature's",
        "g3doc/docker.md: half_plus_two",
        predict({"instances": [1.0, 2.0, 5.0]}, model=HALF_PLUS_TWO),
        predictions([2.5, 3.0, 4.5]),
    ),
    Case(
        "rows of another size than the signature's",
        _HANDLER_TEST + "Predict",
        predict({"instances": [[1.0, 2.0], [3.0, 4.0]]}, model=HALF_PLUS_TWO),
        predictions([[2.5, 3.0], [3.5, 4.0]]),
    ),
    Case(
        "a scalar where the signature has a batch",
        "servables/tensorflow/predict_util_test.cc: PredictionSuccess",
        predict({"inputs": 2.0}, model=HALF_PLUS_TWO),
        outputs(3.0),
    ),
    Case(
        "a rank that the graph refuses",
        "servables/tensorflow/predict_util.cc: RunPredict (the status of the session)",
        column([1, 2], "matrix"),
        refused_with("input x has shape [2], the signature states [?,2]"),
    ),
    Case(
        "a size that the graph refuses",
        "servables/tensorflow/predict_util.cc: RunPredict (the status of the session)",
        column([[1, 2, 3]], "matrix"),
        refused_with("input x has shape [1,3], the signature states [?,2]"),
    ),
]
