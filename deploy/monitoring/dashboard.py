#!/usr/bin/env python3
"""Write grafana/dashboard.json from the table below: python3 deploy/monitoring/dashboard.py [--check]

With `--check` nothing is written, and the exit status is 1 if the file differs. The form is Grafana's dashboard model
(https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/).

The metrics are the gateway's (gateway/observe/README.md), Triton's (docs/user_guide/metrics.md of
triton-inference-server/server), DCGM's exporter's (dcgm-counters.csv), node exporter's, and the kubelet's
(kubelet_volume_stats_*).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("grafana") / "dashboard.json"
_COLUMNS: Final = 24  # Grafana's grid
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard: PromQL by legend. `help` says what the values mean, and what to do about them."""

    title: str
    queries: Mapping[str, str]
    help: str = ""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    needs_gpu: bool = False  # whether the panel is empty if Triton sees no GPU


def _per_request(part: str) -> str:
    """Return PromQL for the mean seconds that a request spends in one part of Triton."""
    return (
        f"sum by (model) (rate(nv_inference_{part}_duration_us[$__rate_interval])) / 1e6"
        " / (sum by (model) (rate(nv_inference_request_success[$__rate_interval])) > 0)"
    )


def _p99_seconds(part: str) -> str:
    """Return PromQL for the 99th percentile of the seconds that a request spends in one part of the slowest Triton."""
    return f'max by (model) (nv_inference_{part}_summary_us{{quantile="0.99"}}) / 1e6'


def _quantile(q: float, *by: str) -> str:
    buckets = f'pe_request_seconds_bucket{{route=~"{_INFERENCE}"}}'
    return f"histogram_quantile({q}, sum by ({', '.join(('le', *by))}) (rate({buckets}[$__rate_interval])))"


_INFERENCE: Final = "/perception_encoder/.*|/v1/embeddings"
_REQUESTS: Final = (
    'pe_requests_total{route!~"/healthz|/readiness|/metrics"}'  # a request that is refused unread has no route
)
_DCGM_MEMORY: Final = "DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE"
_DISKS: Final = '{fstype!~"tmpfs|ramfs|squashfs|fuse.*"}'
_FREE_ON_DISKS: Final = f"node_filesystem_avail_bytes{_DISKS} / node_filesystem_size_bytes{_DISKS}"

