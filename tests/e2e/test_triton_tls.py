"""TLS, clients' certificates and restricted protocols, by the real Triton."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from deploy.embedded import installation, model_scan, triton_process
from deploy.embedded.endpoints import on_ports
from deploy.embedded.layout import Layout
from gateway.triton import credentials
from gateway.triton.channel import Access
from gateway.triton.encoder import TritonEncoder
from tests.fake_triton import eventually
from tests.gateway.process import GatewayProcess
from tests.tools import ROOT, find_tool

pytestmark = [pytest.mark.slow, pytest.mark.triton]

HEADER: Final = "triton-grpc-protocol-gateway-key=s3cret"
RESTRICTED: Final = "inference,model-repository,model-config"
NAME: Final = "triton.example"


class Certificates:
    """Files of one authority: its certificate `ca`, and a certificate and key for `triton.example`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        make = [find_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        authority = ["-subj", "/CN=authority", "-keyout", folder / "ca-key.pem", "-out", self.ca]
        server = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", self.key]
        signed = ["-CA", self.ca, "-CAkey", folder / "ca-key.pem", "-out", self.certificate]
        for options in (authority, [*server, *signed]):
            subprocess.run([str(word) for word in (*make, *options)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[str]:
    """The gRPC target of a Triton that asks for a certificate and a header."""
    folder = tmp_path_factory.mktemp("triton")
    found = installation.find(installation.candidate_environments(folder))
    layout, endpoints = Layout(folder, found), on_ports((0, 0, 0))
    for model in model_scan.servable_models(ROOT / "tests/deploy/models"):
        if model.name.startswith("Tiny-"):
            layout.publish(model)
    command = [
        str(found.server),
        f"--model-repository={layout.models}",
        f"--backend-directory={layout.backends}",
        *endpoints.arguments(),
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={certificates.certificate}",
        f"--grpc-server-key={certificates.key}",
        f"--grpc-root-cert={certificates.ca}",
        f"--grpc-restricted-protocol={RESTRICTED}:gateway-key=s3cret",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=triton_process.process_environment(found, layout.libraries), stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 60
        while not answers(f"http://{endpoints.http}/v2/health/ready"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        yield endpoints.grpc
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def access(certificates: Certificates, **changes: Any) -> Access:
    valid: dict[str, Any] = {
        "tls": True,
        "ca": certificates.ca,
        "certificate": certificates.certificate,
        "key": certificates.key,
        "server_name": NAME,
        "headers": HEADER,
    }
    return credentials.load(**(valid | changes))


async def test_embeddings_come_over_tls(triton: str, certificates: Certificates) -> None:
    async with TritonEncoder(triton, access=access(certificates)) as encoder:
        await eventually(lambda: "Tiny" in encoder.specs, seconds=30)
        spec = encoder.specs["Tiny"]
        embeddings = await encoder.encode_texts(spec, np.zeros((2, spec.context_length), np.int32))
        assert embeddings.shape == (2, spec.embed_dim)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"server_name": None}, "Hostname Verification Check failed"),
        ({"server_name": "other.example"}, "Hostname Verification Check failed"),
        ({"certificate": None, "key": None}, "Socket closed"),
        ({"headers": ""}, "This protocol is restricted, expecting header 'triton-grpc-protocol-gateway-key'"),
        ({"headers": "triton-grpc-protocol-gateway-key=wrong"}, "This protocol is restricted"),
        ({"tls": False, "ca": None, "certificate": None, "key": None}, "Socket closed"),
    ],
)
async def test_what_is_refused_is_not_used_and_the_log_says_why(
    triton: str, certificates: Certificates, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    await is_refused(triton, access(certificates, **changes), caplog, reason)


async def test_a_triton_of_another_authority_is_refused(
    triton: str, certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Certificates(tmp_path / "other")
    await is_refused(triton, access(certificates, ca=other.ca), caplog, "CERTIFICATE_VERIFY_FAILED")


async def is_refused(triton: str, access: Access, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    async with TritonEncoder(triton, access=access) as encoder:
        await eventually(lambda: f"Triton at {triton} does not answer: " in caplog.text, seconds=30)
        assert not encoder.specs
    assert reason in caplog.text


async def test_the_gateway_is_configured_by_its_environment(triton: str, certificates: Certificates) -> None:
    settings = {
        "PE_TRITON_URL": triton,
        "PE_TRITON_TLS": "True",
        "PE_TRITON_CA_FILE": str(certificates.ca),
        "PE_TRITON_CERTIFICATE_FILE": str(certificates.certificate),
        "PE_TRITON_KEY_FILE": str(certificates.key),
        "PE_TRITON_SERVER_NAME": NAME,
        "PE_TRITON_HEADERS": HEADER,
    }
    async with GatewayProcess(**settings) as gateway:
        assert await gateway.readiness() == 200
    assert "s3cret" not in gateway.log
