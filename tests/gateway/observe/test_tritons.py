from prometheus_client import CollectorRegistry, generate_latest

from gateway.errors import EncoderFault
from gateway.observe.tritons import TritonMetrics


def test_each_address_has_its_series_until_it_is_gone() -> None:
    registry = CollectorRegistry()
    metrics = TritonMetrics(registry)
    a = metrics.of("a:1")
    a.is_up(True)
    a.has_outstanding(3)
    a.answered()
    a.failed(EncoderFault("x"))
    a.failed(None)
    metrics.of("b:1")
    metrics.retried()
    said = generate_latest(registry).decode()
    for line in (
        'pe_triton_up{address="a:1"} 1.0',
        'pe_triton_up{address="b:1"} 0.0',
        'pe_triton_in_flight{address="a:1"} 3.0',
        'pe_triton_calls_total{address="a:1",result="Ok"} 1.0',
        'pe_triton_calls_total{address="a:1",result="EncoderFault"} 1.0',
        'pe_triton_calls_total{address="a:1",result="Cancelled"} 1.0',
        "pe_triton_retries_total 1.0",
    ):
        assert line in said.splitlines()
    metrics.gone("a:1")
    said = generate_latest(registry).decode()
    assert 'pe_triton_up{address="a:1"}' not in said
    assert 'pe_triton_up{address="b:1"}' in said
