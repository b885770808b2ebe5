"""The log on standard error: for people, or as JSON. Nothing a client sends makes a line of its own."""

import json
import logging
import time
from typing import Final

from gateway.settings import LogFormat

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code != 10}


def configure(log_format: LogFormat) -> None:
    """For this process, uvicorn's lines and all libraries' included."""
    # Our lines name no thread, process or place in the code, so none is looked up for each: a third of a line's cost.
    # https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if log_format == "json" else Text("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    # It warns of each damaged form, twice; the request's own line, and the answer, say enough of it.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class Text(logging.Formatter):
    """Level, logger, message. A traceback's lines are indented, and so is whatever it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # Nearly every line is, and looking up each of its characters would cost more than all else of it.
        return text if text.isprintable() else text.replace("\n", "\n    ").translate(_CONTROLS)


class Json(logging.Formatter):
    """An object a line: ``time``, ``level``, ``logger``, ``message``; of a request, its fields in place of the last."""

    converter = time.gmtime  # type: ignore[assignment]  # as the documentation has it
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
