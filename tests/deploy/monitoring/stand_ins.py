"""Stand-ins for DCGM's exporter, which needs a GPU, and for a kubelet: their series, with the labels that they have."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Of internal/pkg/rendermetrics/render_metrics.go in NVIDIA/dcgm-exporter 4.5.3-4.8.2; with `xid`, of xid_collector.go.
_LABELS = 'gpu="{gpu}",UUID="GPU-{gpu}",pci_bus_id="0:{gpu}",device="nvidia{gpu}",modelName="NVIDIA H100",hostname="m"'
# https://kubernetes.io/docs/reference/instrumentation/metrics/
_CLAIM = 'namespace="perception-encoder",persistentvolumeclaim="perception-encoder-models"'
_KUBELET = (
    f"kubelet_volume_stats_available_bytes{{{_CLAIM}}} 3e9\nkubelet_volume_stats_capacity_bytes{{{_CLAIM}}} 5e9\n"
)


def dcgm(counters: Path) -> str:
    """The exposition of two GPUs for a list of counters. Counters grow, gauges do not."""
    lines = []
    for line in counters.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, kind, help_text = (field.strip() for field in line.split(","))
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        value = int(time.time() * 1e8) if kind == "counter" else 50
        for gpu in range(2):
            labels = _LABELS.format(gpu=gpu)
            if name == "DCGM_EXP_XID_ERRORS_COUNT":
                labels += ',window_size_in_ms="300000"' + (',xid="31"' if gpu else "")
            lines.append(f"{name}{{{labels}}} {value}")
    return "\n".join(lines) + "\n"


@contextmanager
def serving(counters: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a DCGM exporter and of a kubelet."""

    def handler(kubelet: bool) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = (_KUBELET if kubelet else dcgm(counters)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(kubelet)) for kubelet in (False, True)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    try:
        exporter, kubelet = (f"127.0.0.1:{server.server_port}" for server in servers)
        yield exporter, kubelet
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
