"""A tiny pipeline whose steps are plain commands, for tests of what surrounds TFX."""

import copy
from typing import Any

import yaml

_ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact"}}


def two_steps(first: list[str], second: list[str]) -> dict[str, Any]:
    """A pipeline ``first`` → ``second`` with one parameter of each type; commands get ``{{$}}``."""
    return copy.deepcopy(
        {
            "pipelineInfo": {"name": "tiny"},
            "schemaVersion": "2.1.0",
            "sdkVersion": "tfx-1.16.0",
            "defaultPipelineRoot": "minio://bucket/root",
            "root": {
                "inputDefinitions": {
                    "parameters": {
                        "files": {"parameterType": "LIST", "defaultValue": ["a"]},
                        "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.5},
                        "steps": {"parameterType": "NUMBER_INTEGER", "defaultValue": 10},
                        "text": {"parameterType": "STRING", "defaultValue": ""},
                    }
                },
                "dag": {
                    "tasks": {
                        "first": {
                            "taskInfo": {"name": "first"},
                            "componentRef": {"name": "first"},
                            "cachingOptions": {"enableCache": True},
                            "inputs": {
                                "parameters": {
                                    "constant": {"runtimeValue": {"constant": "fixed"}},
                                    "steps": {"componentInputParameter": "steps"},
                                }
                            },
                        },
                        "second": {
                            "taskInfo": {"name": "second"},
                            "componentRef": {"name": "second"},
                            "cachingOptions": {"enableCache": True},
                            "dependentTasks": ["first"],
                            "inputs": {
                                "artifacts": {
                                    "data": {
                                        "taskOutputArtifact": {
                                            "producerTask": "first",
                                            "outputArtifactKey": "data",
                                        }
                                    }
                                }
                            },
                        },
                    }
                },
            },
            "components": {
                "first": {
                    "executorLabel": "first_executor",
                    "inputDefinitions": {
                        "parameters": {
                            "constant": {"parameterType": "STRING"},
                            "steps": {"parameterType": "NUMBER_INTEGER"},
                        }
                    },
                    "outputDefinitions": {"artifacts": {"data": _ARTIFACT}},
                },
                "second": {
                    "executorLabel": "second_executor",
                    "inputDefinitions": {"artifacts": {"data": _ARTIFACT}},
                    "outputDefinitions": {"artifacts": {"result": _ARTIFACT}},
                },
            },
            "deploymentSpec": {
                "executors": {
                    "first_executor": {
                        "container": {"image": "i", "command": first, "args": ["{{$}}"]}
                    },
                    "second_executor": {
                        "container": {"image": "i", "command": second, "args": ["{{$}}"]}
                    },
                }
            },
        }
    )


def to_yaml(pipeline: dict[str, Any], *platform: dict[str, Any]) -> str:
    """The compiled file."""
    return yaml.safe_dump_all([pipeline, *platform])
