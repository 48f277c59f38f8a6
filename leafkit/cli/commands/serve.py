"""``leafkit serve``: a finished pair over HTTP."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from leafkit.core.errors import UsageError

_OPTIONS = ("port", "host", "api_key_env", "name", "index")
_EXAMPLE = "leafkit serve checkpoints/kalm-to-23m port=8080"


def run(words: Sequence[str]) -> int:
    """Answer requests until the process is told to stop."""
    folder, options = _read_words(words)
    port = options.get("port", "8080")
    if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UsageError(
            f"port={port[:40]} is no port", "one from 1 to 65535, or 0 for any free one"
        )
    variable = options.get("api_key_env", "")
    api_key = os.environ.get(variable, "") if variable else ""
    if variable and not api_key:
        raise UsageError(
            f"api_key_env={variable}: that environment variable is empty or not set",
            f"export {variable}=...",
        )
    from leafkit.pipeline.load_pair import load_pair
    from leafkit.server.serve import serve

    # a folder may have characters that a model's name may not
    own_name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("._-") or "leafkit"
    serve(
        load_pair(folder, index=options.get("index", "flat")),
        int(port),
        options.get("host", "127.0.0.1"),
        api_key=api_key,
        name=options.get("name", own_name),
    )
    return 0


def _read_words(words: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The folder, and the options by name."""
    folders, options = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and re.fullmatch(r"[a-z_]+", key) and not Path(word).exists():
            if key not in _OPTIONS:
                near = difflib.get_close_matches(key, _OPTIONS, n=1)
                raise UsageError(
                    f"serve has no option {key!r}",
                    f"did you mean {near[0]}=?" if near else f"options: {', '.join(_OPTIONS)}",
                )
            options[key] = value
        else:
            folders.append(word)
    if len(folders) != 1:
        raise UsageError("serve takes the folder of one finished run", _EXAMPLE)
    return Path(folders[0]), options
