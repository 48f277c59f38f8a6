"""``leafkit completion``: the script that completes commands, recipes and keys in a shell."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from leafkit.cli.completion import SHELLS, completion_script
from leafkit.core.errors import UsageError

_HOW = "source <(leafkit completion bash); zsh likewise; leafkit completion fish | source"


def run(words: Sequence[str]) -> int:
    """Print the script of one shell.

    Raises:
        UsageError: no shell is named, or one that has none.
    """
    if len(words) != 1 or words[0] not in SHELLS:
        raise UsageError(f"completion takes a shell: {', '.join(SHELLS)}", _HOW)
    sys.stdout.write(completion_script(words[0]))
    return 0
