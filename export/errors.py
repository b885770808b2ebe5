"""What can go wrong in an export; `pe-export` prints the message as one line and exits non-zero.

ExportError
+-- UnknownVariant     no such row in the table
+-- CheckpointError    a weights file that is missing, damaged or not this variant's
+-- GraphError         the ONNX exporter or checker, or an engine's builder, refused a tower
+-- TargetError        the hardware or the library that an engine is built with is not here
+-- ParityError        the artifact's embeddings are not torch's
+-- RepositoryError    the model repository cannot be read or written
"""


class ExportError(Exception):
    """An export that cannot go on; `str()` is one line that says what to do about it."""


class UnknownVariant(ExportError): ...


class CheckpointError(ExportError): ...


class GraphError(ExportError): ...


class TargetError(ExportError): ...


class ParityError(ExportError): ...


class RepositoryError(ExportError): ...
