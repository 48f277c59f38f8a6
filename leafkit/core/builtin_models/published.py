"""Sizes of models on the hub that leafkit's recipes name, for where the hub is not at hand.

Fields of their config.json; what is not said has the default of transformers for the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Published:
    """A model whose vectors are its pooled hidden states.

    Attributes:
        architecture: transformers' name of it (model_type).
        fields: of its config.
    """

    architecture: str
    fields: Mapping[str, int] = field(default_factory=dict)


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "Snowflake/snowflake-arctic-embed-m-v1.5": Published("bert"),
        "mixedbread-ai/mxbai-embed-large-v1": Published(
            "bert",
            {
                "hidden_size": 1024,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "intermediate_size": 4096,
            },
        ),
        "nreimers/MiniLM-L6-H384-uncased": Published(
            "bert", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
        ),
    }
)
