"""Read the certificates and headers by which the gateway and Triton prove to each other who they are."""

import ssl
from pathlib import Path

import grpc

from gateway.triton.channel import Access


def load(
    *, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, server_name: str | None, headers: str
) -> Access:
    """Read the files, and parse the headers.

    Args:
        tls: whether to use TLS.
        ca: the certificates that may sign Triton's; None for the public ones that gRPC contains.
        certificate: the gateway's own certificate.
        key: its key.
        server_name: the name that Triton's certificate must have; None for the host of the address.
        headers: `name=value`, separated by commas.

    Raises:
        ValueError: a file cannot be read or has other contents. Or the certificate and the key do not belong together,
            a file is given although TLS is off, or a header is invalid.
    """
    parsed = _headers(headers)
    files = {"PE_TRITON_CA_FILE": ca, "PE_TRITON_CERTIFICATE_FILE": certificate, "PE_TRITON_KEY_FILE": key}
    if not tls:
        if unused := [name for name, path in files.items() if path is not None]:
            raise ValueError(f"{unused[0]} is set, and PE_TRITON_TLS is not: the calls would be in plain text")
        return Access(headers=parsed)
    if (certificate is None) != (key is None):
        raise ValueError("PE_TRITON_CERTIFICATE_FILE and PE_TRITON_KEY_FILE belong together; one is missing")
    roots, chain, private_key = (_read(name, path) for name, path in files.items())
    _check(ca, certificate, key)
    return Access(grpc.ssl_channel_credentials(roots, private_key, chain), server_name, parsed)


def _read(name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check(ca: Path | None, certificate: Path | None, key: Path | None) -> None:
    """Parse the files, because gRPC does not before it connects, and then says only that the handshake failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise ValueError(f"PE_TRITON_CA_FILE: no certificate in PEM is in {ca}") from error
    if certificate is not None and key is not None:
        try:
            # An encrypted key would ask for its passphrase on the terminal.
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        except ssl.SSLError as error:
            raise ValueError(
                "PE_TRITON_CERTIFICATE_FILE and PE_TRITON_KEY_FILE are not a certificate and its key in PEM, without a "
                f"passphrase: {error.reason or error}"
            ) from error


def _no_passphrase() -> str:
    return ""


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """Parse `name=value`, separated by commas."""
    headers = []
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, separator, value = (part.strip() for part in entry.partition("="))
        # gRPC's names are in lower case. It refuses others only when a call is made.
        valid = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        if not (separator and value and valid and value.isascii() and value.isprintable()) or name.endswith("-bin"):
            raise ValueError("PE_TRITON_HEADERS is name=value, separated by commas; an entry is not")  # it is a secret
        headers.append((name.lower(), value))
    return tuple(headers)
