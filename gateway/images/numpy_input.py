"""Read the numpy arrays that clients send as images: pickled, as Roboflow's clients send them, or in `.npy` format.

Decision: pickles are accepted, as the incumbent's clients send them, by a reader of our own: Python's is not bounded.

A pickle is a program for a stack machine that can import and call. Two things make Python's own unpickler unsafe here,
even with a restricted `find_class`:

- The unpickler allocates by numbers that the pickle claims. The 8 bytes `K\\x01r\\xff\\xff\\xff\\x0f.` (a LONG_BINPUT
  with a large index) took 4 GB and 14 s with CPython 3.11.
- A check of the operations beforehand does not help. Where an operation crosses the end of its frame, `pickletools`
  and the unpickler of CPython 3.11 read different numbers from the same bytes.

This module interprets the operations that numpy's pickles consist of, and no others. Names such as `numpy.ndarray`
become constants, and no name is imported. No allocation is larger than the pickle itself. Protocols 0 to 5 are read, as
numpy 1 and numpy 2 write them.

Only arrays of uint8 are accepted, which is what OpenCV loads. Other types have no agreed range: a float may end at 1 or
at 255, and 16 bits may hold 12. The error names the type. The incumbent does not check the type.
"""

import io
import pickletools
import re
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidImage

_UNREADABLE: Final = "Could not deserialize pickle payload."
_NOT_AN_ARRAY: Final = "Data provided as input could not be decoded into np.ndarray object."
_DIMENSIONS: Final = "For image given as np.ndarray expected 2 or 3 dimensions."
_CHANNELS: Final = "For image given as np.ndarray expected 1 or 3 channels."

_NPY_MAGIC: Final = b"\x93NUMPY"
# numpy writes 128 bytes for an image. numpy evaluates the header as a Python literal; here three fields are searched.
_MAX_NPY_HEADER: Final = 1_024
_NPY_FIELDS: Final = (
    re.compile(r"""['"]descr['"] *: *['"]([^'"]+)['"]"""),
    re.compile(r"""['"]fortran_order['"] *: *(True|False)"""),
    re.compile(r"""['"]shape['"] *: *\(([0-9, ]*)\)"""),
)


def read_array(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Read the image in a pickled array or in an `.npy` file.

    Args:
        data: the file. An array [height, width, 3] is BGR, as in OpenCV; [height, width, 1] and [height, width] are
            gray.
        max_pixels: the largest allowed product of height and width.

    Returns:
        RGB pixels, uint8 [height, width, 3]: C-contiguous, writable, and independent of `data`.

    Raises:
        InvalidImage: the data is in neither format, is damaged, or is not an image with 8 bits a channel.
    """
    array = _read_npy(data) if data.startswith(_NPY_MAGIC) else _read_pickle(data)
    if array.ndim not in (2, 3):
        raise InvalidImage(_DIMENSIONS)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    height, width, channels = array.shape
    if channels not in (1, 3):
        raise InvalidImage(_CHANNELS)
    if not array.size:
        raise InvalidImage("The image has no pixels.")
    if width * height > max_pixels:
        raise InvalidImage(f"The image has {width}x{height} pixels, more than the {max_pixels} that are allowed.")
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[...] = array[:, :, ::-1]
    return rgb


def _view(raw: bytes | bytearray | memoryview, shape: Any, order: str) -> NDArray[np.uint8]:
    """View bytes as an array of the shape that the client claims.

    Raises:
        InvalidImage: the shape is not one of an image, or does not fit the number of bytes.
    """
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)):
        raise InvalidImage(_NOT_AN_ARRAY)
    if len(shape) not in (2, 3):
        raise InvalidImage(_DIMENSIONS)
    try:
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")
    except (ValueError, OverflowError):
        raise InvalidImage(_NOT_AN_ARRAY) from None


def _check_dtype(name: str) -> None:
    if name.lstrip("|<>=") not in ("u1", "B", "uint8"):
        shown = name if re.fullmatch(r"[|<>=]?[A-Za-z?][A-Za-z0-9]{0,15}", name) else "another"
        raise InvalidImage(f"For image given as np.ndarray expected dtype uint8, got {shown}.")


def _read_npy(data: bytes) -> NDArray[np.uint8]:
    """Read https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""
    size_bytes = 2 if data[6:7] == b"\x01" else 4
    start = 8 + size_bytes
    end = start + int.from_bytes(data[8:start], "little")
    if end > min(len(data), _MAX_NPY_HEADER):
        raise InvalidImage(_NOT_AN_ARRAY)
    header = data[start:end].decode("latin-1")
    dtype, order, shape = (pattern.search(header) for pattern in _NPY_FIELDS)
    if not (dtype and order and shape):
        raise InvalidImage(_NOT_AN_ARRAY)
    _check_dtype(dtype[1])
    sizes = tuple(int(size) for size in re.findall(r"[0-9]+", shape[1]))
    return _view(memoryview(data)[end:], sizes, "F" if order[1] == "True" else "C")


# numpy's pickles of an array have about 50 operations, and up to four calls. Each call may copy the pixels once.
_MAX_OPERATIONS: Final = 200
_MAX_CALLS: Final = 4
_OPERATIONS: Final = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}
_LITERALS: Final = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_MARK: Final = object()
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": _MARK}
# Each importable name, as `pickletools` joins module and name. numpy 1 says `numpy.core`, numpy 2 `numpy._core`.
_RECONSTRUCT, _FROMBUFFER, _NDARRAY, _DTYPE, _ENCODE = (object() for _ in range(5))
_GLOBALS: Final = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy.core.numeric _frombuffer": _FROMBUFFER,
    "numpy._core.numeric _frombuffer": _FROMBUFFER,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,
}
_PERMUTATIONS: Final = [*permutations(range(2)), *permutations(range(3))]


