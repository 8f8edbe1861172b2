"""Paths, methods, models and versions over REST, and what is said of them."""

from tests.conformance.cases import (
    HALF_PLUS_TWO,
    LABEL,
    OLD_VERSION,
    VERSION,
    Answer,
    Case,
    Rest,
    outputs,
    predictions,
    refused,
    refused_with,
)

_UNSUPPORTED = "model_servers/http_rest_api_handler_test.cc: UnsupportedApiCalls"
_UTIL_TEST = "model_servers/http_rest_api_util_test.cc: "
_STATUS_TEST = "model_servers/http_rest_api_handler_test.cc: GetStatus"
_PROCESS = "model_servers/http_rest_api_handler.cc: ProcessRequest"
_DISPATCH = "model_servers/http_server.cc: RestApiRequestDispatcher::ProcessRequest"
_MODEL = f"/v1/models/{HALF_PLUS_TWO}"
_BODY = {"instances": [1.0]}
_ORIGIN = "http://127.0.0.1:8000"


def _malformed(name: str, method: str, path: str, source: str = _UNSUPPORTED) -> Case:
    return Case(name, source, Rest(method, path), refused(f"Malformed request: {method} {path}"))


def _post(path: str, body: object = _BODY) -> Rest:
    return Rest("POST", path, body)


def _get(path: str) -> Rest:
    return Rest("GET", path)


