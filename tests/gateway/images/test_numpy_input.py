"""Arrays from clients are read as numpy reads them. Everything else is refused, and nothing is executed."""

import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.errors import InvalidImage
from gateway.images.numpy_input import read_array

MAX_PIXELS: Final = 1_000_000
UNREADABLE: Final = "Could not deserialize pickle payload."
NOT_AN_ARRAY: Final = "Data provided as input could not be decoded into np.ndarray object."
DIMENSIONS: Final = "For image given as np.ndarray expected 2 or 3 dimensions."
CHANNELS: Final = "For image given as np.ndarray expected 1 or 3 channels."
DTYPE: Final = "For image given as np.ndarray expected dtype uint8, got "

BGR: Final = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GRAY: Final = BGR[:, :, 0]
SMALL: Final = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def npy(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)  # type: ignore[no-untyped-call]
    return file.getvalue()


def cause_of(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidImage) as caught:
        read_array(data, max_pixels)
    return caught.value.cause


# -- Accepted

IMAGES: Final = {
    "as it is": BGR,
    "one pixel": BGR[:1, :1].copy(),
    "Fortran order": np.asfortranarray(BGR),
    "every other column": BGR[:, ::2],
    "mirrored": BGR[:, ::-1],
    "RGB seen as BGR": BGR[:, :, ::-1],
    "transposed": BGR.transpose(1, 0, 2),
    "planes first": np.ascontiguousarray(BGR.transpose(2, 0, 1)).transpose(1, 2, 0),
    "large": np.tile(BGR, (40, 40, 1)),
}


def read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array = array.copy()
    array.setflags(write=False)
    return array


IMAGES["read-only"] = read_only(BGR)


