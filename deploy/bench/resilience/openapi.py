"""Attack by the book: requests made from the server's own /openapi.json, by schemathesis."""

from typing import Any

from deploy.bench.harness.figures import Figure, exactly, told


def measure(url: str, examples: int) -> list[Figure]:
    """So many requests of each operation: none may be a 5xx, or answered in another way than the document promises."""
    try:
        import schemathesis
        from hypothesis import HealthCheck, given, settings
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
    except ImportError:
        return [told("requests by /openapi.json: schemathesis is not installed", 0)]
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
        def answered_as_promised(case: Any) -> None:
            nonlocal sent
            sent += 1
            case.call_and_validate(checks=checks)

        try:
            answered_as_promised()
        except Exception as error:
            # Many at once come as a group; the first line of each names what broke.
            bad.append(f"{operation.label}: {str(error).strip().splitlines()[0]}")
    return [
        told("requests made from /openapi.json", sent),
        exactly("operations answered with a 5xx, or as the document does not say", len(bad), 0, note="; ".join(bad)),
    ]
