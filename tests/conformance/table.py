"""All rows of the table, by part and name."""

from tests.conformance import (
    document_cases,
    grpc_cases,
    path_cases,
    request_cases,
    value_cases,
)

TABLE = {
    "document": document_cases.CASES,
    "request": request_cases.CASES,
    "value": value_cases.CASES,
    "path": path_cases.CASES,
    "gRPC predict": grpc_cases.PREDICT_CASES,
    "gRPC": grpc_cases.OTHER_CASES,
}
CASES = {f"{part}: {case.name}": case for part, cases in TABLE.items() for case in cases}
NUMBER_OF_CASES = sum(map(len, TABLE.values()))