@pytest.mark.parametrize("array", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("protocol", range(6))
def test_reads_every_protocol(array: NDArray[np.uint8], protocol: int) -> None:
    rgb = read_array(pickle.dumps(array, protocol), MAX_PIXELS)
    np.testing.assert_array_equal(rgb, array[:, :, ::-1])
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable


@pytest.mark.parametrize("array", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_reads_npy(array: NDArray[np.uint8], version: tuple[int, int]) -> None:
    np.testing.assert_array_equal(read_array(npy(array, version), MAX_PIXELS), array[:, :, ::-1])


@pytest.mark.parametrize("dump", [pickle.dumps, npy])
@pytest.mark.parametrize("gray", [GRAY, GRAY[:, :, np.newaxis], GRAY[:, :3], GRAY[:, :1]])
def test_gray_becomes_three_equal_channels(gray: NDArray[np.uint8], dump: Callable[[Any], bytes]) -> None:
    rgb = read_array(dump(gray), MAX_PIXELS)
    assert rgb.shape == (*gray.shape[:2], 3)
    for channel in range(3):
        np.testing.assert_array_equal(rgb[:, :, channel], gray.reshape(gray.shape[:2]))


# SMALL as other versions of numpy write it, recorded: numpy 1.26 in each protocol, and numpy 2.4 with permuted axes.
_DTYPE_STATE: Final = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
OTHER_VERSIONS: Final = {
    "numpy 1.26, protocol 0": b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nc_codecs\n"
    b"encode\np3\n(Vb\np4\nVlatin1\np5\ntp6\nRp7\ntp8\nRp9\n(I1\n(I2\nI2\nI3\ntp10\ncnumpy\ndtype\np11\n(Vu1\np12\nI00\n"
    b"I01\ntp13\nRp14\n(I3\nV|\np15\nNNNI-1\nI-1\nI0\ntp16\nbI00\ng3\n(V\\u0000\x01\x02\x03\x04\x05\x06\x07\x08\t\\u000a"
    b"\x0b\np17\ng5\ntp18\nRp19\ntp20\nb.",
    "numpy 1.26, protocol 1": b"cnumpy.core.multiarray\n_reconstruct\nq\x00(cnumpy\nndarray\nq\x01(K\x00tq\x02c_codecs"
    b"\nencode\nq\x03(X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05tq\x06Rq\x07tq\x08Rq\t(K\x01(K\x02K\x02K\x03tq\n"
    b"cnumpy\ndtype\nq\x0b(X\x02\x00\x00\x00u1q\x0cI00\nI01\ntq\rRq\x0e(K\x03X\x01\x00\x00\x00|q\x0f" + _DTYPE_STATE
    + b"q\x10bI00\nh\x03(X\x0c\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0bq\x11h\x05tq\x12Rq\x13tq\x14b.",
    "numpy 1.26, protocol 2": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02"
    b"c_codecs\nencode\nq\x03X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05\x86q\x06Rq\x07\x87q\x08Rq\t(K\x01K\x02"
    b"K\x02K\x03\x87q\ncnumpy\ndtype\nq\x0bX\x02\x00\x00\x00u1q\x0c\x89\x88\x87q\rRq\x0e(K\x03X\x01\x00\x00\x00|q\x0f"
    + _DTYPE_STATE + b"q\x10b\x89h\x03X\x0c\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0bq\x11h\x05\x86q\x12R"
    b"q\x13tq\x14b.",
    "numpy 1.26, protocol 3": b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02"
    b"C\x01bq\x03\x87q\x04Rq\x05(K\x01K\x02K\x02K\x03\x87q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00u1q\x08\x89\x88\x87"
    b"q\tRq\n(K\x03X\x01\x00\x00\x00|q\x0b" + _DTYPE_STATE + b"q\x0cb\x89C\x0c\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n"
    b"\x0bq\rtq\x0eb.",
    "numpy 1.26, protocol 4": b"\x80\x04\x95\x98\x00\x00\x00\x00\x00\x00\x00\x8c\x15numpy.core.multiarray\x94\x8c\x0c"
    b"_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94(K\x01K\x02"
    b"K\x02K\x03\x87\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01|\x94"
    + _DTYPE_STATE + b"\x94b\x89C\x0c\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x94t\x94b.",
    "numpy 1.26, protocol 5": b"\x80\x05\x95\x83\x00\x00\x00\x00\x00\x00\x00\x8c\x12numpy.core.numeric\x94\x8c\x0b"
    b"_frombuffer\x94\x93\x94(\x96\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x94\x8c\x05"
    b"numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01|\x94" + _DTYPE_STATE
    + b"\x94bK\x02K\x02K\x03\x87\x94\x8c\x01C\x94t\x94R\x94.",
    "numpy 2.4, permuted axes": b"\x80\x05\x95\x98\x00\x00\x00\x00\x00\x00\x00\x8c\x13numpy._core.numeric\x94"
    b"\x8c\x0b_frombuffer\x94\x93\x94(\x96\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x06\x07\x08\x03\x04\x05\t\n\x0b\x94"
    b"\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01|\x94" + _DTYPE_STATE
    + b"\x94bK\x02K\x02K\x03\x87\x94\x8c\x01K\x94K\x01K\x00K\x02\x87\x94t\x94R\x94.",
}  # fmt: skip


@pytest.mark.parametrize("data", OTHER_VERSIONS.values(), ids=OTHER_VERSIONS.keys())
def test_reads_pickles_of_other_numpy_versions(data: bytes) -> None:
    np.testing.assert_array_equal(read_array(data, MAX_PIXELS), SMALL[:, :, ::-1])


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 3), }",
        '{"shape": (2,2,3), "fortran_order": False, "descr": "uint8"}',
        "{'descr':'<u1','fortran_order':False,'shape':(2,2,3)}\n",
    ],
)
def test_reads_npy_from_other_writers(header: str) -> None:
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + SMALL.tobytes()
    np.testing.assert_array_equal(read_array(data, MAX_PIXELS), SMALL[:, :, ::-1])


# -- Refused


