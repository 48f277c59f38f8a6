"""Room for a text behind its prompt: a prompt as long as the limit would give all texts one
vector.
"""

from __future__ import annotations

from leafkit.core.console import warn
from leafkit.core.errors import UsageError

LITTLE = 8  # tokens of a text; fewer say hardly what it is about


def check_room(role: str, prompt: str, *, prompt_tokens: int, limit: int) -> None:
    """Refuse a limit that the prompt fills, and warn where it leaves very little.

    Args:
        role: of the texts.
        prompt: put before each of them.
        prompt_tokens: of it, with the special tokens around a text.
        limit: tokens of an input, all of these included.

    Raises:
        UsageError: no token of a text is left.
    """
    left = limit - prompt_tokens
    if left >= LITTLE:
        return
    key = "max_document_tokens" if role == "document" else "max_query_tokens"
    shown = repr(prompt[:60] + ("..." if len(prompt) > 60 else ""))
    what = f"the prompt {shown} and special tokens" if prompt else "special tokens"
    if left < 1:
        raise UsageError(
            f"{key}: {what} take {prompt_tokens} of the {limit} tokens that a {role or 'text'} may "
            "have: nothing of the text is left, and all texts would have one vector",
            f"raise data.{key} (bench.max_document_tokens for collections beside the corpus; 0 "
            "takes the model's own limit), or take a shorter prompt",
        )
    warn(
        f"{key}: {what} take {prompt_tokens} of {limit} tokens, so {left} "
        f"{'is' if left == 1 else 'are'} left of each {role or 'text'}"
    )
