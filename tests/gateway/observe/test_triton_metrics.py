from prometheus_client import CollectorRegistry, generate_latest

from gateway.errors import EncoderFault
from gateway.observe.triton_metrics import TritonMetrics


def test_each_replica_has_its_series_until_it_is_removed() -> None:
    registry = CollectorRegistry()
    metrics = TritonMetrics(registry)
    a = metrics.add_replica("a:1")
    a.set_up(True)
    a.set_in_flight(3)
    a.count_success()
    a.count_failure(EncoderFault("x"))
    a.count_cancelled()
    metrics.add_replica("b:1")
    metrics.count_retry()
    text = generate_latest(registry).decode()
    for line in (
        'pe_triton_up{address="a:1"} 1.0',
        'pe_triton_up{address="b:1"} 0.0',
        'pe_triton_in_flight{address="a:1"} 3.0',
        'pe_triton_calls_total{address="a:1",result="Ok"} 1.0',
        'pe_triton_calls_total{address="a:1",result="EncoderFault"} 1.0',
        'pe_triton_calls_total{address="a:1",result="Cancelled"} 1.0',
        "pe_triton_retries_total 1.0",
    ):
        assert line in text.splitlines()
    metrics.remove_replica("a:1")
    text = generate_latest(registry).decode()
    assert 'pe_triton_up{address="a:1"}' not in text
    assert 'pe_triton_up{address="b:1"}' in text
