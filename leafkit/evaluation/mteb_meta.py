"""What mteb wants to know of a model: its ModelMeta, with the data it was trained on as far as its
artifacts tell.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leafkit.config.renamed import with_new_names
from leafkit.core.artifact import fingerprint, read_manifest
from leafkit.core.builtin_models.table import BUILTIN_MODELS, is_builtin
from leafkit.core.checkpoint_layout import MANIFEST_FILE, MODEL_SPACE_FILE
from leafkit.core.errors import MissingExtra
from leafkit.embedders.protocol import Embedder
from leafkit.models.folder import read_space

# Folders of BEIR's own downloads, and the names of the same data among mteb's tasks.
BEIR_NAMES = {
    "arguana": "ArguAna",
    "climate-fever": "ClimateFEVER",
    "dbpedia-entity": "DBPedia",
    "fever": "FEVER",
    "fiqa": "FiQA2018",
    "hotpotqa": "HotpotQA",
    "msmarco": "MSMARCO",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "quora": "QuoraRetrieval",
    "scidocs": "SCIDOCS",
    "scifact": "SciFact",
    "trec-covid": "TRECCOVID",
    "webis-touche2020": "Touche2020",
}
_BYTES_PER_WEIGHT = 4  # float32, as folders hold them
_MIB = 1 << 20


@dataclass(slots=True)
class Training:
    """What a model learnt from.

    Attributes:
        sources: of texts, as recipes name them.
        starts: models it began as or learnt from that say nothing of their own data:
            built-in models, hub ids.
        unknown: what could not be followed further; with one entry the list of sources is not
            complete.
    """

    sources: set[str] = field(default_factory=set)
    starts: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


def trace_training(references: Sequence[str]) -> Training:
    """Follow models back through the manifests of their artifacts: to their start model, their
    teacher, earlier stages.

    Args:
        references: model:FOLDER, builtin:NAME, model:OWNER/NAME@REVISION, or anything else,
            which is unknown.

    Raises:
        LeafkitError: a manifest on the way is damaged.
    """
    training, pending, seen = Training(), list(references), set()
    while pending:
        reference = pending.pop()
        if reference in seen:
            continue
        seen.add(reference)
        kind, _, rest = reference.partition(":")
        folder = Path(rest)
        if is_builtin(reference):
            training.starts.add(BUILTIN_MODELS[reference].hub_id)
        elif kind == "model" and (folder / MANIFEST_FILE).is_file():
            pending += _trace_artifact(folder, training)
        elif kind == "model" and not folder.exists() and "/" in rest:
            training.starts.add(rest.partition("@")[0])
        elif kind != "tiny":  # tiny: is random weights
            training.unknown.add(reference)
    return training


def _trace_artifact(folder: Path, training: Training) -> list[str]:
    """Add the sources of one artifact; return the models it was made from."""
    manifest = read_manifest(folder)
    recipe = with_new_names(manifest.recipe)
    data = recipe.get("data", {})
    corpus = str(data.get("corpus", ""))
    if manifest.step == "student":
        training.sources |= {
            corpus,
            *(str(source["uri"]) for source in data.get("sources", {}).values()),
        }
        space = read_space(folder) if (folder / MODEL_SPACE_FILE).is_file() else {}
        return [
            str(recipe["student"]["init"]),
            str(space.get("teacher_reference") or f"the teacher of {folder}"),
        ]
    stage = recipe.get("stages", {}).get(manifest.step)
    if stage is None:
        training.unknown.add(str(folder))
        return []
    members = list(stage["soup"]["members"])
    if not members:
        training.sources |= {str(source["uri"]) for source in stage["sources"].values()} or {corpus}
    # their knowledge reaches the model too
    scorers = [m for m in stage["soft_labels"]["models"] if m not in {"rows", "bm25"}]
    parents = members or [str(stage["init"]), *scorers]
    return [
        f"model:{folder.parent / name.removeprefix('stage:')}"
        if name.startswith("stage:")
        else name
        for name in parents
    ]


def dataset_name(source: str) -> str:
    """A source under the name that mteb knows its data by, where there is one, else a short name of
    the source.

    >>> uris = ("mteb:SciFact@test", "beir:data/nfcorpus", "jsonl:rows.jsonl")
    >>> [dataset_name(uri) for uri in uris]
    ['SciFact', 'NFCorpus', 'rows']
    """
    kind, _, rest = source.partition(":")
    if kind == "mteb":
        return rest.partition("@")[0].partition(":")[0]
    if kind == "beir":
        return BEIR_NAMES.get(Path(rest).name.lower(), Path(rest).name)
    if kind == "jsonl":
        return Path(rest).stem
    return rest.rpartition("@")[0].partition(":")[0] if kind == "hf" else source


def disclosed_datasets(training: Training, registry: Any) -> set[str] | None:
    """mteb's ``training_datasets``: None where some of the data is not known, since mteb reads a
    set as complete.

    Args:
        training: of ``trace_training``.
        registry: the mteb package; it knows what the published start models were trained on.
    """
    names = {dataset_name(source) for source in training.sources if source}
    for start in training.starts:
        try:
            known = registry.get_model_meta(start).training_datasets
        except KeyError:
            return None
        if known is None:
            return None
        names |= set(known)
    return None if training.unknown else names


def describe(
    models: Sequence[Embedder], name: str, references: Sequence[str], max_tokens: int
) -> Any:
    """mteb's ModelMeta of one model or of a pair.

    Weights and memory of a pair are those of both. License, release date and languages are for the
    owner to say.

    Args:
        models: the encoder, or student and teacher.
        name: of the whole; gets the organisation "leafkit" where it has none.
        references: where the models came from; with none, their training data is unknown.
        max_tokens: at which documents are cut; a model's own limit may be lower.

    Raises:
        MissingExtra: mteb is not installed.
        LeafkitError: a manifest of the models is damaged.
    """
    try:
        mteb, metas = (
            importlib.import_module("mteb"),
            importlib.import_module("mteb.models.model_meta"),
        )
    except ImportError as err:
        raise MissingExtra("mteb", "bench", "running mteb") from err
    training = trace_training(references) if references else Training(unknown={"no reference"})
    encoders = [model.encoder for model in models if model.encoder is not None]
    at_hand = len(encoders) == len(models)
    num_parameters = sum(encoder.num_parameters() for encoder in encoders)
    num_embedding = sum(encoder.num_embedding_parameters() for encoder in encoders)
    fingerprints = [model.fingerprint for model in models]
    similarities = {model.space("query", max_tokens).similarity for model in models}
    dims = models[0].mrl_dims
    return metas.ModelMeta(
        loader=None,
        name=name if "/" in name else f"leafkit/{name}",
        revision=fingerprints[0] if len(models) == 1 else fingerprint(fingerprints),
        release_date=None,
        languages=None,
        n_parameters=num_parameters if at_hand else None,
        n_embedding_parameters=num_embedding if at_hand else None,
        memory_usage_mb=round(num_parameters * _BYTES_PER_WEIGHT / _MIB, 1) if at_hand else None,
        max_tokens=models[-1].space("document", max_tokens).max_tokens,
        embed_dim=list(dims) if models[0].dim in dims else models[0].dim,
        license=None,
        open_weights=True if at_hand else None,
        public_training_code=None,
        public_training_data=None,
        framework=["Sentence Transformers", "PyTorch"] if at_hand else [],
        similarity_fn_name="dot" if "dot" in similarities else "cosine",
        use_instructions=any(
            model.prompt(role) for model in models for role in ("query", "document")
        ),
        training_datasets=disclosed_datasets(training, mteb),
        adapted_from=next(iter(sorted(training.starts)), None),
        model_type=["dense"] if len(models) == 1 else ["router"],
        modalities=["text"],
    )
