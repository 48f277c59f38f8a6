"""How other tools are called with an exported student: code to copy, with the prompt of queries in
it, because most of them know of none.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from leafkit.exporters.markdown import fence
from leafkit.exporters.source import ExportSource
from leafkit.models.attention import is_made_bidirectional
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.text_encoder import TextEncoder

_QUESTION = "how do I invert a sparse matrix?"
NEEDS_IS_CAUSAL = (
    "The model is a decoder without its causal mask (`is_causal` in `config.json`), which "
    "transformers 5.4 or later is needed for: earlier ones, and text-embeddings-inference, put the "
    "mask back without a word and give other vectors."
)
ONNX_SUFFIX = "-onnx"  # of the repository that holds the graphs
# to OpenVINO: a CPU may compute in bf16 unless it is told not to
PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}


def student_tools(source: ExportSource) -> str:
    """Markdown: the student's folder in the tools that load sentence-transformers models."""
    this = source.repository or "FOLDER_OR_HUB_ID_OF_THIS_MODEL"
    other = f"{source.repository}{ONNX_SUFFIX}" if source.repository else ""
    parts = ["## In other tools", _about_prompt(source)]
    if source.encoder.prompt("query"):
        parts.append(
            "`encode` without a prompt's name embeds a query (`default_prompt_name`); documents "
            "that the student itself is to embed go through `encode_document`."
        )
    parts += _titled("sentence-transformers", _sentence_transformers(source, this), "python")
    parts += _titled("LangChain", _langchain(source, this), "python")
    parts += _titled("LlamaIndex", _llama_index(source, this), "python")
    if isinstance(source.encoder, TextEncoder):
        if is_made_bidirectional(source.encoder.backbone):
            parts.append(NEEDS_IS_CAUSAL)
        elif isinstance(source.encoder.projection, TwoLayerHead):
            parts.append(
                "text-embeddings-inference does not take this folder: the head has two layers with "
                "a GELU between them, which it does not know."
            )
        else:
            parts += _titled("text-embeddings-inference", _tei(source, this), "sh")
        parts += _titled("vLLM", _vllm(source, this), "sh")
        parts.append(
            "FastEmbed, transformers.js and ONNX Runtime open the graphs in "
            f"{other or 'the folder student-onnx'}, whose card says how."
        )
    return "\n\n".join(parts)


def graph_tools(source: ExportSource, *, has_tokens: bool, has_int8: bool) -> str:
    """Markdown: the folder of the graphs in the tools that run ONNX.

    Args:
        source: what is exported.
        has_tokens: the graph gives token vectors beside the finished one.
        has_int8: there is an int8 graph, which the code takes where a tool has a choice.
    """
    own = source.repository and f"{source.repository}{ONNX_SUFFIX}"
    this = own or "FOLDER_OR_HUB_ID_OF_THIS_MODEL"
    parts = ["## In other tools", _about_prompt(source)]
    parts += _titled("ONNX Runtime", _onnxruntime(source, has_int8), "python")
    parts += _titled("FastEmbed", _fastembed(source, this, has_tokens, has_int8), "python")
    js = _transformers_js(source, this, has_tokens, "q8" if has_int8 else "fp32")
    parts += _titled("transformers.js", js, "js")
    if has_tokens:
        parts += _titled("text-embeddings-inference", _tei(source, this), "sh")
    return "\n\n".join(parts)


def openvino_snippet(source: ExportSource) -> str:
    """Markdown: a query's vector with OpenVINO alone."""
    lines = [
        "import numpy as np",
        "import openvino",
        "from tokenizers import Tokenizer",
        "",
        "folder = 'FOLDER_OF_THIS_MODEL'",
        f"prompt = {source.encoder.prompt('query')!r}  # before every query",
        'tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")',
        f"tokenizer.enable_truncation({source.encoder.spec.max_tokens})",
        f"precise = {json.dumps(PRECISE)}  # a CPU may compute in bf16 without",
        'path = f"{folder}/openvino_model.xml"',
        'model = openvino.Core().compile_model(path, "CPU", precise)',
        f"ids = np.array([tokenizer.encode(prompt + {_QUESTION!r}).ids], dtype=np.int64)",
        'inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}',
        'vector = model(inputs)["sentence_embedding"][0]',
    ]
    return "\n\n".join(["## Use", _about_prompt(source), fence("\n".join(lines), "python")])


def _about_prompt(source: ExportSource) -> str:
    prompt = source.encoder.prompt("query")
    if not prompt:
        return "The model has no prompts: queries go in as they are."
    return (
        "Every query needs its prompt: without it the vectors lie elsewhere in the space. "
        "Documents are its teacher's."
    )


def _titled(title: str, code: str, language: str) -> Iterator[str]:
    yield f"### {title}"
    yield fence(code, language)


