"""Read and write `config.pbtxt` through Triton's own protobuf, `inference.ModelConfig`.

Only this module parses and writes the file's text form, except `export/preflight.py`. That file runs alone in the stock
Triton image, which has no `tritonclient`.

Fields: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.errors import RepositoryError

ModelConfig = model_config_pb2.ModelConfig
DataType = model_config_pb2.DataType


def parse(text: str | bytes) -> Any:
    """Parse the contents of a `config.pbtxt`.

    Args:
        text: contents of the file. Bytes must be UTF-8.

    Returns:
        The `inference.ModelConfig` message.

    Raises:
        RepositoryError: the text is not UTF-8, or not a Triton model configuration.
    """
    try:
        return text_format.Parse(text, ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        # The error quotes a line, which a damaged file has none of.
        reason = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(error)[:200])
        raise RepositoryError(f"config.pbtxt is not a Triton configuration: {reason}") from error


def to_text(config: Any) -> str:
    """Format an `inference.ModelConfig` message as the contents of a `config.pbtxt`."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text
