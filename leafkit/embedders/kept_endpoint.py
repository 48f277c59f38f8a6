"""Where a teacher behind an endpoint is asked, as it is written down beside its student: what opens
the teacher again has no recipe, and the space of an endpoint has its host and dimensions in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from leafkit.config import EmbeddingsConfig, EndpointConfig, Recipe
from leafkit.config.validate import find_problems
from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError
from leafkit.core.hosts import host_of
from leafkit.core.openai_client import base_url_of, check_consent, shown_url
from leafkit.embedders.openai_api import SECTION, OpenAIEmbedder
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.protocol import Embedder

ENDPOINT_KEY = "teacher_endpoint"  # of leafkit.json


@dataclass(frozen=True, slots=True)
class KeptEndpoint:
    """How an endpoint is reached; no key, and nothing of its address that may be secret.

    Attributes:
        base_url: without user, password and query.
        dimensions: asked of it; 0 takes what it gives.
        api_key_env: environment variable that holds the key.
    """

    base_url: str
    dimensions: int
    api_key_env: str

    def settings(self) -> EmbeddingsConfig:
        """How it is asked again; where OPENAI_BASE_URL is this address with what may be secret in
        it, as OPENAI_BASE_URL says.
        """
        own = os.environ.get("OPENAI_BASE_URL", "").strip()
        is_own = host_of(own) == host_of(self.base_url) and shown_url(own) == self.base_url
        url = "" if is_own else self.base_url
        endpoint = EndpointConfig(base_url=url, api_key_env=self.api_key_env)
        return EmbeddingsConfig(endpoint=endpoint, dimensions=self.dimensions)

    def check_consent(self, allowed: Collection[str]) -> None:
        """Refuse an endpoint that nobody but the pair's files named: they may be somebody else's.

        Args:
            allowed: hosts that the user lets texts be sent to.

        Raises:
            UsageError: its host is not among them, nor this machine, OpenAI's or that of
                OPENAI_BASE_URL.
        """
        file = f"its {MODEL_SPACE_FILE}"
        check_consent(self, allowed, ENDPOINT_KEY, who="the pair", file=file)


def keep_endpoint(model: Embedder) -> KeptEndpoint | None:
    """What is written down of a model behind an endpoint; None for others."""
    if isinstance(model, PrefixEmbedder):
        return keep_endpoint(model.whole)
    if not isinstance(model, OpenAIEmbedder):
        return None
    config = model.config
    shown = shown_url(base_url_of(config.endpoint, SECTION))
    return KeptEndpoint(shown, config.dimensions, config.endpoint.api_key_env)


def read_endpoint(space: Mapping[str, Any]) -> KeptEndpoint | None:
    """What leafkit.json says of its teacher's endpoint; None for other teachers, and in files of an
    earlier leafkit.

    Raises:
        LeafkitError: it says what no recipe may say.
    """
    found = space.get(ENDPOINT_KEY)
    if found is None:
        return None
    hint = "distil again, or save the pair again"
    types = {"base_url": str, "dimensions": int, "api_key_env": str}
    if not isinstance(found, dict) or {key: type(one) for key, one in found.items()} != types:
        raise LeafkitError(
            f"{MODEL_SPACE_FILE}: {ENDPOINT_KEY} is not {', '.join(types)} alone", hint
        )
    kept = KeptEndpoint(**found)
    endpoint = EndpointConfig(base_url=kept.base_url, api_key_env=kept.api_key_env)
    asked = Recipe(embeddings=EmbeddingsConfig(endpoint=endpoint, dimensions=kept.dimensions))
    wrong = [what for key, what in find_problems(asked) if key.startswith("embeddings.")]
    if wrong or not host_of(kept.base_url):
        raise LeafkitError(
            f"{MODEL_SPACE_FILE}: {ENDPOINT_KEY}: {wrong[0] if wrong else 'has no address'}", hint
        )
    base_url_of(endpoint, ENDPOINT_KEY)
    return kept