def _sentence_transformers(source: ExportSource, model: str) -> str:
    prompt = source.encoder.prompt("query")
    note = f"  # puts {prompt!r} before it" if prompt else ""
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({model!r})",
        f"vector = model.encode_query({_QUESTION!r}){note}",
    ]
    return "\n".join(lines)


def _langchain(source: ExportSource, model: str) -> str:
    prompt = source.encoder.prompt("query")
    given = f", encode_kwargs={{'prompt': {prompt!r}}}" if prompt else ""
    lines = [
        "from langchain_huggingface import HuggingFaceEmbeddings",
        "",
        f"queries = HuggingFaceEmbeddings(model_name={model!r}{given})",
        f"vector = queries.embed_query({_QUESTION!r})",
    ]
    return "\n".join(lines)


def _llama_index(source: ExportSource, model: str) -> str:
    prompt = source.encoder.prompt("query")
    lines = [
        "from llama_index.embeddings.huggingface import HuggingFaceEmbedding",
        "",
        "queries = HuggingFaceEmbedding(",
        f"    model_name={model!r}, query_instruction={prompt!r}, text_instruction=''",
        ")",
        f"vector = queries.get_query_embedding({_QUESTION!r})",
    ]
    return "\n".join(lines)


def _tei(source: ExportSource, model: str) -> str:
    default = " --default-prompt-name query" if source.encoder.prompt("query") else ""
    return f"text-embeddings-router --model-id {shlex.quote(model)}{default}"


def _vllm(source: ExportSource, model: str) -> str:
    asked = {"model": model, "input": source.encoder.prompt("query") + _QUESTION}
    body = shlex.quote(json.dumps(asked, ensure_ascii=False))
    lines = [
        f"vllm serve {shlex.quote(model)} --runner pooling",
        "curl http://127.0.0.1:8000/v1/embeddings -H 'Content-Type: application/json' \\",
        f"  -d {body}",
    ]
    return "\n".join(lines)


def _onnxruntime(source: ExportSource, has_int8: bool) -> str:
    graph = "model_quantized.onnx" if has_int8 else "model.onnx"
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "from tokenizers import Tokenizer",
        "",
        "folder = 'FOLDER_OF_THIS_MODEL'",
        f"prompt = {source.encoder.prompt('query')!r}  # before every query",
        'tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")',
        f"tokenizer.enable_truncation({source.encoder.spec.max_tokens})",
        f'session = onnxruntime.InferenceSession(f"{{folder}}/onnx/{graph}")',
        f"ids = np.array([tokenizer.encode(prompt + {_QUESTION!r}).ids], dtype=np.int64)",
        'inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}',
        'vector = session.run(["sentence_embedding"], inputs)[0][0]',
    ]
    return "\n".join(lines)


def _fastembed(source: ExportSource, model: str, has_tokens: bool, has_int8: bool) -> str:
    spec = source.encoder.spec
    pooling = "MEAN" if has_tokens else "DISABLED"
    other = "  # or onnx/model_quantized.onnx" if has_int8 else ""
    lines = [
        "from fastembed import TextEmbedding",
        "from fastembed.common.model_description import ModelSource, PoolingType",
        "",
        "TextEmbedding.add_custom_model(",
        f"    model={model!r},",
        f"    sources=ModelSource(hf={model!r}),",
        f"    pooling=PoolingType.{pooling},",
        f"    normalization={spec.normalized},",
        f"    dim={source.encoder.dim},",
        f'    model_file="onnx/model.onnx",{other}',
        ")",
        f"model = TextEmbedding({model!r})  # of a folder: specific_model_path=FOLDER",
        f"(vector,) = model.embed([{source.encoder.prompt('query') + _QUESTION!r}])",
    ]
    return "\n".join(lines)


def _transformers_js(source: ExportSource, model: str, has_tokens: bool, dtype: str) -> str:
    name = json.dumps(model, ensure_ascii=False)
    text = json.dumps(source.encoder.prompt("query") + _QUESTION, ensure_ascii=False)
    normalized = json.dumps(source.encoder.spec.normalized)
    if has_tokens:
        lines = [
            "import { pipeline } from '@huggingface/transformers';",
            "",
            f"const embed = await pipeline('feature-extraction', {name}, {{ dtype: '{dtype}' }});",
            f"const vector = await embed({text}, {{ pooling: 'mean', normalize: {normalized} }});",
        ]
    else:
        lines = [
            "import { AutoModel, AutoTokenizer } from '@huggingface/transformers';",
            "",
            f"const tokenizer = await AutoTokenizer.from_pretrained({name});",
            f"const model = await AutoModel.from_pretrained({name}, {{ dtype: '{dtype}' }});",
            f"const inputs = await tokenizer({text}, {{ truncation: true }});",
            "const { sentence_embedding } = await model(inputs);",
        ]
    return "\n".join(lines)
