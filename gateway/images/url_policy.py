"""Decide which image URLs may be fetched. This module parses and checks, and uses no network.

A URL is parsed once, by the strict grammar below, and the fetcher connects to the parsed host. Nothing is repaired, so
no second parser can read another host from the same URL. Causes are worded as Roboflow's server words them, where
Roboflow's server has such an error.
"""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from typing import Final

import idna

from gateway.errors import InvalidImage

DISABLED: Final = "Providing images via URL is not supported in this configuration of `inference`."
INVALID: Final = "Provided image URL is invalid"
NON_HTTPS: Final = "Providing images via non https:// URL is not supported in this configuration of `inference`."
WITHOUT_FQDN: Final = "Providing images via URL without FQDN is not supported in this configuration of `inference`."
NOT_ALLOWED: Final = "It is not allowed to reach image URL - prohibited by whitelisted destinations."
DENIED: Final = "It is not allowed to reach image URL - prohibited by blacklisted destinations."
NON_GLOBAL: Final = "URL points to a network destination that is not allowed."
UNREACHABLE: Final = "Data pointed by URL could not be decoded into image."
CREDENTIALS: Final = "Providing credentials in the image URL is not supported."

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """The rules for image URLs, and the limits of a fetch. The defaults are for a server on the public internet.

    Raises:
        ValueError: an entry of a host list is not a host name, so that no URL would match.
    """

    allow_url_input: bool = True
    allow_non_https: bool = False
    """Allow http URLs. Schemes other than http and https are always refused."""
    allow_without_fqdn: bool = False
    """Allow IP addresses, single labels and names of private networks; see `_is_public_name`."""
    allowed_hosts: frozenset[str] = frozenset()
    """Exact host names, case-insensitive. If empty, all hosts are allowed."""
    denied_hosts: frozenset[str] = frozenset()
    """Exact host names, case-insensitive. Takes precedence over `allowed_hosts`."""
    allow_non_global_addresses: bool = False
    """Allow addresses that are not routed on the public internet; see `is_global`."""
    max_redirects: int = 5
    timeout_seconds: float = 10.0
    """For one fetch as a whole: the wait for a pooled connection, lookups, handshakes, redirects, and the body."""
    max_bytes: int = 64 * 2**20
    """Size limit of the image file."""

    def __post_init__(self) -> None:
        for field in ("allowed_hosts", "denied_hosts"):
            object.__setattr__(self, field, frozenset(map(_listed_host, getattr(self, field))))


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL that the policy allows."""

    scheme: str
    host: str
    """Lower-case ASCII without a final dot, or an address without brackets. Host lists are compared in this form."""
    port: int
    path: str
    """Path and query, percent-encoded."""

    @property
    def authority(self) -> str:
        """The `Host` header: the host, and the port if it is not the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The normalised URL, which is what was checked and what is requested."""
        return f"{self.scheme}://{self.authority}{self.path}"


_PORTS: Final = {"https": 443, "http": 80}
# Signed URLs of object stores have up to 2,000 characters.
_MAX_LENGTH: Final = 8_192
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_REST: Final = re.compile(r"//([^/?#]*)([^#]*)")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([1-9][0-9]{0,4}))?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # names of buckets may contain underscores
_TOP_LABEL: Final = re.compile(r"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
# Hosts that libc reads as an IPv4 address, in any spelling (https://url.spec.whatwg.org/#ends-in-a-number-checker).
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# RFC 6761, RFC 6762 appendix G, RFC 7686, RFC 8375, RFC 9476, names that ICANN will not delegate, Kubernetes.
_PRIVATE_SUFFIXES: Final = frozenset(
    {"alt", "arpa", "corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain"}
    | {"localhost", "mail", "onion", "private", "svc", "test"}
)


def admit(url: str, policy: FetchPolicy) -> Target:
    """Parse a URL and check everything except the address, which is checked on connecting.

    Raises:
        InvalidImage: the policy refuses the URL, or the URL does not match the grammar.
    """
    if not policy.allow_url_input:
        raise InvalidImage(DISABLED)
    if not (scheme_match := _SCHEME.match(url)):
        raise InvalidImage(INVALID)
    scheme = scheme_match[1].lower()
    if scheme not in _PORTS or (scheme != "https" and not policy.allow_non_https):
        raise InvalidImage(NON_HTTPS)
    rest = _REST.match(url, scheme_match.end())
    if len(url) > _MAX_LENGTH or _CONTROL.search(url) or not rest:
        raise InvalidImage(INVALID)
    target = _read(scheme, rest[1], rest[2])
    if not policy.allow_without_fqdn and not _is_public_name(target.host):
        raise InvalidImage(WITHOUT_FQDN)
    if _ENDS_IN_NUMBER.fullmatch(target.host) and literal_address(target.host) is None:
        raise InvalidImage(INVALID)  # 127.1 and 0x7f000001: some parsers read an address, others a name
    if policy.allowed_hosts and target.host not in policy.allowed_hosts:
        raise InvalidImage(NOT_ALLOWED)
    if target.host in policy.denied_hosts:
        raise InvalidImage(DENIED)
    return target


def _read(scheme: str, authority: str, path: str) -> Target:
    """Parse what follows the scheme. Raises InvalidImage."""
    if "@" in authority:
        raise InvalidImage(CREDENTIALS)
    parts = _HOST_AND_PORT.fullmatch(authority)
    if not parts:
        raise InvalidImage(INVALID)
    port = int(parts[2] or _PORTS[scheme])
    if port > 65_535:
        raise InvalidImage(INVALID)
    try:
        host = _canonical_host(parts[1])
        # The safe characters of `requests.utils.requote_uri`, by which the incumbent quotes a URL.
        path = urllib.parse.quote(path, safe="!#$%&'()*+,/:;=?@[]~")
    except ValueError:  # includes UnicodeError: lone surrogates, and idna.IDNAError
        raise InvalidImage(INVALID) from None
    return Target(scheme, host, port, path if path.startswith("/") else f"/{path}")


def _canonical_host(text: str) -> str:
    """Normalise a host. UTS #46 maps internationalised names, including full-width dots and digits."""
    if text.startswith("["):
        return str(ipaddress.IPv6Address(text[1:-1]))
    if len(text) > 254:
        raise ValueError("too long")
    host = text.lower() if text.isascii() else idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    host = host.removesuffix(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, host.split("."))):
        raise ValueError("not a host name")
    return host


