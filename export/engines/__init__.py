"""The engines that can serve a graph. To add an engine, add a module here and an entry in `ENGINES`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from export.engines.engine import Engine
from export.engines.onnx import OnnxEngine
from export.engines.openvino import OpenVinoEngine
from export.engines.tensorrt import TensorRtEngine

DEFAULT_ENGINE: Final = OnnxEngine.name
ENGINES: Final[Mapping[str, Engine]] = MappingProxyType(
    {engine.name: engine for engine in (OnnxEngine(), OpenVinoEngine(), TensorRtEngine())}
)
