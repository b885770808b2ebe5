"""Zero-shot classification: make prompts for classes, and turn similarities into probabilities.

The method is CLIP's (Radford et al. 2021, section 3.1.4): the embedding of a class is the mean of the embeddings of its
prompts, and the probabilities are the softmax of the similarities times the model's logit scale.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.encoder import Embeddings
from gateway.errors import InvalidInput, too_many

PLACEHOLDER: Final = "{}"
"""What the class replaces in a template."""


# Templates make much of little: 2,000 classes and 2,000 templates are four million prompts.
_MAX_MADE_CHARACTERS: Final = 2**20


def prompts(
    classes: Sequence[str] | Mapping[str, Sequence[str]], templates: Sequence[str], max_prompts: int
) -> dict[str, list[str]]:
    """Make the prompts of each class.

    Args:
        classes: names, whose prompts are the templates with the name in place of `{}`; or the prompts by name.
        templates: for classes without prompts. None given means `{}`, the name itself.
        max_prompts: of all classes together.

    Raises:
        InvalidInput: there are no classes, a class occurs twice or has no prompt, or a template has no `{}`. Or there
            are templates although the classes have prompts, or too many prompts.
    """
    if not classes:
        raise InvalidInput("`classes` is empty.")
    if isinstance(classes, Mapping):
        if templates:
            raise InvalidInput("`template` is for a list of classes. Here `classes` has the prompts of each class.")
        for name, texts in classes.items():
            if not texts:
                raise InvalidInput(f"Class {_shown(name)} has no prompt.")
        _check_count(sum(map(len, classes.values())), max_prompts)
        return {name: list(texts) for name, texts in classes.items()}
    templates = templates or (PLACEHOLDER,)
    _check_count(len(classes) * len(templates), max_prompts)
    for template in templates:
        if PLACEHOLDER not in template:
            raise InvalidInput(f"The template {_shown(template)} has no `{PLACEHOLDER}` for the class.")
    if _made_characters(classes, templates) > _MAX_MADE_CHARACTERS:
        raise InvalidInput(f"The templates make prompts of more than {_MAX_MADE_CHARACTERS} characters.")
    made: dict[str, list[str]] = {}
    for name in classes:
        if name in made:
            raise InvalidInput(f"Class {_shown(name)} occurs twice in `classes`.")
        made[name] = [template.replace(PLACEHOLDER, name) for template in templates]
    return made


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        raise too_many("prompts", count, limit)


def _made_characters(classes: Sequence[str], templates: Sequence[str]) -> int:
    names = sum(map(len, classes))
    return sum(
        len(classes) * (len(template) - count * len(PLACEHOLDER)) + count * names
        for template in templates
        for count in (template.count(PLACEHOLDER),)
    )


class Classes(NamedTuple):
    """How well C classes fit N images.

    Attributes:
        probabilities: float64 [N, C]. Each row adds up to 1.
        similarities: float32 [N, C].
        order: int64 [N, C], the indices of the classes in falling order of probability.
    """

    probabilities: NDArray[np.float64]
    similarities: Embeddings
    order: NDArray[np.intp]


def classify(images: Embeddings, prompts: Embeddings, counts: Sequence[int], logit_scale: float) -> Classes:
    """Compare images with classes. 64 images and 2,048 prompts take 50 ms, so call it in a thread.

    Args:
        images: float32 [N, D].
        prompts: float32 [P, D], of all classes in order.
        counts: the number of prompts of each of C classes. Their sum is P.
    """
    similarities: Embeddings = _unit(images) @ class_embeddings(prompts, counts).T
    found = probabilities(similarities, logit_scale)
    return Classes(found, similarities, np.argsort(-found, axis=1, kind="stable"))


def class_embeddings(embeddings: Embeddings, counts: Sequence[int]) -> Embeddings:
    """Average the embeddings of each class's prompts.

    Args:
        embeddings: float32 [P, D], of the prompts of all classes in order.
        counts: the number of prompts of each of C classes. Their sum is P.

    Returns:
        Unit vectors, float32 [C, D].
    """
    starts = np.cumsum([0, *counts[:-1]])
    return _unit(np.add.reduceat(_unit(embeddings), starts, axis=0))


def probabilities(similarities: NDArray[np.float32], logit_scale: float) -> NDArray[np.float64]:
    """The softmax of similarities [N, C] times the logit scale, along the classes: float64 [N, C]."""
    logits = similarities.astype(np.float64) * logit_scale
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return found


def _unit(vectors: Embeddings) -> Embeddings:
    # Prompts that contradict each other could add up to zero.
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit: Embeddings = (vectors / norms).astype(np.float32)
    return unit


def _shown(text: str) -> str:
    return repr(text[:64])
