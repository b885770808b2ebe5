from deploy.bench.resilience import counters

TEXT = """# HELP nv_inference_request_failure Number of failed requests
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="V-text",reason="CANCELED",version="1"} 3
nv_inference_request_failure{model="V-vision",reason="CANCELED",version="1"} 5
nv_inference_request_failure{model="V-vision",reason="OTHER",version="1"} 7
plain_gauge 1.5
"""


def test_adds_up_the_series_that_have_the_labels() -> None:
    name = "nv_inference_request_failure"
    assert counters.value(TEXT, name, {"model": "V-vision", "reason": "CANCELED"}) == 5
    assert counters.value(TEXT, name, {"reason": "CANCELED"}) == 8
    assert counters.value(TEXT, name) == 15
    assert counters.value(TEXT, "plain_gauge") == 1.5
    assert counters.value(TEXT, "nothing") == 0
