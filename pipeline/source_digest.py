"""Computes a digest of the source code that a step runs.

TFX keys its cache on parameters and inputs, but not on the code behind an import path. Every
component of this project therefore has a digest of the code that it runs as a parameter: editing
that code makes the step run again, and editing other code leaves its outputs in the cache. The
import statements determine which files count, so nobody has to maintain a list.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def source_digest(*entries: str, alone: Sequence[str] = ()) -> str:
    """Returns a hexadecimal digest of modules and of everything that they import from this project.

    Args:
      *entries: Import paths of modules, such as ``components.baseline.executor``, or
        of what they define, such as ``model.tfx_functions.trainer.run_fn``.
      alone: Further modules that are included without their imports.

    Raises:
      ModuleNotFoundError: the project has no such module.
    """
    files = import_closure(*entries) | {_existing_file(name) for name in alone}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(PROJECT_ROOT)).encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def import_closure(*entries: str) -> set[Path]:
    """Returns the project's files that importing ``entries`` can execute, including their own.

    Imports count wherever they are, also inside functions, and so does the ``__init__.py`` of every
    package on the way. Modules whose names are computed at run time are not detected.

    Raises:
      ModuleNotFoundError: an entry is neither a module of the project nor defined in one.
    """
    for name in entries:
        if not _file_of(name):
            _existing_file(name.rpartition(".")[0])
    seen: set[str] = set()
    waiting = list(entries)
    files = set()
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])
        if file := _file_of(name):
            files.add(file)
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            waiting += _imported_names(file.read_bytes(), package)
    return files


def _existing_file(module: str) -> Path:
    file = _file_of(module)
    if file is None:
        raise ModuleNotFoundError(
            f"The source digest needs module {module!r}, which {PROJECT_ROOT} does not have. "
            "Correct its name in pipeline/entries.py."
        )
    return file


def _file_of(module: str) -> Path | None:
    """Returns the file of one of the project's modules; None for any other name."""
    path = PROJECT_ROOT.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return None


@functools.cache
def _imported_names(source: bytes, package: str) -> tuple[str, ...]:
    """Returns the names that ``source``, code of a module in ``package``, may import as modules."""
    return tuple(sorted(set(_names(ast.parse(source), package))))


def _names(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            # Each imported name may be a module of that package.
            yield from (f"{base}.{alias.name}" for alias in node.names)
