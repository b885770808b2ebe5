"""What a model infers before it is ready: on a CPU, one input and no more.

A full batch, which the exporter's configurations have for GPUs, prepares nothing here: it took as long the second time.
For PE-Core-L14-336 that is minutes in which nothing is served.
"""

import re

# As protobuf's printer writes it, and so the exporter; what somebody wrote in another form stays as it is.
_ENTRY = re.compile(rb"^model_warmup \{\n(?: .*\n)*\}\n", re.MULTILINE)
_BATCH_SIZE = re.compile(rb"^  batch_size: (\d+)$", re.MULTILINE)


def smallest_alone(config: bytes) -> bytes:
    """A ``config.pbtxt`` without its warm-ups, but for those of the smallest batch among them."""
    sizes = [int(size) for entry in _ENTRY.findall(config) for size in _BATCH_SIZE.findall(entry)]

    def kept(entry: re.Match[bytes]) -> bytes:
        size = _BATCH_SIZE.search(entry[0])
        return entry[0] if size is None or int(size[1]) == min(sizes) else b""

    return _ENTRY.sub(kept, config)
