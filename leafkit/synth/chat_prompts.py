"""What the chat model is told: six task types, instructions with a persona, rows without.

The taxonomy is that of E5-mistral (arXiv 2401.00368): asymmetric tasks by the lengths of their
two sides, and the symmetric ones. The persona as system prompt of the first step, and its absence
in the second, is KaLM-Embedding's (arXiv 2501.01028). KaLM's prompts are not published, so the
words below are our own.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict, dataclass

from leafkit.config import INSTRUCTIONS
from leafkit.core.artifact import fingerprint

PROMPT_VERSION = "1"
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese (simplified)", "fr": "French", "pl": "Polish"}
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Length:
    """How long a text is: in the prompt's words, and the characters that an answer may have."""

    words: str
    min_chars: int
    max_chars: int
    typical_chars: int


_LABEL = Length("a label of 1 to 6 words", 1, 80, 20)
_SHORT = Length("at most 20 words", 2, 300, 60)
_SENTENCE = Length("one or two sentences of 8 to 40 words", 12, 500, 130)
_LONG = Length("a text of 100 to 250 words", 200, 6000, 1200)
INSTRUCTION_LENGTH = Length("one sentence of at most 30 words", 15, 400, 130)
HAN_SHARE = 0.3  # a Chinese text says the same in about this share of the characters


@dataclass(frozen=True, slots=True)
class TaskType:
    """One of the six kinds of rows.

    Attributes:
        name: as in synth.tasks.
        task: what a positive means, as in a stage's sources.
        query: length of the query side.
        document: length of positives and negatives.
        brainstorm: what the persona is asked to think of; "" where the instruction is fixed.
        instruction: the fixed instruction; "" where a persona writes it.
        positive: what the positive is to the query.
        negative: what a hard negative is.
    """

    name: str
    task: str
    query: Length
    document: Length
    brainstorm: str
    instruction: str
    positive: str
    negative: str


TASK_TYPES = {
    t.name: t
    for t in (
        TaskType(
            name="short_long",
            task="retrieval",
            query=_SHORT,
            document=_LONG,
            brainstorm="a search task: somebody types a short query and needs long texts that "
            "answer it "
            "(manuals, reports, articles,"
            " laws, reviews, lessons ...)",
            instruction="",
            positive="answers the query completely and says things the query does not",
            negative="is about the same subject and shares words with the query, but does not "
            "answer it",
        ),
        TaskType(
            name="long_short",
            task="classification",
            query=_LONG,
            document=_LABEL,
            brainstorm="a classification task: long texts (letters, notes, complaints, minutes, "
            "case "
            "descriptions ...) are sorted under"
            " short labels",
            instruction="",
            positive="is the one right label for the text",
            negative="is a label of the same scheme that a careless reader could choose, but it "
            "is wrong "
            "for the text",
        ),
        TaskType(
            name="short_short",
            task="retrieval",
            query=_SHORT,
            document=_SHORT,
            brainstorm="a matching task: for a short text another short text is wanted (a "
            "question and an "
            "entry of a list, a symptom and"
            " its name, a slogan and a product ...)",
            instruction="",
            positive="is the match that the task asks for",
            negative="looks like a match because it shares words or the subject, but is none",
        ),
        TaskType(
            name="long_long",
            task="retrieval",
            query=_LONG,
            document=_LONG,
            brainstorm="a matching task: for a long text another long text is wanted (an "
            "application and a "
            "vacancy, a judgment and a"
            " precedent, a report and its follow-up ...)",
            instruction="",
            positive="is the match that the task asks for, without copying sentences",
            negative="is about the same subject and shares words with the query, but is not "
            "what the task "
            "asks for",
        ),
        TaskType(
            name="sts",
            task="sts",
            query=_SENTENCE,
            document=_SENTENCE,
            brainstorm="",
            instruction=INSTRUCTIONS["sts"],
            positive="means the same as the query in other words",
            negative="shares most words with the query but means something clearly different",
        ),
        TaskType(
            name="bitext",
            task="bitext",
            query=_SENTENCE,
            document=_SENTENCE,
            brainstorm="",
            instruction=INSTRUCTIONS["bitext"],
            positive="is a faithful, idiomatic translation of the query",
            negative="is a translation with one decisive mistake: another number, time, person, "
            "place or "
            "a lost negation",
        ),
    )
}

