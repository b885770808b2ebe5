"""The `config.pbtxt` that Triton gets for a model, where it differs from the file in the repository."""

from typing import Any, Final

from deploy.embedded.engines import Substitution
from export.repository.config_pbtxt import ModelConfig

# `backend/model.py` reads this parameter. Triton ignores it.
SUBSTITUTE: Final = "substitute_engine"
_EXPORTED: Final = ("engine", "precision")


def served_config(config: Any, substitution: Substitution | None, on_gpu: bool = False) -> Any:
    """Return a copy of a model's configuration for the embedded Triton.

    The copy lets requests of different shapes come to the backend together (`allow_ragged_batch`). Otherwise Triton
    ends a batch where the length of the tokens changes. `backend/model.py` runs those of equal shape together.

    On a CPU, the copy warms up with the smallest batch only. A full batch, which the exporter adds for GPUs, prepares
    nothing on a CPU: the second run took as long as the first. For PE-Core-L14-336 the full batch takes minutes before
    the model is ready. On a GPU, the full batch makes onnxruntime's arena as large as it has to be.

    Args:
        config: the repository's `inference.ModelConfig`, which stays unchanged.
        substitution: the engine that runs the model instead of its own. The copy's `parameters` then state that
            engine, its precision, and as parity the limits that the engine must meet. What the exporter stated of
            engine and precision is kept as `exported_engine` and `exported_precision`.
        on_gpu: whether onnxruntime will use a GPU.

    Returns:
        The `inference.ModelConfig` to write.
    """
    served = ModelConfig()
    served.CopyFrom(config)
    if not on_gpu:
        sizes = [entry.batch_size for entry in config.model_warmup if entry.batch_size]
        kept = [entry for entry in config.model_warmup if entry.batch_size in (0, min(sizes, default=0))]
        del served.model_warmup[:]
        served.model_warmup.extend(kept)
    for tensor in served.input:
        if config.max_batch_size > 0 and -1 in tensor.dims:
            tensor.allow_ragged_batch = True
    if substitution:
        exported = {key: config.parameters[key].string_value for key in _EXPORTED if key in config.parameters}
        facts = {f"exported_{key}": value for key, value in exported.items()}
        for key, value in {**facts, **_parameters(substitution)}.items():
            served.parameters[key].string_value = value
    return served


def _parameters(substitution: Substitution) -> dict[str, str]:
    cosine = substitution.min_cosine
    return {
        SUBSTITUTE: substitution.engine.backend,
        **substitution.parameters,
        "engine": substitution.engine.backend,
        "precision": substitution.precision,
        "parity_min_cosine": f"{cosine}",
        # Two unit vectors of that cosine differ by at most this much in any component.
        "parity_max_abs_error": f"{(2 - 2 * cosine) ** 0.5:.3g}",
    }
