"""The outline of an ONNX file, read without the onnx package: is it whole, and are its weights inside?

A device has no onnx package, yet a graph is untrusted input: a tensor with external data makes a runtime open any path
that the file names. An ONNX file is a protobuf message, a list of (field number, wire type, value); a message is one
value of known length. The walk goes down to the tensors only and skips their values: well under a millisecond for a
student. Field numbers: onnx/onnx.proto (IR version 10 and later); wire types:
protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from pathlib import Path

from edge.errors import InputError

# message -> field number -> message in that field; only the fields on the way to a tensor.
_CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "tensor": {},
}
_GRAPH, _EXTERNAL_DATA, _DATA_LOCATION = 7, 13, 14  # fields of ModelProto and, twice, of TensorProto
_DEEPEST = 64  # messages inside messages; protobuf's own readers stop at 100


class _BrokenError(ValueError):
    """The bytes are no protobuf message."""


def read_onnx(path: Path) -> bytes:
    """The bytes of a whole ONNX file with its weights inside; InputError for anything else."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"the graph {path} is not a file") from None
    try:
        if not any(number == _GRAPH for number, _ in _fields(memoryview(data))):
            raise _BrokenError("it holds no graph")
        _walk("model", memoryview(data), 0, path)
    except _BrokenError as error:
        raise InputError(f"{path} is not an ONNX file, or it is truncated: {error}") from None
    return data


def _walk(message: str, data: memoryview, depth: int, path: Path) -> None:
    if depth > _DEEPEST:
        raise _BrokenError(f"more than {_DEEPEST} levels")
    children = _CHILDREN[message]
    for number, value in _fields(data):
        if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1)):
            raise InputError(f"{path} keeps weights in another file (external data); export it with the weights inside")
        if number in children:
            if isinstance(value, int):
                raise _BrokenError(f"field {number} of a {message} has the wrong type")
            _walk(children[number], value, depth + 1, path)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: a number for wire type 0, else the bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _BrokenError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise _BrokenError(f"{at + size - len(data)} bytes are missing")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _BrokenError("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _BrokenError(f"a number of more than ten bytes at byte {at}")
