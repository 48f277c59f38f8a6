"""Rules between the keys of one training stage, each in the user's words."""

from __future__ import annotations

import re

from leafkit.config.contrastive_loss import ContrastiveLossConfig
from leafkit.config.stage import LABEL_TASKS, MiningConfig, SoupConfig, StageConfig
from leafkit.core.builtin_models.table import BUILTIN_NAMES, is_builtin

Problem = tuple[str, str]  # a key, and what is wrong with its value
FOLDER_NAME = r"[A-Za-z0-9][\w.-]*"
_ROLES = ("query", "document", "prompted")  # a model's prompts stand under roles and sources


def broken_stage_rules(path: str, stage: StageConfig, earlier: list[str]) -> list[Problem]:
    """Every broken rule of the stage at ``path``, which comes after the stages ``earlier``."""
    problems = _check_model(f"{path}.init", stage.init, earlier)
    problems += _check_prompts(path, stage)
    problems += _check_matryoshka(f"{path}.loss", stage.loss)
    if stage.lora.rank and stage.hidden_size:
        problems.append(
            (
                f"{path}.lora.rank",
                "a model that grows trains all its weights: set hidden_size or lora.rank to 0",
            )
        )
    problems += _check_sources(path, stage)
    problems += _check_mining(f"{path}.mining", stage.mining, earlier)
    problems += _check_signals(path, stage, earlier)
    problems += _check_soup(f"{path}.soup", stage.soup, earlier)
    return problems


def _check_model(
    key: str, reference: str, earlier: list[str], words: tuple[str, ...] = ()
) -> list[Problem]:
    """A reference to a model: a built-in one, an earlier stage, a folder or hub id, or one of
    ``words``.
    """
    kind, _, rest = reference.partition(":")
    if reference in words or is_builtin(reference) or (kind in {"model", "tiny"} and rest):
        return []
    if kind == "stage" and rest in earlier:
        return []
    if kind == "stage":
        known = ", ".join(earlier) or "none"
        return [(key, f"{reference!r} names no earlier stage (earlier stages: {known})")]
    allowed = ", ".join([*words, BUILTIN_NAMES, "stage:NAME"])
    return [(key, f"{reference!r} is not {allowed} or model:FOLDER_OR_HUB_ID@REVISION")]


def _check_prompts(path: str, stage: StageConfig) -> list[Problem]:
    templates = {f"{path}.query_template": stage.query_template}
    if stage.soft_labels.query_template:
        templates[f"{path}.soft_labels.query_template"] = stage.soft_labels.query_template
    problems = [
        (key, "does not end with {query}: a prompt is put before the text")
        for key, template in templates.items()
        if not template.endswith("{query}")
    ]
    if stage.num_examples and not {"{query}", "{document}"} <= set(
        re.findall(r"{\w+}", stage.example_template)
    ):
        problems.append((f"{path}.example_template", "shows no {query} with its {document}"))
    return problems


def _check_matryoshka(path: str, loss: ContrastiveLossConfig) -> list[Problem]:
    if len(loss.mrl_dims) == len(loss.mrl_weights):
        return []
    counts = f"{len(loss.mrl_weights)} weights for {len(loss.mrl_dims)} dimensions in mrl_dims"
    return [(f"{path}.mrl_weights", counts)]


def _check_sources(path: str, stage: StageConfig) -> list[Problem]:
    problems = []
    for name, source in stage.sources.items():
        key = f"{path}.sources.{name}"
        if not re.fullmatch(FOLDER_NAME, name) or name in _ROLES:
            taken = ", ".join(_ROLES)
            problems.append((key, f"{name!r} cannot name a source ({taken} are taken)"))
        if not source.uri:
            problems.append((f"{key}.uri", "is missing"))
        if source.task in LABEL_TASKS and source.in_batch == "use":
            problems.append(
                (
                    f"{key}.in_batch",
                    "rows of the same label are false negatives: auto or none",
                )
            )
        if source.task in LABEL_TASKS and not stage.mining.num_negatives:
            problems.append(
                (
                    f"{path}.mining.num_negatives",
                    f"0 leaves {name} no negative: rows of labels take none in-batch",
                )
            )
    if stage.sources and not any(source.weight > 0 for source in stage.sources.values()):
        problems.append((f"{path}.sources", "every source has weight 0"))
    return problems


def _check_mining(path: str, mining: MiningConfig, earlier: list[str]) -> list[Problem]:
    problems = []
    if mining.model:
        problems += _check_model(f"{path}.model", mining.model, earlier, ("start",))
    window = mining.last_rank - mining.first_rank
    if window <= 0:
        problems.append(
            (f"{path}.last_rank", f"{mining.last_rank} is not above first_rank={mining.first_rank}")
        )
    elif window < mining.num_negatives:
        problems.append(
            (
                f"{path}.num_negatives",
                f"{mining.num_negatives} do not fit into a window of {window} ranks",
            )
        )
    if max(mining.num_negatives, mining.filter_rank) > 0 and not mining.model:
        problems.append(
            (
                f"{path}.model",
                "is missing: num_negatives and filter_rank need a model that searches",
            )
        )
    if mining.model and not (mining.num_negatives or mining.filter_rank):
        problems.append((f"{path}.model", "searches for nothing: set num_negatives or filter_rank"))
    return problems


def _check_signals(path: str, stage: StageConfig, earlier: list[str]) -> list[Problem]:
    """Synthetic negatives and soft labels, both made of a row's candidates."""
    problems = []
    # a source's rows may bring their own
    has_negatives = bool(stage.mining.num_negatives or stage.sources)
    for key, count in (
        ("num_pairwise", stage.mixing.num_pairwise),
        ("num_listwise", stage.mixing.num_listwise),
    ):
        if count > 0 and not has_negatives:
            problems.append(
                (f"{path}.mixing.{key}", "there is nothing to mix: mining.num_negatives is 0")
            )
    models, key = stage.soft_labels.models, f"{path}.soft_labels.models"
    for reference in models:
        problems += _check_model(key, reference, earlier, ("rows", "bm25"))
    if models and not has_negatives:
        problems.append((key, "there are no candidates to score: mining.num_negatives is 0"))
    if "rows" in models and len(models) > 1:
        problems.append((key, "rows bring their own scores: no other model beside them"))
    if stage.loss.contrastive_weight == 0 and not models:
        problems.append(
            (
                f"{path}.loss.contrastive_weight",
                "0 leaves nothing to train on: soft_labels.models is empty",
            )
        )
    return problems


def _check_soup(path: str, soup: SoupConfig, earlier: list[str]) -> list[Problem]:
    problems = []
    for reference in soup.members:
        problems += _check_model(f"{path}.members", reference, earlier)
    if soup.members and len(soup.members) < 2:
        problems.append((f"{path}.members", "an average needs at least two members"))
    if soup.weights and len(soup.weights) != len(soup.members):
        problems.append(
            (f"{path}.weights", f"{len(soup.weights)} weights for {len(soup.members)} members")
        )
    is_in_range = all(0 <= weight <= 1 for weight in soup.weights)
    if soup.weights and is_in_range and abs(sum(soup.weights) - 1) > 1e-6:
        problems.append((f"{path}.weights", f"{soup.weights} are not shares that sum to 1"))
    return problems