@dataclass(frozen=True, eq=False)
class _DType:
    """The result of calling `numpy.dtype`."""

    name: str


@dataclass(frozen=True, eq=False)
class _Array:
    """The result of calling `_reconstruct` (without pixels, until BUILD) or `_frombuffer`."""

    pixels: NDArray[np.uint8] | None = None


def _read_pickle(data: bytes) -> NDArray[np.uint8]:
    """Interpret the operations of https://docs.python.org/3/library/pickletools.html that make up an array.

    Raises:
        InvalidImage: the pickle is malformed, holds another object, or has an operation that no array needs.
    """
    file = io.BytesIO(data)
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    calls = 0
    try:
        for _ in range(_MAX_OPERATIONS):
            operation = _OPERATIONS[file.read(1)]
            match operation.name:
                case "PROTO" | "FRAME":
                    _argument(operation, file)
                case name if name in _LITERALS:
                    stack.append(_argument(operation, file))
                case name if name in _CONSTANTS:
                    stack.append(_CONSTANTS[name])
                case "TUPLE":
                    mark = max(index for index, item in enumerate(stack) if item is _MARK)
                    stack[mark:] = [tuple(stack[mark + 1 :])]
                case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                    length = int(name[-1])
                    stack[-length:] = [tuple(stack[-length:])]
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[_argument(operation, file)] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[_argument(operation, file)])
                case "GLOBAL":
                    stack.append(_global(_argument(operation, file)))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    are_text = isinstance(module, str) and isinstance(name, str)
                    stack.append(_global(f"{module} {name}" if are_text else None))
                case "REDUCE" if calls < _MAX_CALLS:
                    calls += 1
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(_call(function, arguments))
                case "BUILD":
                    state, target = stack.pop(), stack.pop()
                    stack.append(_build(target, state))
                case "STOP" if isinstance(result := stack[-1], _Array) and result.pixels is not None:
                    return result.pixels
                case _:
                    _refuse()
    except (ValueError, IndexError, KeyError):  # the data ends early, or the stack or the memo lacks an entry
        raise InvalidImage(_UNREADABLE) from None
    raise InvalidImage(_NOT_AN_ARRAY)


def _argument(operation: pickletools.OpcodeInfo, file: io.BytesIO) -> Any:
    """Read an operation's argument. The readers check a claimed length against the data before they allocate."""
    assert operation.arg is not None
    return operation.arg.reader(file)


def _refuse() -> NoReturn:
    """Refuse a pickle that is well-formed so far and not an array."""
    raise InvalidImage(_NOT_AN_ARRAY)


def _global(name: str | None) -> object:
    if name not in _GLOBALS:
        _refuse()
    return _GLOBALS[name]


def _call(function: object, arguments: Any) -> object:
    """The result of a call that numpy's pickles make. Refuses any other."""
    if not isinstance(arguments, tuple):
        _refuse()
    match arguments:
        case (str(name), _, _) if function is _DTYPE:
            return _DType(name)
        case (cls, tuple(), bytes()) if function is _RECONSTRUCT and cls is _NDARRAY:
            return _Array()
        case (str(text), "latin1") if function is _ENCODE:
            return text.encode("latin-1")  # UnicodeEncodeError is a ValueError
        case ((bytes() | bytearray()) as raw, _DType(name=name), shape, "C" | "F" as order) if function is _FROMBUFFER:
            return _array(raw, name, shape, order)
        case ((bytes() | bytearray()) as raw, _DType(name=name), shape, "K", axes) if function is _FROMBUFFER:
            # numpy 2.4 and later: the axes of a contiguous array in another order.
            if axes not in _PERMUTATIONS:
                _refuse()
            return _array(raw, name, shape, "C", axes)
        case _:
            _refuse()


def _build(target: object, state: Any) -> object:
    """The object after its state is set, as numpy's pickles set it."""
    match target, state:
        case _DType(), tuple():
            return target  # byte order, fields and alignment have no effect on single bytes
        case _Array(), (int(), shape, _DType(name=name), int(fortran_order), (bytes() | bytearray()) as raw):
            return _array(raw, name, shape, "F" if fortran_order else "C")
        case _:
            _refuse()


def _array(raw: bytes | bytearray, dtype: str, shape: Any, order: str, axes: tuple[int, ...] | None = None) -> _Array:
    _check_dtype(dtype)
    pixels = _view(raw, shape, order)
    return _Array(pixels if axes is None else pixels.transpose(axes))