@pytest.mark.parametrize("dump", [pickle.dumps, lambda array: pickle.dumps(array, 2), npy])
@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((), np.uint8), DIMENSIONS),
        (np.zeros(3, np.uint8), DIMENSIONS),
        (np.zeros((1, 2, 2, 3), np.uint8), DIMENSIONS),
        (np.zeros((2, 2, 2), np.uint8), CHANNELS),
        (np.zeros((2, 2, 4), np.uint8), CHANNELS),
        (np.zeros((3, 2, 2), np.uint8), CHANNELS),
        (np.zeros((101, 100, 3), np.uint8), "The image has 100x101 pixels, more than the 10000 that are allowed."),
        (np.zeros((2, 2, 3), np.uint16), DTYPE + "{}u2."),
        (np.zeros((2, 2, 3), np.float32), DTYPE + "{}f4."),
        (np.zeros((2, 2, 3), np.float64), DTYPE + "{}f8."),
        (np.zeros((2, 2, 3), np.int8), DTYPE + "{}i1."),
        (np.zeros((2, 2, 3), np.bool_), DTYPE + "{}b1."),
    ],
)
def test_the_error_names_the_wrong_shape_size_or_type(
    array: NDArray[Any], cause: str, dump: Callable[[Any], bytes]
) -> None:
    order = array.dtype.str[0] if dump is npy else ""
    assert cause_of(dump(array), max_pixels=10_000) == cause.format(order)


@pytest.mark.parametrize("dump", [pickle.dumps, lambda array: pickle.dumps(array, 4), npy])
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0)])
def test_an_array_without_pixels_is_refused(shape: tuple[int, ...], dump: Callable[[Any], bytes]) -> None:
    assert cause_of(dump(np.zeros(shape, np.uint8))) == "The image has no pixels."


OTHER_OBJECTS: Final[list[Any]] = [
    *(None, 1, 2.5, "text", b"bytes", [1, 2], (1, 2), {"a": 1}, {1}, [SMALL], (SMALL,), {"image": SMALL}),
    *(np.uint8(3), np.dtype("u1"), np.ndarray, SMALL.view(np.recarray), np.bool_(True), slice(1), print, Path("x")),
]


@pytest.mark.parametrize(
    "value",
    OTHER_OBJECTS,
    ids=repr,
)
@pytest.mark.parametrize("protocol", range(6))
def test_refuses_pickles_of_other_objects(value: object, protocol: int) -> None:
    assert cause_of(pickle.dumps(value, protocol)) == NOT_AN_ARRAY


class _Calling:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Attack(NamedTuple):
    name: str
    data: bytes
    cause: str = NOT_AN_ARRAY


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def an_array(shape: bytes, raw: bytes = b"C\x01a", dtype: str = "u1", order: str = "C") -> bytes:
    """Assemble a pickle that calls `_frombuffer`. `shape` and `raw` are pickle operations."""
    u1 = b"cnumpy\ndtype\n" + text(dtype) + b"\x89\x88\x87R"
    return b"\x80\x04cnumpy.core.numeric\n_frombuffer\n(" + raw + u1 + shape + text(order) + b"tR."


