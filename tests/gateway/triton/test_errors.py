import grpc
import pytest
from tritonclient.utils import InferenceServerException

from gateway.errors import EncoderFault, EncoderUnavailable, ServerError
from gateway.triton.errors import translate, translated_errors


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_has_an_error(code: grpc.StatusCode) -> None:
    assert isinstance(translate(str(code), "anything"), ServerError)


def test_a_status_nobody_knows() -> None:
    assert isinstance(translate(None, "broken"), EncoderFault)


def test_both_libraries_errors_are_translated() -> None:
    with pytest.raises(EncoderUnavailable), translated_errors():
        raise InferenceServerException("gone", status="StatusCode.UNAVAILABLE")
    with pytest.raises(EncoderFault), translated_errors():
        raise grpc.RpcError("odd")
