import itertools

import numpy as np
import pytest

from deploy.bench.harness import load_generator
from deploy.bench.speed import payloads
from gateway.texts.tokenizer import Tokenizer


@pytest.mark.parametrize("count", payloads.LENGTHS)
def test_texts_have_the_number_of_tokens_that_their_name_says(count: int) -> None:
    tokenizer, text = Tokenizer(72), payloads.LENGTHS[count]
    every = itertools.islice(load_generator.short_texts(0), 0, 24**4, 997)
    found = {int(np.count_nonzero(tokenizer.encode(text.replace("@SHORT@", short)).tokens)) for short in every}
    assert found == {count}


def test_short_texts_do_not_repeat() -> None:
    texts = list(itertools.islice(load_generator.short_texts(5), 2000))
    assert len(set(texts)) == 2000
    assert all(len(text.split()) == 4 for text in texts)
    assert texts[1] == next(load_generator.short_texts(6))
