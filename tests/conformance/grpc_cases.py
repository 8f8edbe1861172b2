"""gRPC: PredictionService and ModelService."""

from tests.conformance.cases import (
    HALF_PLUS_TWO,
    LABEL,
    MODEL,
    OLD_VERSION,
    VERSION,
    Answer,
    Case,
    Grpc,
    tensor,
)

_PREDICT_TEST = "servables/tensorflow/predict_util_test.cc: "
_PREPARE = "servables/tensorflow/predict_util.cc: PreProcessPrediction"
_SIZE = "servables/tensorflow/predict_util.cc: VerifyRequestInputsSize"
_VALUES = "servables/tensorflow/predict_util.cc: PreProcessPrediction (GetInputValues)"
_TENSOR = "servables/tensorflow/predict_util.cc: PreProcessPrediction (Tensor::FromProto)"
_SPEC = "model_servers/server_core.cc: ServableRequestFromModelSpec"
_STATUS = "model_servers/get_model_status_impl_test.cc: "
_METADATA = "servables/tensorflow/get_model_metadata_impl_test.cc: "
_RELOAD = "model_servers/model_service_impl.cc: HandleReloadConfigRequest"
_X = 'inputs { key: "x" value { dtype: DT_FLOAT float_val: 2 } }'


def _invalid(error: str) -> Answer:
    return Answer("INVALID_ARGUMENT", error=error)


def _invalid_with(*has: str) -> Answer:
    return Answer("INVALID_ARGUMENT", has=has)


def _predict(spec: str, rest: str = _X) -> Grpc:
    return Grpc("Predict", f"model_spec {{ {spec} }} {rest}")


def _read(
    name: str, signature: str, proto: str, answer: str, source: str = _TENSOR, differs: str = ""
) -> Case:
    """A tensor, and how it is read: as the text of the output."""
    return Case(
        name,
        source,
        tensor(signature, proto),
        Answer("OK", {"y": answer}),
        differs,
    )


def _unreadable(name: str, signature: str, proto: str) -> Case:
    return Case(name, _TENSOR, tensor(signature, proto), _invalid_with("tensor parsing error: x"))


def _sizes(*sizes: int) -> str:
    return f"tensor_shape {{ {' '.join(f'dim {{ size: {size} }}' for size in sizes)} }}"


_HALF = f'name: "{HALF_PLUS_TWO}"'
_ZOO = f'name: "{MODEL}"'
_TWO = f'{_ZOO} signature_name: "two"'
_DEFAULTS = f'{_ZOO} signature_name: "defaults"'
_VECTOR = f'inputs {{ key: "x" value {{ dtype: DT_FLOAT {_sizes(1)} float_val: 2 }} }}'
_NUMBER = 'inputs { key: "number" value { dtype: DT_INT32 int_val: 1 } }'

