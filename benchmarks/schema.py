"""The part of JSON Schema that our schemas use, so that a device without the package `jsonschema` can check a file.

A test compares it with `jsonschema` and fails when a schema uses a word that is not here.
"""

import math
from typing import Any

from edge.errors import InputError

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def check(value: Any, schema: dict[str, Any], where: str, root: dict[str, Any] | None = None) -> None:
    """Raise InputError that begins with the place in the document if `value` does not fit `schema`."""
    root = schema if root is None else root
    if "$ref" in schema:
        check(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], where, root)
    if "const" in schema and value != schema["const"]:
        raise InputError(f"{where} is {value!r}, not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        raise InputError(f"{where} is {value!r}; it must be one of {', '.join(schema['enum'])}")
    if "type" in schema:
        _check_type(value, schema["type"], where)
    if "minimum" in schema and _is_a(value, "number") and value < schema["minimum"]:
        raise InputError(f"{where} is {value!r}; it must be at least {schema['minimum']}")
    if isinstance(value, list):
        _check_list(value, schema, where, root)
    if isinstance(value, dict):
        _check_dictionary(value, schema, where, root)


def _check_list(value: list[Any], schema: dict[str, Any], where: str, root: dict[str, Any]) -> None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        raise InputError(f"{where} holds {len(value)} values; it must hold {schema.get('minItems', 0)} at least")
    for i, item in enumerate(value):
        check(item, schema.get("items", {}), f"{where}[{i}]", root)


def _check_dictionary(value: dict[str, Any], schema: dict[str, Any], where: str, root: dict[str, Any]) -> None:
    for key in schema.get("required", ()):
        if key not in value:
            raise InputError(f"{where} has no {key!r}")
    for key, part in schema.get("properties", {}).items():
        if key in value:
            check(value[key], part, f"{where}.{key}", root)


def _check_type(value: Any, names: str | list[str], where: str) -> None:
    allowed = [names] if isinstance(names, str) else names
    if not any(_is_a(value, name) for name in allowed):
        raise InputError(f"{where} must be {' or '.join(allowed)}, not {value!r:.80}")


def _is_a(value: Any, name: str) -> bool:
    """Like JSON: true is no number, 3.0 is an integer, and there is neither NaN nor infinity."""
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name]) and not (isinstance(value, float) and not math.isfinite(value))
