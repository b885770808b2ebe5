"""Configure logging to standard error, as text or as JSON. Text from a client cannot start a new log line."""

import json
import logging
import time
from typing import Final

from gateway.observe.output import STDERR, Output
from gateway.settings import LogFormat

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code != 10}


def configure(log_format: LogFormat) -> None:
    """Configure logging for this process, including uvicorn and all libraries."""
    # The formats contain no thread, process or source line. Not looking them up saves a third of the time per log line.
    # https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = Handler(STDERR)
    handler.setFormatter(
        JsonFormatter() if log_format == "json" else TextFormatter("%(levelname)s %(name)s %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    # python_multipart logs two warnings per malformed form. The access log and the response report such a form already.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class Handler(logging.Handler):
    """Writes entries to a stream, and counts those that could not be written. The next entry follows their count."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # A wrong argument of a log call, for example.
            self.handleError(record)
            return
        if self._lost:
            notice = f"{self._lost} entries of this log could not be written"
            line = self.format(logging.LogRecord(__name__, logging.WARNING, "", 0, notice, None, None)) + "\n" + line
        self._lost = 0 if self._output.write(line) else self._lost + 1


class TextFormatter(logging.Formatter):
    """Formats level, logger and message. The following lines, such as those of a traceback, are indented."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # Most lines are printable. `translate` would take longer than the rest of the formatting.
        return text if text.isprintable() else text.replace("\n", "\n    ").translate(_CONTROLS)


class JsonFormatter(logging.Formatter):
    """Formats one JSON object per line: `time`, `level`, `logger`, `message`.

    A line of the access log has the fields of the request instead of `message`.
    """

    converter = time.gmtime  # type: ignore[assignment]  # as in the documentation of `logging`
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        head = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        if record.name == "gateway.access":
            return json.dumps(head)[:-1] + ", " + record.getMessage()[1:]
        entry = head | {"message": record.getMessage()}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)