def _states(*versions: int) -> Answer:
    return Answer(
        200,
        {
            "model_version_status": [
                {
                    "version": str(version),
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
                for version in versions
            ]
        },
        headers={"Content-Type": "application/json"},
    )


def _missing(what: str) -> Answer:
    return Answer(404, error=f"Servable not found for request: {what}")


CASES = [
    # What is no request.
    _malformed("another path, GET", "GET", "/v1/foo"),
    _malformed("another path, POST", "POST", "/v1/foo"),
    _malformed("the list of models, POST", "POST", "/v1/models"),
    _malformed("more parts than there are", "GET", "/v1/models/debug/model_name"),
    _malformed("a method of a model by GET", "GET", "/v1/models/foo:predict"),
    _malformed("version in place of versions", "GET", "/v1/models/foo/version/50:predict"),
    _malformed("label in place of labels", "POST", "/v1/models/foo/label/some:regress"),
    _malformed("a version that is no number", "POST", "/v1/models/foo/versions/HELLO:regress"),
    _malformed("metadata by POST", "POST", "/v1/models/foo/metadata"),
    _malformed("a version and a label", "POST", "/v1/models/foo/versions/50/labels/some:regress"),
    _malformed("a model by POST", "POST", _MODEL, _PROCESS),
    _malformed("a slash at the end", "GET", f"{_MODEL}/", _PROCESS),
    _malformed("an unknown method of a model", "POST", f"{_MODEL}:explain", _PROCESS),
    _malformed("the HTTP method PUT", "PUT", f"{_MODEL}:predict", _PROCESS),
    _malformed("the HTTP method DELETE", "DELETE", _MODEL, _PROCESS),
    _malformed(
        "a method of a model in capitals",
        "POST",
        f"{_MODEL}:Predict",
        "model_servers/http_rest_api_handler.cc: ProcessRequest (*method == predict)",
    ),
    Case("the HTTP method HEAD", _PROCESS, Rest("HEAD", _MODEL), Answer(400)),
    Case(
        "no name of a model",
        _UNSUPPORTED,
        _get("/v1/models"),
        refused("Missing model name in request."),
    ),
    Case(
        "no name of a model but a version",
        "model_servers/http_rest_api_util.cc: kModelStatusApiRegex",
        _get("/v1/models/versions/1"),
        refused("Missing model name in request."),
    ),
    Case(
        "a version beyond 64 bits",
        _UTIL_TEST + "TestParseModelInfoForPost",
        _post(f"/v1/models/foo/versions/{2**64 - 1}:predict"),
        refused(f"Failed to convert version: {2**64 - 1} to numeric."),
    ),
    Case(
        "a path of another server",
        "model_servers/http_rest_api_handler_test.cc: kPathRegex",
        _get("/statuspage"),
        Answer(404),
    ),
    # What is.
    Case(
        "a path in capitals",
        "model_servers/http_rest_api_util.cc: kPredictionApiGegex (?i)",
        _post(f"/V1/MODELS/{HALF_PLUS_TWO}/VERSIONS/{VERSION}:predict"),
        predictions([2.5]),
    ),
    Case(
        "metadata in capitals is the state",
        "model_servers/http_rest_api_handler.cc: ProcessRequest (model_subresource == metadata)",
        _get(f"{_MODEL}/versions/{VERSION}/METADATA"),
        _states(VERSION),
    ),
    Case(
        "a name with escapes",
        _UTIL_TEST + "TestParseModelInfoForGet",
        _get("/v1/models/half%5Fplus%5Ftwo/versions/123"),
        _states(VERSION),
    ),
    Case(
        "a name with escaped separators",
        _UTIL_TEST + "TestParseModelInfoForPost",
        _post("/v1/models/a%2Fb%3Ac:predict"),
        _missing("Latest(a/b:c)"),
    ),
    Case(
        "a query is no part of the path",
        "model_servers/http_server.cc: ProcessRequest (uri_path)",
        _post(f"{_MODEL}:predict?x=1"),
        predictions([2.5]),
    ),
    Case(
        "the content type of the request does not matter",
        "model_servers/http_server.cc: ProcessRequest",
        Rest("POST", f"{_MODEL}:predict", _BODY, {"Content-Type": "text/plain"}),
        Answer(
            200,
            {"predictions": [2.5]},
            headers={"Content-Type": "application/json"},
        ),
    ),
    Case(
        "a version",
        "model_servers/http_rest_api_handler_test.cc: Predict",
        _post(f"{_MODEL}/versions/{OLD_VERSION}:predict"),
        predictions([2.5]),
    ),
    Case(
        "a version with zeros before it",
        "model_servers/http_rest_api_util.cc: ParseModelInfo (SimpleAtoi)",
        _post(f"{_MODEL}/versions/000{VERSION}:predict"),
        predictions([2.5]),
    ),
    Case(
        "a label",
        "model_servers/http_rest_api_handler_test.cc: Predict",
        _post(f"{_MODEL}/labels/{LABEL}:predict", {"inputs": [3.0, 4.0]}),
        outputs([3.5, 4.0]),
    ),
    Case(
        "an unknown model",
        "model_servers/http_rest_api_handler_test.cc: PredictModelNameVersionErrors",
        _post("/v1/models/foo:predict"),
        _missing("Latest(foo)"),
    ),
    Case(
        "a version of an unknown model",
        "model_servers/http_rest_api_handler_test.cc: PredictModelNameVersionErrors",
        _post("/v1/models/foo/versions/50:predict"),
        _missing("Specific(foo, 50)"),
    ),
    Case(
        "an unknown version",
        "model_servers/http_rest_api_handler_test.cc: PredictModelNameVersionErrors",
        _post(f"{_MODEL}/versions/99:predict"),
        _missing(f"Specific({HALF_PLUS_TWO}, 99)"),
    ),
    Case(
        "an unknown label",
        "model_servers/http_rest_api_handler_test.cc: PredictRequestErrors",
        _post(f"{_MODEL}/labels/none:predict"),
        refused("Unrecognized servable version label: none"),
    ),
    Case(
        "the document is read before the model is looked for",
        "util/json_tensor.cc: FillPredictRequestFromJson (get_tensorinfo_map)",
        _post("/v1/models/foo:predict", b"{"),
        refused("JSON Parse error: Missing a name for object member. at offset: 1"),
    ),
    Case(
        "the model is looked for before the inputs are read",
        "util/json_tensor.cc: FillPredictRequestFromJson (get_tensorinfo_map)",
        _post("/v1/models/foo:predict", {}),
        _missing("Latest(foo)"),
    ),
    # State.
    Case("all versions, the newest first", _STATUS_TEST, _get(_MODEL), _states(123, 122)),
    Case("the state of a version", _STATUS_TEST, _get(f"{_MODEL}/versions/122"), _states(122)),
    Case(
        "the state of a label",
        "model_servers/get_model_status_impl.cc: GetModelStatusWithModelSpec",
        _get(f"{_MODEL}/labels/{LABEL}"),
        _states(OLD_VERSION),
        differs="TF Serving gives all versions, although its API page says that a label chooses.",
    ),
    Case(
        "the state of an unknown label",
        "model_servers/get_model_status_impl.cc: GetModelStatusWithModelSpec",
        _get(f"{_MODEL}/labels/none"),
        refused("Unrecognized servable version label: none"),
        differs="TF Serving gives all versions.",
    ),
    Case(
        "the state of an unknown model",
        "model_servers/get_model_status_impl_test.cc: InvalidModelNameFailure",
        _get("/v1/models/foo"),
        Answer(404, error="Could not find any versions of model foo"),
    ),
    Case(
        "the state of an unknown version",
        "model_servers/get_model_status_impl_test.cc: InvalidModelVersionFailure",
        _get(f"{_MODEL}/versions/99"),
        Answer(404, error=f"Could not find version 99 of model {HALF_PLUS_TWO}"),
    ),
    # Metadata.
    Case(
        "metadata",
        "model_servers/http_rest_api_handler_test.cc: GetModelMetadata",
        _get(f"{_MODEL}/metadata"),
        Answer(
            200,
            {
                "model_spec": {
                    "name": HALF_PLUS_TWO,
                    "signature_name": "",
                    "version": str(VERSION),
                },
                "metadata": {
                    "signature_def": {
                        "signature_def": {
                            "__saved_model_init_op": {
                                "inputs": {},
                                "outputs": {
                                    "__saved_model_init_op": {
                                        "dtype": "DT_INVALID",
                                        "tensor_shape": {"dim": [], "unknown_rank": True},
                                        "name": "NoOp",
                                    }
                                },
                                "method_name": "",
                                "defaults": {},
                            },
                            "serving_default": {
                                "inputs": {
                                    "x": {
                                        "dtype": "DT_FLOAT",
                                        "tensor_shape": {
                                            "dim": [
                                                {"size": "-1", "name": ""},
                                                {"size": "1", "name": ""},
                                            ],
                                            "unknown_rank": False,
                                        },
                                        "name": "serving_default_x:0",
                                    }
                                },
                                "outputs": {
                                    "y": {
                                        "dtype": "DT_FLOAT",
                                        "tensor_shape": {
                                            "dim": [
                                                {"size": "-1", "name": ""},
                                                {"size": "1", "name": ""},
                                            ],
                                            "unknown_rank": False,
                                        },
                                        "name": "PartitionedCall:0",
                                    }
                                },
                                "method_name": "tensorflow/serving/predict",
                                "defaults": {},
                            },
                        }
                    }
                },
            },
            headers={"Content-Type": "application/json"},
        ),
    ),
    Case(
        "metadata of a label",
        _UTIL_TEST + "TestParseModelInfoForGet",
        _get(f"{_MODEL}/labels/{LABEL}/metadata"),
        Answer(200, has=f'"version": "{OLD_VERSION}"'),
    ),
    Case(
        "metadata of an unknown label",
        "model_servers/server_core.cc: GetModelVersionForLabel",
        _get(f"{_MODEL}/labels/none/metadata"),
        refused("Unrecognized servable version label: none"),
    ),
    Case(
        "metadata of an unknown model",
        "servables/tensorflow/get_model_metadata_impl.cc: SavedModelGetSignatureDef",
        _get("/v1/models/foo/metadata"),
        _missing("Latest(foo)"),
    ),
    # Browsers.
    Case(
        "a preflight request",
        _DISPATCH,
        Rest("OPTIONS", f"{_MODEL}:predict", headers={"Origin": _ORIGIN}),
        Answer(200, headers={"Access-Control-Allow-Origin": None}),
    ),
    Case(
        "a preflight request without an origin",
        _DISPATCH,
        Rest("OPTIONS", f"{_MODEL}:predict"),
        Answer(400),
    ),
    Case(
        "a preflight request with CORS support",
        "model_servers/http_rest_api_util.cc: AddCORSHeaders",
        Rest("OPTIONS", f"{_MODEL}:predict", headers={"Origin": _ORIGIN}, to_cors=True),
        Answer(
            200,
            headers={
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "POST, GET",
                "Access-Control-Allow-Headers": "Content-Type",
            },
        ),
    ),
    Case(
        "an answer with CORS support",
        _DISPATCH,
        Rest("POST", f"{_MODEL}:predict", _BODY, {"Origin": _ORIGIN}, to_cors=True),
        Answer(200, {"predictions": [2.5]}, headers={"Access-Control-Allow-Origin": "*"}),
    ),
    Case(
        "an error with CORS support",
        _DISPATCH,
        Rest("GET", "/v1/foo", headers={"Origin": _ORIGIN}, to_cors=True),
        Answer(400, headers={"Access-Control-Allow-Origin": "*"}),
    ),
    Case(
        "an answer without CORS support",
        _DISPATCH,
        Rest("POST", f"{_MODEL}:predict", _BODY, {"Origin": _ORIGIN}),
        Answer(200, {"predictions": [2.5]}, headers={"Access-Control-Allow-Origin": None}),
    ),
    Case(
        "a page of another site, with CORS support",
        _DISPATCH,
        Rest(
            "OPTIONS",
            f"{_MODEL}:predict",
            headers={"Origin": "http://elsewhere.example"},
            to_cors=True,
        ),
        Answer(403, has="--allowed_hosts"),
        differs="Only pages of the hosts that --allowed_hosts names are answered.",
    ),
    # What is not served.
    Case(
        "classify",
        "model_servers/http_rest_api_handler_test.cc: Classify",
        _post(f"{_MODEL}:classify", {"examples": [{"x": 20.0}]}),
        Answer(501, error="Method classify is not served; use :predict"),
        differs="A recommender has no signatures of this kind.",
    ),
    Case(
        "regress",
        "model_servers/http_rest_api_handler_test.cc: Regress",
        _post(f"{_MODEL}:regress", {"examples": [{"x": 80.0}]}),
        Answer(501, error="Method regress is not served; use :predict"),
        differs="A recommender has no signatures of this kind.",
    ),
    Case(
        "a body over the limit",
        "model_servers/http_server.cc: CreateAndStartHttpServer",
        _post(f"{_MODEL}:predict", b" " * (2**20 + 1)),
        Answer(413, has="larger than the limit of 1048576 bytes"),
        differs="TF Serving reads bodies of any size.",
    ),
    Case(
        "more rows than are admitted",
        "util/json_tensor.cc: FillTensorMapFromInstancesList",
        _post(f"{_MODEL}:predict", {"instances": [[1.0]] * 1025}),
        refused_with("The request has 1025 rows; the limit is 1024 (max_request_rows)"),
        differs="The rows of a request are limited; TF Serving limits them with batching only.",
    ),
]