_STYLES = (
    "a question as one asks a colleague",
    "a few key words as one types them into a search field",
    "a plain statement of what is needed",
    "the exact terms of the trade",
    "everyday words of somebody who is no expert",
)
_READERS = (
    "a child of twelve",
    "an interested layman",
    "a student",
    "somebody who does this every day",
    "a specialist",
)
_ANGLES = (
    "a typical case",
    "a rare case",
    "a case with numbers or dates in it",
    "a case that involves two people",
    "an urgent case",
    "a case where something went wrong",
    "a case of long ago",
    "a case that compares two things",
)


def hash_prompts() -> str:
    """Identity of every text in this module that reaches the chat model."""
    texts = [
        PROMPT_VERSION,
        [asdict(t) for t in TASK_TYPES.values()],
        asdict(INSTRUCTION_LENGTH),
        _STYLES,
        _READERS,
        _ANGLES,
    ]
    probe = instruction_messages(TASK_TYPES["sts"], "p")
    return fingerprint(
        [
            texts,
            probe,
            row_messages(TASK_TYPES["sts"], "i", ("en", "fr"), 1, key="k", number=0, persona="p"),
        ]
    )


def instruction_messages(task: TaskType, persona: str) -> Messages:
    """Step 1: the persona as system prompt; an instruction is wanted.

    The instruction is English whatever the persona speaks: KaLM's and E5's are, and one model
    serves all languages.
    """
    wanted = (
        f"Think of {task.brainstorm}. Choose one concrete task that you would need at work or in "
        f"private life, and that not"
        f" everybody would think of. Describe it as an instruction in English: "
        f"{INSTRUCTION_LENGTH.words}, beginning with a"
        " verb, which says what is given and what is to be found. Do not speak of yourself, and "
        "give no example.\n"
        'Answer with a JSON object and nothing else: {"instruction": "..."}'
    )
    return [*_system(persona), {"role": "user", "content": wanted}]


def row_messages(
    task: TaskType,
    instruction: str,
    languages: tuple[str, str],
    num_negatives: int,
    *,
    key: str,
    number: int,
    persona: str = "",
) -> Messages:
    """Step 2: the instruction alone; a query, its positive and hard negatives are wanted.

    Args:
        task: kind of the row.
        instruction: what the row is an example of.
        languages: of the query and of the documents.
        num_negatives: hard negatives wanted.
        key: of the slot; decides in which order variations are asked for.
        number: of the row within the slot; rows have different prompts until the variations are
            used up.
        persona: system prompt of the tasks whose instruction is fixed; "" for none.
    """
    manners = (
        [f"written as {s}" for s in _STYLES]
        if task.query is _SHORT
        else [f"for {r}" for r in _READERS]
    )
    variations = list(itertools.product(manners, _ANGLES))
    random.Random(key).shuffle(variations)
    manner, angle = variations[number % len(variations)]
    query_language, document_language = (LANGUAGE_NAMES[code] for code in languages)
    shape: dict[str, object] = {"query": "...", "positive": "..."}
    lines = [
        "Write one example for the training of a text embedding model.",
        f"Task: {instruction}",
        f"Choose {angle}.",
        f'"query": {task.query.words}, in {query_language}, {manner}.',
        f'"positive": {task.document.words}, in {document_language}; it {task.positive}.',
    ]
    if num_negatives:
        shape["negatives"] = ["..."] * num_negatives
        lines.append(
            f'"negatives": exactly {num_negatives}, each {task.document.words}, in '
            f"{document_language}; each {task.negative}."
        )
    lines.append(
        "Every text stands on its own: no title, no placeholder, no mention of this task or of "
        "the other texts."
    )
    lines.append(f"Answer with a JSON object and nothing else: {json.dumps(shape)}")
    return [*_system(persona), {"role": "user", "content": "\n".join(lines)}]


def _system(persona: str) -> Messages:
    return [{"role": "system", "content": f"You are this person: {persona}"}] if persona else []
