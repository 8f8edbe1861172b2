"""The services as they are described, beside what tensorflow-serving-api would register."""

import ast
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from tensorflow_serving import apis

from serving import service_descriptors


@pytest.mark.parametrize("name", ["prediction_service", "model_service"])
def test_they_are_those_of_tf_servings_own_modules(name):
    service_descriptors.register()
    ours = descriptor_pb2.FileDescriptorProto()
    path = f"tensorflow_serving/apis/{name}.proto"
    descriptor_pool.Default().FindFileByName(path).CopyToProto(ours)
    # Read, because protobuf 4 refuses to run it.
    source = (Path(apis.__path__[0]) / f"{name}_pb2.py").read_text()
    (serialized,) = (
        node.value.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb"
    )
    theirs = descriptor_pb2.FileDescriptorProto.FromString(serialized.encode("latin1"))
    theirs.ClearField("options")  # of C++ alone
    assert ours == theirs
