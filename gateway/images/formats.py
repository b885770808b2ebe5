"""Name a file's format by its first bytes, so that one decoder sees it, and a refusal can say what it was."""

from typing import Final

ACCEPTED: Final = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC", "JPEG 2000", "PNM")
"""The formats that `decode` reads, as people call them."""

ACCEPTED_TEXT: Final = f"{', '.join(ACCEPTED[:-1])} and {ACCEPTED[-1]}"

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    # Not read.
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"\0\0\x01\0", "ICO"),
    (b"\0\0\x02\0\0\0", "TGA"),
    (b"\0\0\x0a\0\0\0", "TGA"),
    (b"\0\0\x02\0", "CUR"),
    (b"icns", "ICNS"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"v/1\x01", "OpenEXR"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"P7\n", "PAM"),
    (b"PF", "PFM"),
    (b"Pf", "PFM"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"AT&TFORM", "DjVu"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"\0\0\x01\xba", "MPEG video"),
    (b"\0\0\x01\xb3", "MPEG video"),
    (b"FLV\x01", "Flash video"),
)
_RIFF: Final = {b"WEBP": "WebP", b"AVI ": "AVI video"}
_AVIF_BRANDS: Final = frozenset((b"avif", b"avis"))
_HEIC_BRANDS: Final = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_MARKUP: Final = ((b"<svg", "SVG"), (b"<html", "HTML"), (b"<!doctype html", "HTML"))
_MARKUP_HEAD: Final = 1024


def format_of(data: bytes) -> str | None:
    """Name the format of a file, one of `ACCEPTED` or another. Returns None if it is not recognised."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PNM"
    head = data[:_MARKUP_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<"):
        return next((name for tag, name in _MARKUP if tag in head), None)
    return None


def _iso_media(data: bytes) -> str:
    """Name a file of ISO 14496-12: its first box lists brands. An AVIF may also list `mif1`."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIC_BRANDS:
        return "HEIC"
    return "Canon CR3" if data[8:12] == b"crx " else "MP4 or QuickTime video"
