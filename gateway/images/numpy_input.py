"""Numpy arrays that clients send as images: pickled, as Roboflow's clients do, or ``.npy``. Nothing is ever executed.

A pickle is a program for a stack machine that can import and call. Python's own machine, even with a restricted
``find_class``, still lets a stream alter what it imported (BUILD), and allocates by numbers that the stream merely
claims: seven bytes (LONG_BINPUT) can ask for gigabytes. So a pickle is read here by a machine of our own, which knows
only the operations that numpy's pickles consist of, for which "numpy.ndarray" and its like are words and not objects,
and which allocates nothing but what the stream really contains. It reads protocols 0 to 5, written by numpy 1 or 2.

Arrays of uint8 only, which is what OpenCV loads. Others have no agreed range (floats to 1 or to 255? 16 bits of which
12 count?), so the client is told instead of its image being guessed at. The incumbent does not look.
"""

import io
import pickletools
import re
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
# numpy writes 128 bytes for an image. To numpy the header is Python source, which it parses; here it is three fields.
_MAX_NPY_HEADER: Final = 1_024
_NPY_FIELDS: Final = (
    re.compile(r"""['"]descr['"] *: *['"]([^'"]+)['"]"""),
    re.compile(r"""['"]fortran_order['"] *: *(True|False)"""),
    re.compile(r"""['"]shape['"] *: *\(([0-9, ]*)\)"""),
)
# numpy's own pickles of an array take about 50.
_MAX_OPERATIONS: Final = 200


def read_array(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The image in a pickled array or an ``.npy`` file.

    Args:
        data: the file. [height, width, 3] is BGR, as OpenCV has it; [height, width, 1] and [height, width] are gray.
        max_pixels: refuse more.

    Returns:
        [height, width, 3], RGB, contiguous, and the caller's own.

    Raises:
        InvalidImage: not one of these, damaged, or no image of 8 bits a channel.
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
    """Bytes as an array of a shape that a client claims; never more than the bytes there are."""
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)):
        raise InvalidImage(_NOT_AN_ARRAY)
    if len(shape) not in (2, 3):
        raise InvalidImage(_DIMENSIONS)
    try:
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")
    except (ValueError, OverflowError):
        raise InvalidImage(_NOT_AN_ARRAY) from None  # more or fewer bytes than the shape takes


def _check_dtype(name: str) -> None:
    if name.lstrip("|<>=") not in ("u1", "B", "uint8"):
        shown = name if re.fullmatch(r"[|<>=]?[A-Za-z?][A-Za-z0-9]{0,15}", name) else "another"
        raise InvalidImage(f"For image given as np.ndarray expected dtype uint8, got {shown}.")


def _read_npy(data: bytes) -> NDArray[np.uint8]:
    """https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"""
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


# What a global stands for; both spellings, of numpy 1 and of numpy 2.
_RECONSTRUCT, _FROMBUFFER, _NDARRAY, _DTYPE, _ENCODE = (object() for _ in range(5))
_GLOBALS: Final = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROMBUFFER,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,
}
_MARK: Final = object()
_OPERATIONS: Final = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}
_PERMUTATIONS: Final = [*permutations(range(2)), *permutations(range(3))]


class _DType:
    """A dtype, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Array:
    """What ``_reconstruct`` returns: nothing yet, until BUILD."""

    content: NDArray[np.uint8] | None = None


def _read_pickle(data: bytes) -> NDArray[np.uint8]:
    machine = _Machine(data)
    try:
        for _ in range(_MAX_OPERATIONS):
            operation = _OPERATIONS[machine.file.read(1)]
            if operation.name == "STOP":
                result = machine.stack[-1]
                break
            machine.run(operation)
        else:
            _refuse()
    except (ValueError, IndexError, KeyError):  # the stream ends, or the stack or memo lacks what is asked of it
        raise InvalidImage(_UNREADABLE) from None
    if not isinstance(result, _Array) or result.content is None:
        _refuse()
    return result.content


def _refuse() -> NoReturn:
    """A pickle of something else, or of something that does something else."""
    raise InvalidImage(_NOT_AN_ARRAY)


class _Machine:
    """The operations of https://docs.python.org/3/library/pickletools.html that make up an array."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, operation: pickletools.OpcodeInfo) -> None:
        """Do one operation; its argument is read only if it is one that an array needs.

        Raises:
            InvalidImage: an operation or a call that no array needs.
            ValueError: the stream ends in the argument, or it is malformed.
            IndexError: the stack is too short.
            KeyError: nothing is kept under that number.
        """
        stack = self.stack
        match operation.name:
            case "PROTO" | "FRAME":
                self._argument(operation)
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1":
                stack.append(self._argument(operation))
            case "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                stack.append(self._argument(operation))
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(self._argument(operation))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(operation.name == "NEWTRUE")
            case "MARK":
                stack.append(_MARK)
            case "TUPLE":
                at = max(index for index, item in enumerate(stack) if item is _MARK)
                stack[at:] = [tuple(stack[at + 1 :])]
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(operation.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[self._argument(operation)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[self._argument(operation)])
            case "GLOBAL":
                module, name = (self.file.readline()[:-1].decode("ascii") for _ in range(2))
                stack.append(_global(module, name))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            case "BUILD":
                state = stack.pop()
                _build(stack[-1], state)
            case _:
                _refuse()

    def _argument(self, operation: pickletools.OpcodeInfo) -> Any:
        assert operation.arg is not None
        return operation.arg.reader(self.file)  # never more than the stream has: it checks claimed lengths


def _global(module: Any, name: Any) -> object:
    if not (isinstance(module, str) and isinstance(name, str) and (module, name) in _GLOBALS):
        _refuse()
    return _GLOBALS[module, name]


def _call(function: object, arguments: Any) -> object:
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
            # Since numpy 2.4: contiguous, but for the order of the axes.
            if axes not in _PERMUTATIONS:
                _refuse()
            return _array(raw, name, shape, "C", axes)
        case _:
            _refuse()


def _build(target: object, state: Any) -> None:
    match target, state:
        case _DType(), tuple():
            pass  # byte order, fields, alignment: of no effect on a single byte
        case _Array(), (int(), shape, _DType(name=name), int(fortran_order), (bytes() | bytearray()) as raw):
            target.content = _array(raw, name, shape, "F" if fortran_order else "C").content
        case _:
            _refuse()


def _array(raw: bytes | bytearray, dtype: str, shape: Any, order: str, axes: tuple[int, ...] = ()) -> _Array:
    _check_dtype(dtype)
    array = _Array()
    array.content = _view(raw, shape, order)
    if axes:
        if len(axes) != array.content.ndim:
            _refuse()
        array.content = array.content.transpose(axes)
    return array
