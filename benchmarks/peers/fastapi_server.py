"""sentence-transformers behind FastAPI, as its documentation and most tutorials have it: a model, a
function, the answer in OpenAI's shape.

    python benchmarks/peers/fastapi_server.py MODEL_FOLDER PORT

Started by benchmarks/serve.py in an interpreter that has fastapi, uvicorn and
sentence-transformers; leafkit is not needed.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Request(BaseModel):
    """What OpenAI's clients send."""

    model: str
    input: str | list[str]
    encoding_format: str = "float"


def make_app(folder: str) -> FastAPI:
    """The application; FastAPI runs its function in a pool of threads."""
    model = SentenceTransformer(folder, device="cpu")
    prompt_name = "query" if model.prompts.get("query") else None
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embeddings(request: Request) -> dict[str, object]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        vectors = model.encode(texts, prompt_name=prompt_name)
        rows = [
            {"object": "embedding", "index": i, "embedding": vector.tolist()}
            for i, vector in enumerate(vectors)
        ]
        return {"object": "list", "model": request.model, "data": rows}

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
