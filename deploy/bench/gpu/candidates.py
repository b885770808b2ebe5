"""The graph forms that are queued for a GPU: choices of `export.graph.forms.Fused`, and options of onnxruntime.

What `make test` proves of each on a CPU is in `tests/export/graph/test_fused_choices.py` and in README.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from export.graph.forms import FORMS, Form, Fused

# With the residual stream in FP16, SkipLayerNormalization adds up in FP16 unless it is strict.
STRICT: Final = {"enable_skip_layer_norm_strict_mode": "1"}
_GRAPH: Final = {"enable_cuda_graph": "1"}


@dataclass(frozen=True)
class Candidate:
    """A graph and the way to run it. Precision is FP16."""

    graph: str
    """A key of `GRAPHS`."""
    fixed_batch: bool = False
    """Whether the session knows the batch size, so that it computes all shapes when it is loaded."""
    cuda_graph: bool = False
    """Whether the CUDA provider records one CUDA graph, and replays it. It needs fixed shapes and addresses."""

    @property
    def provider_options(self) -> dict[str, str]:
        """Options of onnxruntime's CUDA provider."""
        form = GRAPHS[self.graph]
        return (STRICT if form.half_stream else {}) | (_GRAPH if self.cuda_graph else {})


GRAPHS: Final[Mapping[str, Form]] = {
    "exported": FORMS["fused"],
    "heads alone": Fused(rotary_width=1),
    "BiasGelu": Fused(bias_gelu=True),
    "FP16 stream": Fused(half_stream=True),
    "FP16 stream, BiasGelu": Fused(half_stream=True, bias_gelu=True),
    "packed": Fused(packed=True),
    "packed, FP16 stream, BiasGelu": Fused(packed=True, half_stream=True, bias_gelu=True),
}

CANDIDATES: Final[Mapping[str, Candidate]] = {
    **{name: Candidate(name) for name in GRAPHS},
    **{f"{name}, fixed batch": Candidate(name, fixed_batch=True) for name in ("FP16 stream, BiasGelu",)},
    **{
        f"{name}, CUDA graph": Candidate(name, fixed_batch=True, cuda_graph=True)
        for name in ("exported", "FP16 stream, BiasGelu", "packed, FP16 stream, BiasGelu")
    },
}


def chosen(names: tuple[str, ...]) -> dict[str, Candidate]:
    """Return the candidates of these names, or all without any.

    Raises:
        KeyError: there is none of a name.
    """
    return {name: CANDIDATES[name] for name in names or CANDIDATES}
