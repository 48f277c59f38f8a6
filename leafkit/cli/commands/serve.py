"""``leafkit serve``: a finished pair over HTTP."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from leafkit.core.errors import UsageError
from leafkit.server.settings import ServerSettings, check_settings

_EXAMPLE = "leafkit serve checkpoints/kalm-to-23m port=8080"
# a key in an argument is seen by everyone on the machine
_DEFAULTS: dict[str, Any] = {
    f.name: f.default for f in dataclasses.fields(ServerSettings) if f.name != "api_key"
}
_TYPES = get_type_hints(ServerSettings)
OPTIONS = ("port", "host", *_DEFAULTS)


def run(words: Sequence[str]) -> int:
    """Answer requests until the process is told to stop."""
    folder, options = _read_words(words)
    port = options.pop("port", "8080")
    if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UsageError(
            f"port={port[:40]} is no port", "one from 1 to 65535, or 0 for any free one"
        )
    host = options.pop("host", "127.0.0.1")
    # a folder may have characters that a model's name may not
    own_name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("._-") or "leafkit"
    settings: Any = {"name": own_name[:100]}
    settings |= {key: _read_value(key, value) for key, value in options.items()}
    # before anything heavy is imported; the key that it has read is the one that is served with
    checked = check_settings(ServerSettings(**settings))
    from leafkit.server.serve import serve

    found: Any = dataclasses.asdict(checked)
    serve(folder, int(port), host, **found)
    return 0


def _read_value(key: str, value: str) -> str | float | bool | tuple[str, ...]:
    """A word as its setting's type."""
    kind = _TYPES[key]
    if kind is bool:
        if value not in ("true", "false"):
            raise UsageError(f"{key}={value[:40]} is neither true nor false", f"{key}=true")
        return value == "true"
    if kind == float | None:
        if not re.fullmatch(r"[0-9]{0,3}(\.[0-9]{1,9})?", value) or not value:
            raise UsageError(f"{key}={value[:40]} is not a number", f"{key}=.99")
        return float(value)
    if key == "allow_hosts":
        return tuple(value.removeprefix("[").removesuffix("]").split(","))
    if kind is int:
        if not re.fullmatch(r"[0-9]{1,12}", value):
            raise UsageError(f"{key}={value[:40]} is not a whole number", f"{key}={_DEFAULTS[key]}")
        return int(value)
    if key in ("api_key_env", "api_key_file") and not value:
        # a variable of the shell that is not set must not open the server to everyone
        raise UsageError(f"{key}= names nothing, and no key would be asked for", "leave it out")
    return value


def _read_words(words: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The folder, and the options by name."""
    folders, options = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and re.fullmatch(r"[a-z_]+", key) and not Path(word).exists():
            if key not in OPTIONS:
                near = difflib.get_close_matches(key, OPTIONS, n=1)
                raise UsageError(
                    f"serve has no option {key!r}",
                    f"did you mean {near[0]}=?" if near else f"options: {', '.join(OPTIONS)}",
                )
            options[key] = value
        else:
            folders.append(word)
    if len(folders) != 1:
        raise UsageError("serve takes the folder of one finished run", _EXAMPLE)
    return Path(folders[0]), options
