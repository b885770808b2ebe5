"""Send requests that schemathesis generates from the server's own /openapi.json."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from deploy.bench.harness.figures import Figure, exactly, observed


def measure(url: str, examples: int) -> list[Figure]:
    """Send that many requests per operation. A 5xx or an undocumented response is a failure."""
    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    sent, bad = 0, list[str]()
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal sent
            sent += 1
            case.call_and_validate(checks=checks)

        try:
            check()
        except Exception as error:
            # Several failures come as one exception group. Its first line names what failed.
            bad.append(f"{operation.label}: {str(error).strip().splitlines()[0]}")
    return [
        observed("requests generated from /openapi.json", sent),
        exactly("operations with a 5xx or an undocumented response", len(bad), 0, note="; ".join(bad)),
    ]
