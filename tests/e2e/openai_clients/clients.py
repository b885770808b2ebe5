"""Embed texts by Python clients of OpenAI's interface, with their defaults: `clients.py CLIENT BASE_URL MODEL`.

Runs in .venv-clients. Reads a JSON list of texts from stdin, and writes `{"version": ..., "embeddings": [...]}`. Where
the server refuses, it writes `{"error": ...}`.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import Final

Rows = list[list[float]]

# Neither vocabularies nor prices are downloaded: llama-index-core carries the former, litellm the latter.
os.environ["TIKTOKEN_CACHE_DIR"] = str(files("llama_index.core") / "_static/tiktoken_cache")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


def langchain(url: str, model: str, texts: list[str]) -> Rows:
    """The one setting that differs from the defaults is what the server's error about token ids asks for."""
    from langchain_openai import OpenAIEmbeddings

    client = OpenAIEmbeddings(model=model, base_url=url, api_key="none", check_embedding_ctx_length=False)
    return [*client.embed_documents(texts), client.embed_query(texts[0])]


def langchain_as_it_comes(url: str, model: str, texts: list[str]) -> Rows:
    """Sends token ids."""
    from langchain_openai import OpenAIEmbeddings

    rows: Rows = OpenAIEmbeddings(model=model, base_url=url, api_key="none").embed_documents(texts)
    return rows


def llama_index(url: str, model: str, texts: list[str]) -> Rows:
    from llama_index.embeddings.openai import OpenAIEmbedding

    client = OpenAIEmbedding(model_name=model, api_base=url, api_key="none")
    return [*client.get_text_embedding_batch(texts), client.get_query_embedding(texts[0])]


def litellm(url: str, model: str, texts: list[str]) -> Rows:
    from litellm import embedding

    def embed(given: list[str] | str) -> Rows:
        answer = embedding(model=f"openai/{model}", input=given, api_base=url, api_key="none")
        return [item["embedding"] for item in answer.data]

    return [*embed(texts), *embed(texts[0])]


CLIENTS: Final[dict[str, tuple[str, Callable[[str, str, list[str]], Rows]]]] = {
    "langchain": ("langchain-openai", langchain),
    "langchain-as-it-comes": ("langchain-openai", langchain_as_it_comes),
    "llama-index": ("llama-index-embeddings-openai", llama_index),
    "litellm": ("litellm", litellm),
}


def main() -> None:
    name, url, model = sys.argv[1:]
    package, embed = CLIENTS[name]
    try:
        answer: dict[str, object] = {"embeddings": embed(url + "/v1", model, json.load(sys.stdin))}
    except Exception as error:
        answer = {"error": str(error)}
    json.dump({"version": version(package), **answer}, sys.stdout)


if __name__ == "__main__":
    main()
