"""Models that a stage names: its start model, earlier stages of the recipe, folders and hub ids."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.core.artifact import open_artifact, read_manifest
from leafkit.models.checkpoint import identify_model, load_encoder, read_encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.run import Run, folder_name

START = "start"


@dataclass(frozen=True, slots=True)
class Named:
    """A model under the name that folders and messages use, with what decides about its weights."""

    name: str
    identity: str
    encoder: TextEncoder


def identify(run: Run, reference: str, start: str) -> str:
    """What decides about a model's weights, without loading it; ``start`` is what the stage's
    ``init`` says.
    """
    reference = start if reference == START else reference
    if reference.startswith("stage:"):
        return read_manifest(run.folder / reference.removeprefix("stage:")).fingerprint()
    return identify_model(reference)


def load_named(run: Run, reference: str, start: str) -> Named:
    """The model a stage names: start, stage:NAME of this recipe, builtin:minilm or
    model:FOLDER_OR_HUB_ID@REVISION.

    Raises:
        LeafkitError: it is not there, or damaged.
    """
    reference = start if reference == START else reference
    identity = identify(run, reference, start)
    if reference.startswith("stage:"):
        name = reference.removeprefix("stage:")
        open_artifact(run.folder / name, name)
        return Named(f"{run.recipe.name}-{name}", identity, read_encoder(run.folder / name))
    return Named(
        folder_name(reference.rpartition("@")[0] or reference), identity, load_encoder(reference)
    )