PREDICT_CASES = [
    Case(
        "the answer names model, version and signature",
        _PREDICT_TEST + "PredictionSuccess",
        _predict(_HALF),
        Answer(
            "OK",
            {
                "model_spec": f"{HALF_PLUS_TWO}/{VERSION}/serving_default",
                "y": "float32[] 3.0",
            },
        ),
    ),
    Case(
        "the values of the answer are in the field of their type",
        _PREDICT_TEST + "PredictionSuccess",
        _predict(_HALF),
        Answer(
            "OK",
            'outputs { key: "y" value { dtype: DT_FLOAT tensor_shape { } float_val: 3 } }'
            f' model_spec {{ name: "{HALF_PLUS_TWO}" version {{ value: {VERSION} }}'
            ' signature_name: "serving_default" }',
        ),
    ),
    *(
        Case(
            f"the field of {dtype} in answers",
            "servables/tensorflow/predict_util.cc: PostProcessPredictionResult (kAsProtoField)",
            tensor(signature, f"dtype: {dtype} {_sizes(2)} {values}"),
            Answer("OK", has=(f"dtype: {dtype}", *values.split("  "))),
        )
        for signature, dtype, values in (
            ("float64", "DT_DOUBLE", "double_val: 0.5  double_val: 1.5"),
            ("float16", "DT_HALF", "half_val: 15360  half_val: 49152"),
            ("int8", "DT_INT8", "int_val: -1  int_val: 2"),
            ("uint16", "DT_UINT16", "int_val: 1  int_val: 65535"),
            ("int64", "DT_INT64", "int64_val: -1  int64_val: 2"),
            ("uint32", "DT_UINT32", "uint32_val: 1  uint32_val: 2"),
            ("uint64", "DT_UINT64", "uint64_val: 1  uint64_val: 2"),
            ("bool", "DT_BOOL", "bool_val: true  bool_val: false"),
            ("complex64", "DT_COMPLEX64", "scomplex_val: 1  scomplex_val: 2"),
        )
    ),
    Case(
        "a named signature",
        _PREDICT_TEST + "PredictionWithNamedRegressionSignature",
        _predict(f'{_ZOO} signature_name: "float32"'),
        Answer("OK", {"model_spec": f"{MODEL}/{VERSION}/float32", "y": "float32[] 2.0"}),
    ),
    Case(
        "a version",
        _SPEC,
        _predict(f"{_HALF} version {{ value: {OLD_VERSION} }}"),
        Answer("OK", {"model_spec": f"{HALF_PLUS_TWO}/{OLD_VERSION}/serving_default"}),
    ),
    Case(
        "a label",
        _SPEC,
        _predict(f'{_HALF} version_label: "{LABEL}"'),
        Answer("OK", {"model_spec": f"{HALF_PLUS_TWO}/{OLD_VERSION}/serving_default"}),
    ),
    Case(
        "no model_spec",
        _PREDICT_TEST + "MissingOrEmptyModelSpec",
        Grpc("Predict", _X),
        _invalid("Missing ModelSpec"),
    ),
    Case(
        "no name",
        _PREDICT_TEST + "MissingOrEmptyModelSpec",
        _predict(""),
        _invalid("ModelSpec has no name specified."),
    ),
    Case(
        "an unknown model",
        "core/basic_manager.cc: ServingMap::GetUntypedServableHandle",
        _predict('name: "none"'),
        Answer("NOT_FOUND", error="Servable not found for request: Latest(none)"),
    ),
    Case(
        "an unknown version",
        "core/basic_manager.cc: ServingMap::GetUntypedServableHandle",
        _predict(f"{_HALF} version {{ value: 9 }}"),
        Answer("NOT_FOUND", error=f"Servable not found for request: Specific({HALF_PLUS_TWO}, 9)"),
    ),
    Case(
        "an unknown label",
        "model_servers/server_core.cc: GetModelVersionForLabel",
        _predict(f'{_HALF} version_label: "none"'),
        _invalid("Unrecognized servable version label: none"),
    ),
    Case(
        "an unknown signature",
        "servables/tensorflow/predict_util.cc: RunPredict",
        _predict(f'{_HALF} signature_name: "none"'),
        Answer("FAILED_PRECONDITION", error='Serving signature key "none" not found.'),
    ),
    Case(
        "a signature without inputs",
        "servables/tensorflow/predict_util.cc: RunPredict",
        _predict(f'{_ZOO} signature_name: "constant"', ""),
        Answer("OK", {"y": "float32[] 5.0"}),
    ),
    # Names and types of inputs.
    Case(
        "no inputs",
        _PREDICT_TEST + "EmptyInputList",
        _predict(_HALF, ""),
        _invalid(
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}."
            " Missing but required: {x}."
        ),
    ),
    Case(
        "other inputs, and too many",
        _PREDICT_TEST + "InputTensorsDontMatchModelSpecInputs",
        _predict(_HALF, _X.replace('"x"', '"b"') + _X.replace('"x"', '"a"')),
        _invalid(
            "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}."
            " Missing but required: {x}."
        ),
    ),
    Case(
        "as many inputs, but others",
        _VALUES,
        _predict(_HALF, _X.replace('"x"', '"a"')),
        _invalid(
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no"
            " default value provided. Inputs expected to be in the request {a}, or default input"
            " alias set: "
        ),
    ),
    Case(
        "one input of two",
        _SIZE,
        _predict(_TWO, _NUMBER),
        _invalid(
            "input size does not match signature: 1!=2 len({number}) != len({number,text})."
            " Sent extra: {}. Missing but required: {text}."
        ),
    ),
    Case(
        "inputs with a default may be left out",
        _SIZE,
        _predict(_DEFAULTS, _VECTOR),
        Answer("OK", {"y": "float32[1] 4.0"}),
    ),
    Case(
        "an input without a default may not",
        _VALUES,
        _predict(_DEFAULTS, _X.replace('"x"', '"plus"')),
        _invalid_with(
            "Signature input alias: x(feed name: ",
            ") not found in request and no default value provided. Inputs expected to be in the"
            " request {plus}, or default input alias set: plus,times",
        ),
    ),
    Case(
        "an unknown input beside defaults",
        _VALUES,
        _predict(_DEFAULTS, _VECTOR + _X.replace('"x"', '"z"')),
        _invalid("Inputs contains invalid name. Used request inputs: x, request input: x,z"),
    ),
    Case(
        "a string for a float",
        _PREDICT_TEST + "InputTensorsHaveWrongType",
        tensor("", f'dtype: DT_STRING {_sizes(1)} string_val: "any"'),
        _invalid_with("to be float but string is provided"),
    ),
    Case(
        "a boolean for a float",
        _PREDICT_TEST + "PredictionInvalidTensor",
        tensor("", "dtype: DT_BOOL bool_val: true"),
        _invalid_with("Expects arg[0] to be float but bool is provided"),
    ),
    Case(
        "a double for a float",
        _PREDICT_TEST + "InputTensorsHaveWrongType",
        tensor("", "dtype: DT_DOUBLE double_val: 1"),
        _invalid_with("to be float but double is provided"),
    ),
    # Outputs.
    Case(
        "chosen outputs",
        _PREPARE,
        _predict(
            f'{_ZOO} signature_name: "bytes"',
            'inputs { key: "x" value { dtype: DT_STRING string_val: "a" } } output_filter: "plain"',
        ),
        Answer("OK", {"outputs": "plain", "plain": "object[] a"}),
    ),
    Case(
        "an unknown output",
        _PREDICT_TEST + "OutputFiltersDontMatchModelSpecOutputs",
        _predict(_HALF, _X + ' output_filter: "output_filter"'),
        _invalid(
            "output tensor alias not found in signature: output_filter Outputs expected to be in"
            " the set {y}."
        ),
    ),
    Case(
        "an output twice",
        _PREDICT_TEST + "OutputFiltersDontMatchModelSpecOutputs",
        _predict(_HALF, _X + ' output_filter: "y" output_filter: "y"'),
        _invalid("duplicate output tensor alias: y"),
    ),
    # Tensors.
    _read(
        "a tensor without a shape is a scalar",
        "float32",
        "dtype: DT_FLOAT float_val: 2",
        "float32[] 2.0",
    ),
    _read(
        "of unknown rank is a scalar too",
        "float32",
        "dtype: DT_FLOAT tensor_shape { unknown_rank: true } float_val: 2",
        "float32[] 2.0",
    ),
    _read(
        "the last value is repeated",
        "float32",
        f"dtype: DT_FLOAT {_sizes(2, 2)} float_val: [1, 2]",
        "float32[2,2] 1.0 2.0 2.0 2.0",
    ),
    _read(
        "values beyond the shape are ignored",
        "float32",
        f"dtype: DT_FLOAT {_sizes(1)} float_val: [1, 2]",
        "float32[1] 1.0",
    ),
    _read("no value is 0", "float32", f"dtype: DT_FLOAT {_sizes(2)}", "float32[2] 0.0 0.0"),
    _read(
        "the last string is repeated",
        "string",
        f'dtype: DT_STRING {_sizes(3)} string_val: ["a", "b"]',
        "object[3] a b b",
    ),
    _read("no string is empty", "length", f"dtype: DT_STRING {_sizes(2)}", "int32[2] 0 0"),
    _read(
        "the last boolean is repeated",
        "bool",
        f"dtype: DT_BOOL {_sizes(3)} bool_val: [false, true]",
        "bool[3] False True True",
    ),
    _read(
        "the bits of half",
        "float16",
        f"dtype: DT_HALF {_sizes(2)} half_val: [15360, 49152]",
        "float16[2] 1.0 -2.0",
    ),
    _read(
        "small integers wrap around",
        "uint8",
        f"dtype: DT_UINT8 {_sizes(2)} int_val: [300, -1]",
        "uint8[2] 44 255",
    ),
    _read("int16", "int16", f"dtype: DT_INT16 {_sizes(1)} int_val: -5", "int16[1] -5"),
    _read("int64", "int64", f"dtype: DT_INT64 {_sizes(1)} int64_val: {2**40}", f"int64[1] {2**40}"),
    _read(
        "uint32",
        "uint32",
        f"dtype: DT_UINT32 {_sizes(1)} uint32_val: {2**32 - 1}",
        f"uint32[1] {2**32 - 1}",
    ),
    _read(
        "uint64",
        "uint64",
        f"dtype: DT_UINT64 {_sizes(1)} uint64_val: {2**64 - 1}",
        f"uint64[1] {2**64 - 1}",
    ),
    _read("double", "float64", f"dtype: DT_DOUBLE {_sizes(1)} double_val: 0.1", "float64[1] 0.1"),
    _read(
        "complex",
        "complex64",
        f"dtype: DT_COMPLEX64 {_sizes(1)} scomplex_val: [1, 2]",
        "complex64[1] (1+2j)",
    ),
    _read(
        "values of another type's field do not count",
        "int32",
        f"dtype: DT_INT32 {_sizes(1)} int64_val: 5",
        "int32[1] 0",
    ),
    _read(
        "bytes of all elements",
        "int32",
        f'dtype: DT_INT32 {_sizes(2)} tensor_content: "\\001\\000\\000\\000\\002\\000\\000\\000"',
        "int32[2] 1 2",
    ),
    _read(
        "bytes go before values",
        "int32",
        f'dtype: DT_INT32 {_sizes(1)} int_val: 9 tensor_content: "\\001\\000\\000\\000"',
        "int32[1] 1",
    ),
    _read(
        "strings as bytes, after their lengths",
        "string",
        f'dtype: DT_STRING {_sizes(2)} tensor_content: "\\001\\002abc"',
        "object[2] a bc",
    ),
    _read("no element", "float32", f"dtype: DT_FLOAT {_sizes(2, 0)} float_val: 1", "float32[2,0]"),
    _unreadable(
        "too few bytes",
        "int32",
        f'dtype: DT_INT32 {_sizes(2)} tensor_content: "\\001\\000\\000\\000"',
    ),
    _unreadable(
        "too many bytes", "int32", 'dtype: DT_INT32 tensor_content: "\\001\\000\\000\\000\\000"'
    ),
    _unreadable(
        "strings shorter than they say",
        "string",
        f'dtype: DT_STRING {_sizes(1)} tensor_content: "\\005ab"',
    ),
    _unreadable(
        "a size that is not known", "float32", f"dtype: DT_FLOAT {_sizes(-1)} float_val: 1"
    ),
    _unreadable("no type", "float32", "float_val: 1"),
    Case(
        "more elements than are admitted",
        _TENSOR,
        tensor("float32", f"dtype: DT_FLOAT {_sizes(2**20)} float_val: 1"),
        _invalid_with("the limit is 1000000 (max_request_elements)"),
        differs="The elements of a request are limited; TF Serving takes as many as fit in memory.",
    ),
    Case(
        "more dimensions than are admitted",
        _TENSOR,
        tensor("float32", f"dtype: DT_FLOAT {_sizes(*[1] * 9)} float_val: 1"),
        _invalid_with("Input x has 9 dimensions; the limit is 8 (max_input_rank)"),
        differs="The rank of an input is limited.",
    ),
    # Shapes are the graph's matter.
    Case(
        "another rank than the signature's",
        _PREDICT_TEST + "PredictionSuccess",
        _predict(_HALF, _VECTOR),
        Answer("OK", {"y": "float32[1] 3.0"}),
    ),
    Case(
        "a rank that the graph refuses",
        "servables/tensorflow/predict_util.cc: RunPredict (the status of the session)",
        tensor("matrix", "dtype: DT_FLOAT float_val: 1"),
        _invalid_with("input x has shape [], the signature states [?,2]"),
    ),
]

