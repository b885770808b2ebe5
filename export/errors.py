"""Errors of an export. `pe-export` prints the message as one line and exits with status 1.

ExportError            an option does not fit the engine, or one of:
├── UnknownVariant     the table has no such variant
├── CheckpointError    a checkpoint is missing, damaged, or not of this variant
├── GraphError         the ONNX exporter, the checker or an engine's compiler rejects a tower
├── TargetError        this machine lacks the hardware or the library that the engine's build needs
├── ParityError        the artifact's embeddings differ from torch's, or nothing on this machine can run the artifact
├── DiskSpaceError     the weights or the models do not fit on the disk
└── RepositoryError    the model repository, or a file in it, cannot be read or written
"""


class ExportError(Exception):
    """The export cannot continue. `str()` is one line that says what is wrong and what to do next."""


class UnknownVariant(ExportError): ...


class CheckpointError(ExportError): ...


class GraphError(ExportError): ...


class TargetError(ExportError): ...


class ParityError(ExportError): ...


class DiskSpaceError(ExportError): ...


class RepositoryError(ExportError): ...