EXPLOIT: Final = "import os; os.environ['PE_TEST_EXECUTED'] = '1'"
CALLS: Final[list[tuple[Any, tuple[Any, ...]]]] = [
    (os.system, ("touch executed",)),
    (eval, ("__import__('os').environ.__setitem__('PE_TEST_EXECUTED', '1')",)),
    (exec, (EXPLOIT,)),
    (getattr, ("", "upper")),
    (subprocess.Popen, (["touch", "executed"],)),
    (np.load, ("/etc/passwd",)),
    (np.fromfile, ("/etc/passwd",)),
    (np.memmap, ("executed", "uint8", "w+", 0, (10,))),
    (np.zeros, ((100_000, 100_000),)),
    (np.ctypeslib.load_library, ("libc", "/")),
]
ATTACKS: Final = [
    # Calls
    *(
        Attack(
            f"{getattr(function, '__qualname__', function)}, protocol {protocol}",
            pickle.dumps(_Calling(function, *arguments), protocol),
        )
        for protocol in (0, 2, 4, 5)
        for function, arguments in CALLS
    ),
    Attack("a chain of getattr", b"cbuiltins\ngetattr\n(cos\nenviron\n" + text("clear") + b"tR)R."),
    Attack("os.system by GLOBAL", b"cos\nsystem\n(S'touch executed'\ntR."),
    Attack("os.system by INST", b"(S'touch executed'\nios\nsystem\n."),
    Attack("os.system by OBJ", b"(cos\nsystem\nS'touch executed'\no."),
    Attack("os.system by STACK_GLOBAL", b"\x80\x04" + text("os") + text("system") + b"\x93" + text("true") + b"\x85R."),
    Attack("an import alone", b"cantigravity\nfly\n."),
    Attack("a dotted name", b"\x80\x04" + text("numpy") + text("ndarray.__class__") + b"\x93."),
    Attack("a dotted name through a module", b"\x80\x04" + text("numpy") + text("os.system") + b"\x93."),
    Attack("numpy's submodules", b"cnumpy.testing._private.utils\nrunstring\n(" + text(EXPLOIT) + b"}tR."),
    Attack("a name that is not text", b"\x80\x04" + b"C\x05numpy" + b"C\x07ndarray" + b"\x93."),
    Attack("names in a tuple", b"\x80\x04))\x93."),
    Attack("a nested name", b"\x80\x04" + text("numpy") + b")" + b"q\x00h\x00\x86" * 60 + b"\x93."),
    Attack("a call of a class", b"cnumpy\nndarray\nK\x05\x85R."),
    Attack("a call of what is no function", b"K\x01K\x02\x85R."),
    Attack("arguments that are no tuple", b"cnumpy\ndtype\n" + text("u1") + b"R."),
    Attack("NEWOBJ", b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81."),
    Attack("NEWOBJ_EX", b"\x80\x04cnumpy\nndarray\n)}\x92."),
    # BUILD on something other than an array
    Attack("BUILD of a function", b"cnumpy.core.numeric\n_frombuffer\n(Nd" + text("__defaults__") + b")s\x86b."),
    Attack("BUILD of a class", b"cnumpy\nndarray\n}" + text("x") + b"K\x01sb."),
    Attack("BUILD of a number", b"K\x01)b."),
    Attack("an array never built", b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R."),
    Attack(
        "an array built from too little",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01tb.",
    ),
    Attack(
        "another class reconstructed",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85C\x01b\x87R.",
    ),
    # Operations that refer to objects outside the pickle
    Attack("PERSID", b"Pid\n."),
    Attack("BINPERSID", b"K\x01Q."),
    Attack("EXT1", b"\x82\x01."),
    Attack("EXT4", b"\x84\x01\x00\x00\x00."),
    Attack("NEXT_BUFFER", b"\x80\x05\x97."),
    Attack("READONLY_BUFFER", b"\x80\x05C\x01a\x98."),
    # Text and codecs
    Attack("a codec that decodes files", b"c_codecs\nencode\n" + text("a") + text("zlib") + b"\x86R."),
    Attack("a codec by an odd name", b"c_codecs\nencode\n" + text("a") + text("LATIN_1") + b"\x86R."),
    Attack(
        "an error handler", b"c_codecs\nencode\n(" + text("é€") + text("latin1") + text("xmlcharrefreplace") + b"tR."
    ),
    Attack("text beyond the codec", b"c_codecs\nencode\n" + text("a") + b"\x86R", UNREADABLE),
    Attack(
        "a text encoded sixty times",
        b"c_codecs\nencode\nq\x00"
        + text("a" * 1_000_000)
        + text("latin1")
        + b"\x86q\x01R"
        + b"h\x00h\x01R" * 60
        + b".",
    ),
    Attack("bytes to be encoded", b"c_codecs\nencode\nC\x01a" + text("latin1") + b"\x86R."),
    # Shapes
    Attack("a shape of terabytes", an_array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fK\x03\x87")),
    Attack("a shape beyond 64 bits", an_array(b"\x8a\x0a" + b"\x7f" * 10 + b"K\x01K\x03\x87")),
    Attack("a shape that wraps to one", an_array(b"\x8a\x09" + bytes(8) + b"\x01K\x01K\x03\x87")),
    Attack("a negative shape", an_array(b"J\xff\xff\xff\xffK\x01K\x03\x87")),
    Attack("a shape of text", an_array(text("a") + b"K\x01K\x03\x87")),
    Attack("a shape of truths", an_array(b"\x88\x88K\x03\x87")),
    Attack("a shape that is a number", an_array(b"K\x01")),
    Attack("a shape within itself", an_array(b")\x85\x85\x85K\x01\x86")),
    Attack("a shape of 100 dimensions", an_array(b"(" + b"K\x01" * 100 + b"t"), DIMENSIONS),
    Attack("fewer bytes than the shape", an_array(b"K\x05K\x05K\x03\x87")),
    Attack("more bytes than the shape", an_array(b"K\x01K\x01K\x01\x87", b"C\x02aa")),
    Attack("an order that does not exist", an_array(b"K\x01K\x01K\x01\x87", order="X")),
    Attack("an order without its axes", an_array(b"K\x01K\x01K\x01\x87", order="K")),
    # Types
    *(
        Attack(f"dtype {name}", an_array(b"K\x01K\x01K\x01\x87", dtype=name), f"{DTYPE}{shown}.")
        for name, shown in (
            ("O", "O"),
            ("object", "object"),
            ("V1000000000", "V1000000000"),
            ("S1", "S1"),
            ("(1000000,1000000)u1", "another"),
            ("u1,u1", "another"),
            ("\x1b[31mred\r\n", "another"),
            ("m8[ns]", "another"),
        )
    ),
    Attack("an array of objects", pickle.dumps(np.array([_Calling(os.system, "touch executed")]))),
    Attack("a structured array", pickle.dumps(np.zeros((2, 2), [("a", "u1")]))),
    # Pickles that are long, nested, or shorter than they claim
    Attack("a million numbers", b"(" + b"K\x01" * 1_000_000 + b"t."),
    Attack("nesting a million deep", b")" + b"\x85" * 1_000_000 + b"."),
    Attack("nesting as deep as is read", b")" + b"\x85" * 190 + b"."),
    Attack("marks a million deep", b"(" * 1_000_000 + b"."),
    Attack("lists a million deep", b"]" * 1_000_000 + b"."),
    Attack("a billion laughs", b")" + b"q\x00h\x00\x86" * 60 + b"."),
    Attack("a billion laughs as a shape", an_array(b")" + b"q\x00h\x00\x86" * 40)),
    Attack("doubled over and over", b"K\x01" + b"2\x86" * 60 + b"."),
    Attack("a memo index of four billion", b"K\x01r\xff\xff\xff\xff."),
    Attack("a memo index in text", b"K\x01p99999999999999\n."),
    Attack("a memo entry never made", b"h\x05.", UNREADABLE),
    Attack("bytes that are only claimed", b"\x80\x05\x8e" + b"\xff" * 7 + b"\x7f.", UNREADABLE),
    Attack("a bytearray that is only claimed", b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.", UNREADABLE),
    Attack("text that is only claimed", b"\x80\x04\x8d\x00\x00\x00\x00\x10\x00\x00\x00.", UNREADABLE),
    Attack(
        "a number across the end of its frame",
        b"\x80\x04\x95\x05" + bytes(7) + b"K\x01J\x01\x02\x03\x04K\x07." + b"." * 5,
    ),
    Attack("a frame that is only claimed", b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN."),
    Attack("a number of a million digits", b"L" + b"9" * 1_000_000 + b"L\n.", UNREADABLE),
    Attack("a number of a million bytes", b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b"."),
    Attack("a float of a million digits", b"F" + b"9" * 1_000_000 + b"\n."),
    Attack("a number of negative length", b"\x8b\xff\xff\xff\xff."),
    Attack("a tuple of nothing", b"t.", UNREADABLE),
    Attack("a call of nothing", b"R.", UNREADABLE),
    Attack("nothing", b"", UNREADABLE),
    Attack("an end alone", b".", UNREADABLE),
    Attack("a mark alone", b"(."),
    Attack("no end", b"K\x01", UNREADABLE),
    Attack("an unknown protocol", b"\x80\xffN."),
    Attack("an unknown operation", b"\xff\xfe\xfd", UNREADABLE),
    Attack("a PNG", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    Attack("a JPEG", b"\xff\xd8\xff\xe0" + bytes(100), UNREADABLE),
    Attack("text", b"hello", UNREADABLE),
    # .npy
    *(
        Attack(f".npy {header[:70]}", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode(), cause)
        for header, cause in (
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000, 3), }", NOT_AN_ARRAY),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (%s, 3), }" % ("9" * 500), NOT_AN_ARRAY),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3), }", NOT_AN_ARRAY),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': __import__('os'), }", NOT_AN_ARRAY),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': ((((((1))))), }", NOT_AN_ARRAY),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3), }", DTYPE + "|O."),
            ("{'descr': [('a', 'u1')], 'fortran_order': False, 'shape': (1, 3), }", NOT_AN_ARRAY),
            ("-" * 60_000, NOT_AN_ARRAY),
            ("(" * 60_000, NOT_AN_ARRAY),
            ("", NOT_AN_ARRAY),
        )
    ),
    Attack(".npy of objects, pickled", npy(np.array([_Calling(os.system, "touch executed")])), DTYPE + "|O."),
    Attack(".npy, cut after the magic", b"\x93NUMPY", NOT_AN_ARRAY),
    Attack(".npy, cut in the header", npy(SMALL)[:60], NOT_AN_ARRAY),
    Attack(".npy, cut in the data", npy(SMALL)[:-1], NOT_AN_ARRAY),
    Attack(".npy with a tail", npy(SMALL) + b"a", NOT_AN_ARRAY),
    Attack(".npy of an unknown version", b"\x93NUMPY\x09\x00" + b"\xff" * 200, NOT_AN_ARRAY),
    Attack(".npz", b"PK\x03\x04" + bytes(100)),
]


