"""Bodies that cost a careless server seconds: for each route, what its parser does worst."""

import base64
import gzip
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

IMAGE: Final = "/perception_encoder/embed_image"
TEXT: Final = "/perception_encoder/embed_text"
COMPARE: Final = "/perception_encoder/compare"
CLASSIFY: Final = "/perception_encoder/classify"
OPENAI: Final = "/v1/embeddings"

_KB: Final = 2**10
_MB: Final = 2**20
# Just below what is decoded whole, more than that, and a whole body.
SIZES: Final = (15 * _KB, 60 * _KB, 500 * _KB, 8 * _MB)


@dataclass(frozen=True)
class Body:
    """A request's body.

    Attributes:
        name: what is hostile about it.
        path: of the route.
        kind: its Content-Type.
        coding: its Content-Encoding.
    """

    name: str
    path: str
    content: bytes
    kind: str = "application/json"
    coding: str = ""

    def __str__(self) -> str:
        return f"{self.path.rpartition('/')[2]}-{self.name}-{len(self.content) // _KB}kB"


# A valid document of each route, without its last brace, and its field.
_HEADS: Final = {
    IMAGE: (b'{"image":{"type":"base64","value":"AAAA"}', b"image"),
    TEXT: (b'{"text":"a"', b"text"),
    COMPARE: (b'{"subject":"a","subject_type":"text","prompt":["a"]', b"prompt"),
    OPENAI: (b'{"input":"a"', b"input"),
}
# Values, made of a repeated part and as long as wanted.
_VALUES: Final[dict[str, tuple[bytes, bytes, bytes]]] = {
    "empty lists": (b"[", b"[],", b"0]"),
    "empty objects": (b"[", b"{},", b"0]"),
    "numbers": (b"[", b"1,", b"0]"),
    "slow numbers": (b"[", b"1.7976931348623157081e308,", b"0]"),
    "digits": (b"", b"1", b""),
    "decimals": (b"0.", b"1", b""),
    "strings": (b"[", b'"",', b'""]'),
    "short strings": (b"[", b'"abcdefgh",', b'""]'),
    "escaped strings": (b"[", b'"\\n",', b'""]'),
    "images": (b"[", b'{"type":"url","value":"x"},', b'{"type":"url"}]'),
    "unknown types": (b"[", b'{"type":""},', b'{"type":""}]'),
    "texts": (b"[", b'{"text":"a"},', b'""]'),
    "nested": (b"", b"[", b""),
    "nested objects": (b"", b'{"a":', b""),
    "object of one name": (b"{", b'"":0,', b'"":0}'),
    "object of lists": (b"{", b'"a":[],', b'"a":0}'),
    "base64": (b'"', b"A", b'"'),
    "escapes": (b'"', b"\\n", b'"'),
    "escaped slashes": (b'"', b"AAAAAAA\\/", b'"'),
    "unicode escapes": (b'"', b"\\u00e9", b'"'),
    "lone surrogates": (b'"', b"\\ud800", b'"'),
    "escaped quotes": (b'"', b'\\"', b'"'),
    "backslashes": (b'"', b"\\\\", b'"'),
    "characters of two bytes": (b'"', "é".encode(), b'"'),
    "characters of four bytes": (b'"', "😀".encode(), b'"'),
    "not UTF-8": (b'"', b"\xff", b'"'),
    "without end": (b'"', b"A", b""),
    "spaces": (b"", b" ", b"0"),
    "NaN": (b"[", b"NaN,", b"0]"),
}


def _filled(before: bytes, value: tuple[bytes, bytes, bytes], after: bytes, size: int) -> bytes:
    start, part, end = value
    count = (size - len(before) - len(after) - len(start) - len(end)) // len(part)
    return before + start + part * count + end + after


