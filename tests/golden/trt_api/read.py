"""Print the names of a TensorRT's Python API: how the tables in this folder were made.

    python read.py > 10.16.json          where ``import tensorrt`` works; no GPU is needed

The bindings answer without the libraries behind them, when these are replaced by empty ones. A
table holds names only: ``classes`` maps a class to its public attributes, inherited ones included,
``enums`` maps an enumeration to its members and their values, ``functions`` lists the rest.
"""

from __future__ import annotations

import inspect
import json
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def table(module: ModuleType) -> dict[str, Any]:
    """The public API of ``module``."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    types = {name: item for name, item in found.items() if inspect.isclass(item)}
    enums = {name: item for name, item in types.items() if hasattr(item, "__members__")}
    classes = {name: item for name, item in types.items() if name not in enums}
    functions = [name for name, item in found.items() if inspect.isroutine(item)]
    return {
        "version": str(module.__version__),
        "enums": {
            name: {key: int(value) for key, value in item.__members__.items()}
            for name, item in enums.items()
        },
        "classes": {
            name: " ".join(key for key in dir(item) if not key.startswith("_"))
            for name, item in classes.items()
        },
        "functions": sorted(functions),
    }


def dump(data: dict[str, Any]) -> str:
    """``data`` as JSON, one class or enumeration on a line."""
    lines = [f'"version": {json.dumps(data["version"])}']
    for part in ("enums", "classes"):
        rows = [f"{json.dumps(name)}: {json.dumps(item)}" for name, item in data[part].items()]
        lines.append(f'"{part}": {{\n' + ",\n".join(rows) + "\n}")
    lines.append(f'"functions": {json.dumps(data["functions"])}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(dump(table(import_module("tensorrt"))))