def _listed_host(entry: str) -> str:
    try:
        return _canonical_host(f"[{entry}]" if ":" in entry and not entry.startswith("[") else entry)
    except ValueError:
        raise ValueError(f"{entry!r} in a list of image hosts is no host name.") from None


def _is_public_name(host: str) -> bool:
    """Whether a name has at least two labels and a top-level label that is not reserved for private names.

    The incumbent requires a suffix of the public suffix list. The list changes weekly, and an old copy refuses existing
    hosts. An invented suffix is harmless here, because the address is checked too.
    """
    name, _, top = host.rpartition(".")
    return bool(name) and _TOP_LABEL.fullmatch(top) is not None and top not in _PRIVATE_SUFFIXES


def literal_address(host: str) -> Address | None:
    """Parse a normalised host as an address. Returns None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


# `address.is_global` is not used: its result differs between patch releases of Python, and can be true for multicast.
# Sources: https://www.iana.org/assignments/iana-ipv4-special-registry and the IPv6 registry.
_NON_GLOBAL_V4: Final = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform services, at a public address
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NON_GLOBAL_V6: Final = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: wraps an IPv4 address, and is not used for images
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# Both blocks wrap an IPv4 address in the last 32 bits. The first is NAT64, by which an IPv6-only network reaches IPv4.
_V4_IN_V6: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0/96"))


def is_global(address: Address) -> bool:
    """Whether an address is routed on the public internet. A wrapped IPv4 address is checked as IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in block for block in _V4_IN_V6):
            return is_global(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _GLOBAL_V6 and not any(address in block for block in _NON_GLOBAL_V6)
    return not any(address in block for block in _NON_GLOBAL_V4)