def _names(size: int) -> bytes:
    return b"{" + b",".join(b'"%d":"a"' % i for i in range(size // 11)) + b"}"


def json_bodies(sizes: tuple[int, ...] = SIZES) -> Iterator[Body]:
    """JSON documents, in which a known or an unknown field has each value; and some that repeat a field."""
    for size in sizes:
        for path, (head, field) in _HEADS.items():
            for name, value in _VALUES.items():
                yield Body(f"unknown {name}", path, _filled(head + b',"x":', value, b"}", size))
                yield Body(name, path, _filled(head + b',"%b":' % field, value, b"}", size))
            yield Body("many names", path, head + b',"%b":%b}' % (field, _names(size)))
            for name, part in {
                "one unknown name": b',"x":0',
                "one field": b',"%b":"a"' % field,
                "one number": b',"dimensions":1.7976931348623157081e308,"start":1.7976931348623157081e308',
                "one key": b',"api_key":"a"',
            }.items():
                yield Body(name, path, _filled(head, (b"", part, b""), b"}", size))
            yield Body("long name", path, _filled(head + b',"', (b"", b"k", b""), b'":0}', size))
            yield Body("long key", path, _filled(head + b',"api_key":"', (b"", b"k", b""), b'"}', size))
            yield Body("long variant", path, _filled(head + b',"model":"', (b"", b"k", b""), b'"}', size))
            item = head[: head.index(b'"', 2) + 1] + b':[{"text":"a","'
            yield Body("long name of an item", path, _filled(item, (b"", b"k", b""), b'":0}]}', size))
            yield Body("a list", path, _filled(b"", (b"[", b"[],", b"0]"), b"", size))
            yield Body("UTF-16", path, ("[" + "[]," * (size // 6) + "0]").encode("utf-16"))
            yield Body("not JSON", path, b"\xff" * size, "text/plain")


def texts(size: int) -> Iterator[Body]:
    """64 long texts: honest, but work."""
    for name, part in {
        "ASCII": b"a cat ",
        "two bytes": "é ".encode(),
        "escapes": b"\\u00e9",
        "quotes": b'\\"',
        "lines": "é\\n".encode(),
        "entities": b"&amp;amp;",
        "marks": "\u0300\u0316".encode(),
    }.items():
        text = b'"' + part * (size // 64 // len(part)) + b'"'
        yield Body(f"long texts, {name}", TEXT, b'{"text":[' + b",".join([text] * 64) + b"]}")
        yield Body(f"long texts, {name}", OPENAI, b'{"input":[' + b",".join([text] * 64) + b"]}")
        for count in (50, 400, 2_000):
            yield Body(f"{count} times {name}", TEXT, b'{"text":"' + part * count + b'"}')
        yield Body(f"long names, {name}", COMPARE, b'{"subject":"a","subject_type":"text","prompt":{'
                   + b",".join(b'"%d%b:"a"' % (i, text[1:]) for i in range(64)) + b"}}")  # fmt: skip


_PART: Final = b'--X\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
_OTHER: Final = b'--X\r\nContent-Disposition: form-data; name="other"\r\n\r\n\r\n'


def forms(sizes: tuple[int, ...] = SIZES) -> Iterator[Body]:
    """Multipart forms."""
    kind = "multipart/form-data; boundary=X"
    for size in sizes:
        for name, content in {
            "empty parts": (_PART + b"\r\n") * (size // len(_PART)),
            "other parts": _OTHER * (size // len(_OTHER)),
            "nameless parts": b"--X\r\n\r\n\r\n" * (size // 9),
            "headers": b"--X\r\n" + b"a:b\r\n" * (size // 5),
            "long header": b"--X\r\na:" + b"b" * size,
            "long header name": b"--X\r\n" + b"b" * size,
            "spaces before a header": b"--X\r\na:" + b" " * size,
            "padded delimiter": b"--X" + b" " * size,
            "padded last delimiter": _PART + b"\r\n--X" + b" " * size + b"\r\n",
            "semicolons": b"--X\r\nContent-Disposition: form-data" + b";" * 4000 + b"\r\n\r\n" + b"\r\n--X--",
            "quotes": b"--X\r\nContent-Disposition: form-data; a=" + b'";' * 2000 + b"\r\n\r\n" + b"\r\n--X--",
            "near delimiters": _PART + b"\r\n--Y" * (size // 5),
            "stray delimiters": _PART + b"\r\n--XY" * (size // 6),
            "line ends": b"\r\n" * (size // 2),
            "returns": _PART + b"\r" * size,
            "epilogue": _PART + b"\r\n--X--" + b"--X\r\n" * (size // 5),
            "a text": _PART + b"A" * size + b"\r\n--X--\r\n",
            "a text that is not UTF-8": _PART + b"\xff" * size + b"\r\n--X--\r\n",
            "no delimiter": b"A" * size,
        }.items():
            yield Body(name, IMAGE, content, kind)
        punycode = _PART + b"z-" + b"9" * size + b"\r\n--X--\r\n"
        yield Body("charset", IMAGE, punycode, kind + "; charset=punycode")
        yield Body("no boundary", IMAGE, b"A" * size, "multipart/form-data")
        yield Body("empty boundary", IMAGE, b"\r\n--" * (size // 4), 'multipart/form-data; boundary=""')
        yield Body("long boundary", IMAGE, b"A" * size, "multipart/form-data; boundary=" + "A" * 60_000)
        yield Body(
            "boundary of one character", IMAGE, b"--" + b"A" * size, "multipart/form-data; boundary=" + "A" * 250
        )
        yield Body("options", IMAGE, b"A", "multipart/form-data" + ";" * 60_000)
        yield Body("quoted options", IMAGE, b"A", "multipart/form-data; a=" + '";' * 30_000)
        fields = {
            "fields": b"a=b&" * (size // 4),
            "separators": b"&" * size,
            "a name": b"a" * size,
            "escapes in a name": b"%61" * (size // 3),
            "escapes": b"image=" + b"%61" * (size // 3),
            "half escapes": b"image=" + b"%" * size,
            "spaces": b"text=" + b"+" * size,
            "equals signs": b"text=" + b"=" * size,
            "a field": b"text=" + b"a" * size,
            "a long field": b"model_id=" + b"a" * size,
            "a key": b"text=a&api_key=" + b"%6b" * (size // 3),
        }
        for name, content in fields.items():
            for path in (IMAGE, TEXT, COMPARE):
                yield Body(f"urlencoded {name}", path, content, "application/x-www-form-urlencoded")


# Eight blocks of raw deflate, each with codes of its own and no content: of what was tried, the slowest input of zlib.
_BLOCKS: Final = base64.b64decode(
    "7P0DYBgwDAAAzLZt27Zt27Zt27Zt27aN27Ztm7VtJI/Y+wfAMGAYAACYbdu2bdu2bdu2bdu2bRu3bds2a9tIHrH3D4BhwDAAADDbtm3btm3b"
    "tm3btm3bNm7btm3WtpE8Yu8fAMOAYQAAYLZt27Zt27Zt27Zt27Zt3LZt26xtI3nE3j8AhgHDAADAbNu2bdu2bdu2bdu2bdu4bdu2WdtG8oi9"
    "fwAMA4YBAIDZtm3btm3btm3btm3btnHbtm2zto3kEXv/ABgGDAMAALNt27Zt27Zt27Zt27Zt47Zt22ZtG8kj9v4BMAwYBgAAZtu2bdu2bdu2"
    "bdu2bdvGbdu2zdo2kkc="
)


def compressed(size: int) -> Iterator[Body]:
    """Compressed bodies."""
    bomb = gzip.compress(b" " * (size * 200), 1)
    json = gzip.compress(b'{"text":[' + b'"",' * (size * 10) + b'""]}', 1)
    form = gzip.compress(_PART + b"\r\n--XY" * size * 10, 1)
    multipart = "multipart/form-data; boundary=X"
    yield Body("bomb", TEXT, bomb, coding="gzip")
    yield Body("bomb", IMAGE, bomb, "image/png", "gzip")
    yield Body("bomb", IMAGE, bomb, multipart, "gzip")
    yield Body("bomb", IMAGE, bomb, "application/octet-stream", "gzip")
    yield Body("strings", TEXT, json, coding="gzip")
    yield Body("stray delimiters", IMAGE, form, multipart, "gzip")
    yield Body("empty members", TEXT, gzip.compress(b"") * (size // 20), coding="gzip")
    yield Body("members", TEXT, gzip.compress(b" ") * (size // 21), coding="gzip")
    yield Body("empty blocks", TEXT, b"\0\0\0\xff\xff" * (size // 5), coding="deflate")
    yield Body("blocks", TEXT, _BLOCKS * (size // len(_BLOCKS)), coding="deflate")
    yield Body("not compressed", TEXT, b"x" * size, coding="gzip")
    yield Body("noise", TEXT, zlib.compress(random.Random(0).randbytes(size)), coding="deflate")
