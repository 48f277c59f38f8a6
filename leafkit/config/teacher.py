"""Where the document vectors come from."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.endpoint import EndpointConfig
from leafkit.config.fields import choice, flag, number, numbers, section, text, texts
from leafkit.core.addresses.store import PRECISIONS_OF_STORES

BLACK_BOXES = ("endpoint:", "vectors:")  # teachers whose Matryoshka dimensions a recipe names


@dataclass(frozen=True)
class TeacherConfig:
    """The model that embeds the documents."""

    source: str = text(
        "",
        "recipe:NAME, builtin:mpnet, builtin:minilm, model:FOLDER_OR_HUB_ID@REVISION, "
        "vectors:FOLDER or endpoint:MODEL.",
    )
    overrides: list[str] = texts(
        [],
        "key=value for the recipe that recipe:NAME names; the command line adds its own data.*, "
        "stages.*, trainer.* and seed.",
    )
    revision: str = text(
        "",
        "40-hex commit of a hub model; needed for hub ids, so that the space cannot change.",
    )
    trust_remote_code: bool = flag(
        False,
        "Run code that comes with the model's folder; a hub model needs a pinned revision. A "
        "recipe file cannot say so: give it on the command line.",
        is_consent=True,
    )
    query_prompt: str = text(
        "",
        "Put before queries, for endpoints and for models whose files name no prompt (e5, bge); "
        "those that leafkit trained know their own.",
    )
    document_prompt: str = text("", "Likewise before documents.")
    mrl_dims: list[int] = numbers(
        [], "Matryoshka dimensions of vectors: and endpoint: teachers.", low=1, high=1_000_000
    )


@dataclass(frozen=True)
class EmbeddingsConfig:
    """How endpoint:MODEL is asked for vectors."""

    endpoint: EndpointConfig = section(EndpointConfig, "Any OpenAI-compatible embeddings endpoint.")
    dimensions: int = number(
        0, "Asked of the endpoint; 0 takes what it gives.", low=0, high=1_000_000
    )
    texts_per_request: int = number(64, "Texts in one request.", above=0, high=100_000)


@dataclass(frozen=True)
class EmbedConfig:
    """Who computes the vectors of a model that is loaded here."""

    engine: str = choice(
        "local",
        "local: the processes of this launch. ray: workers of a Ray cluster, which may come and "
        "go; one is started on this machine where there is none.",
        ("local", "ray"),
    )
    num_workers: int = number(
        0,
        "Of ray, at most; 0 takes one for each GPU of the cluster, or for each core where the "
        "device is the CPU.",
        low=0,
        high=100_000,
    )
    to: str = text(
        "",
        "A store that gets the documents with their vectors: parquet:FOLDER, lance:FOLDER/TABLE, "
        "qdrant:URL/COLLECTION, pgvector:postgresql://HOST/DATABASE/TABLE or opensearch:URL/INDEX. "
        "A recipe file cannot name one: give it on the command line.",
        is_consent=True,
    )
    to_precision: str = choice(
        "float32",
        "Of the vectors there; float16 is what the index holds, and loses nothing. int8 and binary "
        "where the store has them.",
        PRECISIONS_OF_STORES["parquet"],  # which has all
    )