@pytest.fixture
def _no_side_effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    yield
    assert not list(tmp_path.iterdir())
    assert "PE_TEST_EXECUTED" not in os.environ
    assert "antigravity" not in set(sys.modules) - modules


@pytest.mark.usefixtures("_no_side_effects")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_executes_nothing_and_is_refused_within_a_second_and_20_mb(attack: Attack) -> None:
    tracemalloc.start()
    start = time.process_time()
    try:
        cause = cause_of(attack.data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 1
    assert peak < 20_000_000
    assert cause == attack.cause


@pytest.mark.parametrize("protocol", range(6))
def test_every_truncation_is_refused(protocol: int) -> None:
    data = pickle.dumps(SMALL, protocol)
    assert {cause_of(data[:length]) for length in range(len(data))} <= {UNREADABLE, NOT_AN_ARRAY}


VALID: Final = [pickle.dumps(SMALL, protocol) for protocol in range(6)] + [npy(SMALL)]


# Python names escapes that it does not know. A worker ignores warnings.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@given(st.sampled_from(VALID), st.data())
def test_a_mutated_file_is_an_image_or_refused(valid: bytes, data: st.DataObject) -> None:
    mutated = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_array(bytes(mutated), MAX_PIXELS)
    except InvalidImage:
        return
    assert image.shape[2] == 3


OPERATIONS: Final = [operation.code.encode("latin-1") for operation in pickletools.opcodes]


@given(st.lists(st.sampled_from(OPERATIONS) | st.binary(max_size=4), max_size=40))
def test_random_operations_are_refused(pieces: list[bytes]) -> None:
    with pytest.raises(InvalidImage):
        read_array(b"".join(pieces), MAX_PIXELS)


def test_peak_memory_is_below_four_copies_of_the_pixels() -> None:
    array = np.zeros((1_000, 1_000, 3), np.uint8)
    for data in (pickle.dumps(array, 5), pickle.dumps(array, 2), npy(array)):
        tracemalloc.start()
        try:
            read_array(data, MAX_PIXELS)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * array.nbytes
