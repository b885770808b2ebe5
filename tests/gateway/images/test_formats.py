import re
from pathlib import Path

import pytest
from PIL import Image

from deploy.bulk.sources.files import IMAGE_SUFFIXES
from gateway.errors import InvalidImage
from gateway.images.decode import PLUGINS, decode
from gateway.images.formats import ACCEPTED, format_of

ROOT = Path(__file__).parents[3]
FTYP = b"\0\0\0\x18ftyp"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"RIFF\x0c\0\0\0WEBPVP8 ", "WebP"),
        (b"GIF87a", "GIF"),
        (b"BM", "BMP"),
        (b"MM\0*", "TIFF"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (FTYP + b"avif\0\0\0\0avifmif1", "AVIF"),
        (FTYP + b"mif1\0\0\0\0mif1avif", "AVIF"),
        (FTYP + b"heic\0\0\0\0mif1heic", "HEIC"),
        (FTYP + b"mif1\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x4f\xff\x51\0", "JPEG 2000"),
        (b"P5\n1 1 255\n", "PNM"),
    ],
)
def test_accepted_formats(data: bytes, name: str) -> None:
    assert format_of(data) == name
    assert name in ACCEPTED


def test_files_of_every_accepted_format_are_found_by_their_names() -> None:
    """pe-embed takes the pictures of a folder by their names, and so does the page where a browser knows no type."""
    known = Image.registered_extensions() | {".heic": "HEIC", ".heif": "HEIC", ".dib": "BMP"}
    assert {known[suffix] for suffix in IMAGE_SUFFIXES} == {PLUGINS.get(name, name) for name in ACCEPTED}
    page = (ROOT / "gateway/http/page/static/pictures.js").read_text()
    (listed,) = re.findall(r"EXTENSIONS =\s+/\\\.\(([a-z0-9|]+)\)\$/i", page)
    assert {f".{suffix}" for suffix in listed.split("|")} == IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="1"/>', "SVG"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b"%PDF-1.4", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (FTYP + b"isom\0\0\x02\0isomiso2", "MP4 or QuickTime video"),
        (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
        (b"RIFF\x0c\0\0\0AVI LIST", "AVI video"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"\0\0\x01\0\x01\0", "ICO"),
        (b"\0\0\x02\0\x01\0", "CUR"),
        (b"\0\0\x02\0\0\0\0\0\0\0\0\0", "TGA"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"P7\nWIDTH 1\n", "PAM"),
        (b"Pf\n1 1\n-1\n", "PFM"),
    ],
)
def test_a_refusal_names_the_format_and_those_that_are_accepted(data: bytes, name: str) -> None:
    with pytest.raises(InvalidImage) as raised:
        decode(data, 1_000)
    assert raised.value.cause.startswith(f"The image is of the format {name}. Accepted are JPEG, PNG, ")
    assert all(accepted in raised.value.cause for accepted in ACCEPTED)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"P", b"Pineapple", b"RIFF", b"<", b"<note/>", b"\0\0\0\x18fty", b'{"a": 1}']
)
def test_other_data_has_no_format(data: bytes) -> None:
    assert format_of(data) is None