ROWS: Final[Mapping[str, list[Panel]]] = {
    "At a glance": [
        Panel(
            "Requests", {"": f"sum(rate({_REQUESTS}[$__rate_interval]))"}, unit="reqps", kind="stat", width=4, height=4
        ),
        Panel(
            "Images",
            {"": 'sum(rate(nv_inference_count{model=~".*-vision"}[$__rate_interval]))'},
            "That Triton embedded.",
            unit="cps",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "p99 latency",
            {"": _quantile(0.99)},
            unit="s",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Failed",
            {
                "": '(sum(rate(pe_requests_total{status=~"5..",route!="/readiness"}[$__rate_interval])) or vector(0))'
                f" / (sum(rate({_REQUESTS}[$__rate_interval])) > 0)"
            },
            "Answers of 500 and more, of all answers.",
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel("Gateways", {"": 'sum(up{job="gateway"})'}, "That answer Prometheus.", kind="stat", width=4, height=4),
        Panel("Tritons", {"": 'sum(up{job="triton"})'}, "That answer Prometheus.", kind="stat", width=4, height=4),
    ],
    "Gateway": [
        Panel(
            "Requests by route", {"{{route}}": f"sum by (route) (rate({_REQUESTS}[$__rate_interval]))"}, unit="reqps"
        ),
        Panel(
            "Answers by status",
            {"{{status}}": f"sum by (status) (rate({_REQUESTS}[$__rate_interval]))"},
            "4xx are the clients' doing, 5xx ours; 499 left before they were answered.",
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Errors by kind",
            {"{{error}}": "sum by (error) (rate(pe_errors_total[$__rate_interval]))"},
            "InvalidInput, InvalidImage and UnknownVariant are clients' mistakes. EncoderFault and EncoderUnavailable: "
            "look at Triton. DeadlineExceeded: too slow.",
            unit="reqps",
        ),
        Panel("Median latency by route", {"{{route}}": _quantile(0.5, "route")}, unit="s"),
        Panel("p99 latency by route", {"{{route}}": _quantile(0.99, "route")}, unit="s"),
        Panel(
            "Time by stage",
            {
                "{{stage}}": "sum by (stage) (rate(pe_stage_seconds_sum[$__rate_interval]))"
                " / (sum by (stage) (rate(pe_stage_seconds_count[$__rate_interval])) > 0)"
            },
            "Of a request that has the stage, summed over its items. `encode` is Triton with its queue, the others "
            "are the gateway's own.",
            unit="s",
        ),
        Panel(
            "Refused or cancelled",
            {"{{reason}}": "sum by (reason) (rate(pe_refused_total[$__rate_interval]))"},
            "Overloaded: PE_MAX_IN_FLIGHT or PE_MAX_BYTES_IN_FLIGHT was reached. More Tritons, if their queues are "
            "long; else more gateways. ShareExceeded: by one client, while others have room. TooManyFetches: "
            "PE_MAX_FETCHES.",
            unit="reqps",
        ),
        Panel(
            "In flight",
            {"{{instance}}": "sum by (instance) (pe_in_flight)"},
            "Requests, of at most PE_MAX_IN_FLIGHT for each client and worker.",
        ),
        Panel(
            "Bytes in flight",
            {"{{instance}}": "sum by (instance) (pe_in_flight_bytes)"},
            "Bodies and fetched images, of at most PE_MAX_BYTES_IN_FLIGHT for each client and worker.",
            unit="bytes",
        ),
        Panel(
            "Images being fetched",
            {"{{instance}}": "sum by (instance) (pe_fetches_in_flight)"},
            "From other servers, of at most PE_MAX_FETCHES and a quarter for each worker.",
        ),
        Panel(
            "Decoders killed or crashed",
            {"{{reason}}": "sum by (reason) (rate(pe_decode_workers_lost_total[$__rate_interval]))"},
            "Processes that ended while they decoded an image. time: PE_DECODE_SECONDS. memory: the "
            "kernel had none left. slow: others waited. cancelled: by client or deadline. crash: by a decoder.",
            unit="cps",
        ),
        Panel(
            "CPUs in use",
            {
                "{{instance}} {{process}}": "sum by (instance, process) (rate(pe_cpu_seconds_total[$__rate_interval]))",
                "{{instance}}, event loops": "sum by (instance) (pe_workers)",
                "{{instance}}, usable": "max by (instance) (pe_cpus)",
            },
            "`server`: the event loops, each at most about one CPU (NUM_WORKERS). `decoder`: the processes that decode "
            "images (PE_DECODE_WORKERS). Together they have no more than is usable.",
        ),
        Panel(
            "Connections",
            {"{{instance}}": "sum by (instance) (pe_connections)"},
            "Open connections of clients, of at most PE_MAX_CONNECTIONS for each worker.",
        ),
        Panel(
            "Connections closed by the gateway",
            {"{{reason}}": "sum by (reason) (rate(pe_connections_closed_total[$__rate_interval]))"},
            "evicted, refused: PE_MAX_CONNECTIONS was reached. slow_head, refused_body, unread_response, "
            "invalid_request: what the client did.",
            unit="cps",
        ),
        Panel(
            "Items in one call to Triton",
            {
                "{{tower}}": "sum by (tower) (rate(pe_batch_size_sum[$__rate_interval]))"
                " / (sum by (tower) (rate(pe_batch_size_count[$__rate_interval])) > 0)"
            },
            "As the gateway sends them, on average; Triton joins them to larger batches.",
        ),
        Panel(
            "Texts found in the cache",
            {
                "found": 'sum(rate(pe_text_cache_lookups_total{result="hit"}[$__rate_interval]))'
                " / (sum(rate(pe_text_cache_lookups_total[$__rate_interval])) > 0)"
            },
            "Of all texts. Few though prompts repeat: more PE_TEXT_CACHE_BYTES.",
            unit="percentunit",
        ),
        Panel("Memory of cached texts", {"{{instance}}": "sum by (instance) (pe_text_cache_bytes)"}, unit="bytes"),
    ],
    "Triton": [
        Panel(
            "Images and texts",
            {"{{model}}": "sum by (model) (rate(nv_inference_count[$__rate_interval]))"},
            unit="cps",
        ),
        Panel(
            "Mean batch",
            {
                "{{model}}": "sum by (model) (rate(nv_inference_count[$__rate_interval]))"
                " / (sum by (model) (rate(nv_inference_exec_count[$__rate_interval])) > 0)"
            },
            "Near 1 under load: the models are faster than they are asked, or dynamic batching is off.",
        ),
        Panel(
            "Pending requests",
            {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"},
            "Requests in Triton that no model instance works on yet. Kubernetes scales by it.",
        ),
        Panel("Time in the queue", {"{{model}}": _per_request("queue")}, "For each request, on average.", unit="s"),
        Panel(
            "Time in the model",
            {
                "{{model}}": _per_request("compute_infer"),
                "{{model}}, copying": _per_request("compute_input"),
            },
            "For each request, on average; the batch's whole time counts for each request in it.",
            unit="s",
        ),
        Panel(
            "p99 time in the queue",
            {"{{model}}": _p99_seconds("queue")},
            "Of Triton's last requests, in the slowest Triton. Triton computes it: `summary_latencies`.",
            unit="s",
        ),
        Panel(
            "p99 time in the model",
            {"{{model}}": _p99_seconds("compute_infer")},
            "As before, in the engine. A batch's whole time counts for each request in it.",
            unit="s",
        ),
        Panel(
            "Failed in Triton",
            {"{{model}} {{reason}}": "sum by (model, reason) (rate(nv_inference_request_failure[$__rate_interval]))"},
            "BACKEND: the engine failed. CANCELED: the client left, or its deadline passed. REJECTED: a full queue.",
            unit="reqps",
        ),
    ],
    "Replicas": [
        Panel(
            "Images by Triton",
            {"{{instance}}": 'sum by (instance) (rate(nv_inference_count{model=~".*-vision"}[$__rate_interval]))'},
            "Alike, unless one is slower or new.",
            unit="cps",
        ),
        Panel(
            "Tritons that each gateway uses",
            {"{{instance}}": "sum by (instance) (pe_triton_up)"},
            "Fewer than there are: some cannot be reached, or hang. The gateway's log names them.",
        ),
        Panel(
            "Calls in flight by Triton",
            {"{{address}}": "sum by (address) (pe_triton_in_flight)"},
            "Each call goes to the one with the fewest.",
        ),
        Panel(
            "Calls to Triton by result",
            {"{{result}}": "sum by (result) (rate(pe_triton_calls_total[$__rate_interval]))"},
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Calls retried",
            {"{{instance}}": "sum by (instance) (rate(pe_triton_retries_total[$__rate_interval]))"},
            "On another Triton, because the first call was lost. A few are normal when a Triton is replaced.",
            unit="reqps",
        ),
        Panel(
            "Requests by gateway",
            {"{{instance}}": f"sum by (instance) (rate({_REQUESTS}[$__rate_interval]))"},
            unit="reqps",
        ),
        Panel(
            "CPU of Triton's machines",
            {"{{instance}}": "max by (instance) (nv_cpu_utilization)"},
            unit="percentunit",
        ),
    ],
    "GPU, as Triton sees it": [
        Panel("In use", {"{{instance}} {{gpu_uuid}}": "nv_gpu_utilization"}, unit="percentunit", needs_gpu=True),
        Panel(
            "Memory",
            {
                "{{instance}} {{gpu_uuid}}": "nv_gpu_memory_used_bytes",
                "{{instance}} {{gpu_uuid}}, all": "nv_gpu_memory_total_bytes",
            },
            unit="bytes",
            needs_gpu=True,
        ),
        Panel(
            "Power",
            {
                "{{instance}} {{gpu_uuid}}": "nv_gpu_power_usage",
                "{{instance}} {{gpu_uuid}}, limit": "nv_gpu_power_limit",
            },
            "At its limit the GPU lowers its clock: L4 and T4 do so under this load.",
            unit="watt",
            needs_gpu=True,
        ),
    ],
    "GPU, by DCGM's exporter": [
        Panel(
            "Busy",
            {"{{instance}} {{gpu}}": "DCGM_FI_DEV_GPU_UTIL / 100"},
            "The part of the time in which some kernel ran. It says nothing of how much of the GPU that kernel used.",
            unit="percentunit",
        ),
        Panel(
            "Memory of all programs",
            {
                "{{instance}} {{gpu}}": "DCGM_FI_DEV_FB_USED * 2^20",
                "{{instance}} {{gpu}}, all": f"({_DCGM_MEMORY}) * 2^20",
            },
            unit="bytes",
        ),
        Panel(
            "Throttling",
            {
                "{{instance}} {{gpu}}, heat": "rate(DCGM_FI_DEV_THERMAL_VIOLATION[$__rate_interval]) / 1e9",
                "{{instance}} {{gpu}}, power": "rate(DCGM_FI_DEV_POWER_VIOLATION[$__rate_interval]) / 1e9",
            },
            "The part of the time in which the clock was lowered. Power: usual at full load on cards with a low limit. "
            "Heat: look at the cooling.",
            unit="percentunit",
        ),
        Panel(
            "Temperature",
            {
                "{{instance}} {{gpu}}": "DCGM_FI_DEV_GPU_TEMP",
                "{{instance}} {{gpu}}, memory": "DCGM_FI_DEV_MEMORY_TEMP",
            },
            unit="celsius",
        ),
        Panel(
            "Power and clock",
            {
                "{{instance}} {{gpu}}, watts": "DCGM_FI_DEV_POWER_USAGE",
                "{{instance}} {{gpu}}, MHz": "DCGM_FI_DEV_SM_CLOCK",
            },
        ),
        Panel(
            "Faults",
            {
                "{{instance}} {{gpu}}, Xid {{xid}}": 'DCGM_EXP_XID_ERRORS_COUNT{xid!~"|0"}',
                "{{instance}} {{gpu}}, double-bit errors": "increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[$__rate_interval])",
                "{{instance}} {{gpu}}, rows remapped": "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
            },
            "Xids: of the last five minutes. Any of them is worth a look at the kernel's log.",
        ),
    ],
    "Machines": [
        Panel(
            "CPU",
            {"{{instance}}": '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'},
            unit="percentunit",
        ),
        Panel(
            "Free on disks",
            {"{{instance}} {{mountpoint}}": _FREE_ON_DISKS},
            "Models, logs and Prometheus' own data are on them.",
            unit="percentunit",
        ),
        Panel(
            "Free on volumes",
            {
                "{{namespace}} {{persistentvolumeclaim}}": "kubelet_volume_stats_available_bytes"
                " / kubelet_volume_stats_capacity_bytes"
            },
            "In Kubernetes.",
            unit="percentunit",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard of `ROWS` in Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, _COLUMNS, 1)}
        )
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + panel.height
            panels.append(_panel(panel, _place(x, y, panel.width, panel.height)))
            x += panel.width
        y += row[-1].height
    return {
        "uid": "perception-encoder",
        "title": "Perception Encoder",
        "tags": ["perception-encoder", "triton"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 20 if panel.stacked else 0, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, **({"custom": custom} if panel.kind == "timeseries" else {})},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}} if panel.kind == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for number, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def main(arguments: list[str]) -> int:
    """Run the command; the exit status is 1 if `--check` finds a difference."""
    text = json.dumps(dashboard(), indent=1) + "\n"
    if arguments == ["--check"]:
        if not FILE.exists() or FILE.read_text() != text:
            sys.stderr.write(f"{FILE} is not what {__file__} writes; run it\n")
            return 1
        return 0
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
