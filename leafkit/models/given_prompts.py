"""Prompts that a user gives to a model whose files have none, as those of e5 and bge do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from leafkit.core.artifact import fingerprint
from leafkit.core.console import warn
from leafkit.core.errors import UsageError
from leafkit.models.text_encoder import TextEncoder


def give_prompts(
    encoder: TextEncoder, prompts: Mapping[str, str], what: str, *, is_own: bool
) -> TextEncoder:
    """The encoder with these prompts; its fingerprint is another one then.

    A user's word counts more than that of files, which is said; a model that was trained here knows
    its prompts for sure.

    Args:
        encoder: as its files describe it.
        prompts: by role; a role without one keeps its own.
        what: names the model.
        is_own: it was trained by leafkit.

    Raises:
        UsageError: it was trained with other prompts.
    """
    new = {role: text for role, text in prompts.items() if text and encoder.prompt(role) != text}
    if not new:
        return encoder
    for role, text in new.items():
        if is_own:
            raise UsageError(
                f"teacher.{role}_prompt={text!r}: {what} was trained with "
                f"{encoder.prompt(role)!r} before each {role}",
                "leave the key out: models that leafkit trained know their prompts",
            )
        if encoder.prompt(role):
            warn(
                f"{what}: each {role} gets the prompt {text!r} that was given, not "
                f"{encoder.prompt(role)!r} of the model's own files"
            )
    changed = TextEncoder(
        encoder.backbone,
        encoder.tokenizer,
        replace(encoder.spec, prompts=encoder.spec.prompts | new),
        encoder.projection,
        **encoder.beside,
        fingerprint=fingerprint([encoder.fingerprint, sorted(new.items())]),
    )
    return changed.train(encoder.training)
