"""Load a model of a running Triton with other settings.

It uses Triton's model control by gRPC (docs/protocol/extension_model_repository.md). A load may bring a configuration
that replaces the one in the repository until another load brings one. Triton allows it in the mode `explicit` only.
"""

from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.json_format import MessageToJson
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.triton import channel

_LOAD_S: Final = 900.0
_CALL_S: Final = 30.0


class ControlFailed(Exception):
    """Triton cannot be reached, does not allow control, or refuses a configuration. The text is Triton's reason."""


class ModelControl:
    """A connection to a Triton that runs with `--model-control-mode=explicit`. A context manager.

    Args:
        target: Triton's gRPC address, `host:port`.
    """

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, options=channel.OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def models(self) -> list[str]:
        """The names of the ready models, sorted."""
        index = self._call("RepositoryIndex", service_pb2.RepositoryIndexRequest(ready=True), _CALL_S)
        return sorted({model.name for model in index.models})

    def config(self, model: str) -> Any:
        """The `inference.ModelConfig` with which a model is loaded."""
        return self._call("ModelConfig", service_pb2.ModelConfigRequest(name=model), _CALL_S).config

    def load(self, model: str, config: Any) -> None:
        """Load a model again, with this `inference.ModelConfig` instead of the repository's."""
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        request.parameters["config"].string_param = MessageToJson(config, preserving_proto_field_name=True)
        self._call("RepositoryModelLoad", request, _LOAD_S)

    def _call(self, name: str, request: Any, seconds: float) -> Any:
        try:
            return getattr(self._stub, name)(request, timeout=seconds)
        except grpc.RpcError as error:
            raise ControlFailed(error.details() or str(error.code())) from None
