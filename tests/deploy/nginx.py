"""The real nginx with TLS before gateways, with the committed configuration or another one."""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.running import free_port
from tests.tools import ROOT, find_tool

CONF = ROOT / "deploy/nginx/perception-encoder.conf"
NOBODY = 65534
MAIN = """
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    https: int  # ports
    http: int
    tls: ssl.SSLContext  # of a client that knows the certificate
    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "fullchain.pem"

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=f"https://localhost:{self.https}", verify=self.tls, timeout=60)

    def async_client(self, connections: int) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=connections)
        return httpx2.AsyncClient(
            base_url=f"https://localhost:{self.https}", verify=self.tls, timeout=60, limits=limits
        )


@contextmanager
def nginx(*gateways: int, site: str = "") -> Iterator[Proxy]:
    """Before gateways at these ports; as nobody, so that nothing it does needs root.

    Args:
        site: the configuration, with the addresses and the certificate of the committed one, which is the default.
    """
    program, openssl = find_tool("nginx"), find_tool("openssl")
    https, http = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        shutil.copy(program, folder / "nginx")  # nobody may not be let into the checkout
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "privkey.pem",
             "-out", folder / "fullchain.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        site = site or CONF.read_text()
        for old, new in {
            "listen 80;": f"listen 127.0.0.1:{http};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{https} ssl http2;",
            "server 127.0.0.1:9001;": " ".join(f"server 127.0.0.1:{port};" for port in gateways),
            "/etc/nginx/tls/": f"{folder}/",
        }.items():
            assert old in site
            site = site.replace(old, new)
        (folder / "site.conf").write_text(site)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        folder.chmod(0o755)
        user: dict[str, object] = {}
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [folder / "nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user,  # type: ignore[call-overload]
            )  # fmt: skip
        try:
            wait_for_port(https, process, folder / "log")
            yield Proxy(https, http, ssl.create_default_context(cafile=str(folder / "fullchain.pem")), folder)
            said = (folder / "log").read_text()
        finally:
            process.terminate()
            process.wait(10)
        assert "[alert]" not in said, said
        assert "[emerg]" not in said, said


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


def metric(port: int, series: str) -> float:
    for line in httpx2.get(f"http://127.0.0.1:{port}/metrics").text.splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    return 0