OTHER_CASES = [
    *(
        Case(
            f"the method {method}",
            f"model_servers/tensorflow_model_server_test.py: test{method}",
            Grpc(method),
            Answer("UNIMPLEMENTED"),
            differs="A recommender has no signatures of this kind.",
        )
        for method in ("Classify", "Regress", "MultiInference")
    ),
    # GetModelMetadata.
    Case(
        "metadata",
        _METADATA + "ReturnsSignaturesForValidModel",
        Grpc("GetModelMetadata", f'model_spec {{ {_HALF} }} metadata_field: "signature_def"'),
        Answer("OK", has=(f'name: "{HALF_PLUS_TWO}"', f"value: {VERSION}", 'key: "signature_def"')),
    ),
    Case(
        "metadata without a field",
        _METADATA + "EmptyOrInvalidMetadataFieldList",
        Grpc("GetModelMetadata", f"model_spec {{ {_HALF} }}"),
        _invalid("GetModelMetadataRequest must specify at least one metadata_field"),
    ),
    Case(
        "metadata of an unknown field",
        _METADATA + "EmptyOrInvalidMetadataFieldList",
        Grpc("GetModelMetadata", f'model_spec {{ {_HALF} }} metadata_field: "other"'),
        _invalid("Metadata field other is not supported"),
    ),
    Case(
        "metadata without a model_spec",
        _METADATA + "MissingOrEmptyModelSpec",
        Grpc("GetModelMetadata", 'metadata_field: "signature_def"'),
        _invalid("Missing ModelSpec"),
    ),
    Case(
        "metadata without a name",
        _METADATA + "MissingOrEmptyModelSpec",
        Grpc("GetModelMetadata", 'model_spec {} metadata_field: "signature_def"'),
        _invalid("ModelSpec has no name specified."),
    ),
    Case(
        "metadata of an unknown model",
        _METADATA + "MissingOrEmptyModelSpec",
        Grpc("GetModelMetadata", 'model_spec { name: "none" } metadata_field: "signature_def"'),
        Answer("NOT_FOUND", error="Servable not found for request: Latest(none)"),
    ),
    # GetModelStatus.
    Case(
        "the state of all versions",
        _STATUS + "AllVersionsSuccess",
        Grpc("GetModelStatus", f"model_spec {{ {_HALF} }}"),
        Answer(
            "OK",
            "model_version_status { version: 123 state: AVAILABLE status { } }"
            " model_version_status { version: 122 state: AVAILABLE status { } }",
        ),
    ),
    Case(
        "the state of a version",
        _STATUS + "SingleVersionSuccess",
        Grpc("GetModelStatus", f"model_spec {{ {_HALF} version {{ value: 122 }} }}"),
        Answer("OK", "model_version_status { version: 122 state: AVAILABLE status { } }"),
    ),
    Case(
        "the state without a model_spec",
        _STATUS + "MissingOrEmptyModelSpecFailure",
        Grpc("GetModelStatus"),
        _invalid("Missing ModelSpec"),
    ),
    Case(
        "the state without a name",
        _STATUS + "MissingOrEmptyModelSpecFailure",
        Grpc("GetModelStatus", "model_spec {}"),
        Answer("NOT_FOUND", error="Could not find any versions of model "),
    ),
    Case(
        "the state of an unknown model",
        _STATUS + "InvalidModelNameFailure",
        Grpc("GetModelStatus", 'model_spec { name: "none" }'),
        Answer("NOT_FOUND", error="Could not find any versions of model none"),
    ),
    Case(
        "the state of an unknown version",
        _STATUS + "InvalidModelVersionFailure",
        Grpc("GetModelStatus", f"model_spec {{ {_HALF} version {{ value: 9 }} }}"),
        Answer("NOT_FOUND", error=f"Could not find version 9 of model {HALF_PLUS_TWO}"),
    ),
    # HandleReloadConfigRequest.
    Case(
        "a reload without models",
        _RELOAD,
        Grpc("HandleReloadConfigRequest", "config {}"),
        _invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only"
            " ModelConfigList is currently supported"
        ),
    ),
    Case(
        "a reload of a model twice",
        "model_servers/server_core.cc: ValidateModelConfigList",
        Grpc("HandleReloadConfigRequest", "config { model_config_list { {zoo} {zoo} } }"),
        _invalid(f"Illegal to list model {MODEL} multiple times in config list"),
    ),
    Case(
        "a reload with a label of a version that is not there",
        "model_servers/server_core.cc: UpdateModelVersionLabelMap",
        Grpc(
            "HandleReloadConfigRequest",
            "config { model_config_list { {zoo} {half_plus_two to 7} } }",
        ),
        Answer(
            "FAILED_PRECONDITION",
            has=f"Request to assign label to version 7 of model {HALF_PLUS_TWO}, which is not"
            " currently available for inference",
        ),
    ),
    Case(
        "a label after a reload that was refused",
        "model_servers/server_core.cc: UpdateModelVersionLabelMap",
        _predict(f'{_HALF} version_label: "{LABEL}"'),
        Answer("OK", {"model_spec": f"{HALF_PLUS_TWO}/{OLD_VERSION}/serving_default"}),
    ),
    Case(
        "a reload that asks for metrics",
        "model_servers/model_service_impl.cc: RecordMetricsIncrease",
        Grpc(
            "HandleReloadConfigRequest",
            "config { model_config_list { {zoo} {half_plus_two} } }"
            ' metric_names: "/tensorflow/serving/request_count" metric_names: "/none"',
        ),
        Answer(
            "OK",
            "status { }"
            ' metric { name: "/tensorflow/serving/request_count" int64_value_increase: 0 }'
            ' metric { name: "/none" int64_value_increase: 0 }',
        ),
    ),
]
