"""``leafkit export``: the student, and its teacher, for other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.config.effects import key_of
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.exporters.license_text import check_license
from leafkit.exporters.push import check_repository, check_uploads
from leafkit.exporters.target_names import check_targets

OPTIONS = ("to", "push", "yes", "private", "license", "web_runtime")


def run(words: Sequence[str]) -> int:
    """Write what is asked for and say where it is."""
    options, rest = _read_options(words)
    if options:
        return _write_folders(options, rest)
    recipe = read_recipe("export", rest)
    from leafkit.exporters.snippet import graph_snippet
    from leafkit.pipeline.export import run_export
    from leafkit.pipeline.run import open_run

    with open_run(recipe) as run:
        folder = run_export(run)
        log(f"graphs: {folder}; a query's vector without leafkit:\n\n{graph_snippet(folder)}\n")
    return 0


def _write_folders(options: Mapping[str, str], rest: Sequence[str]) -> int:
    """Folders for other tools; on their way to the hub where that is asked for."""
    to = check_targets([word for word in options.get("to", "hub").split(",") if word])
    repository, license_id = options.get("push", ""), options.get("license", "")
    is_private, is_meant = _flag(options, "private", "true"), _flag(options, "yes", "false")
    check_license(license_id)
    if repository or "push" in options:
        check_repository(repository)
        check_uploads(to, repository)
    for key in ("yes", "private"):
        if key in options and not repository:
            raise UsageError(f"{key}={options[key]} is for push=OWNER/NAME", "leave it out")
    if "web_runtime" in options and "web" not in to:
        told = f"web_runtime={options['web_runtime']}"
        raise UsageError(f"{told} is for to=web", "leave it out")
    recipe = read_recipe("export", rest, writes_folders=True)
    from leafkit.exporters.hugging_face import HuggingFaceHub
    from leafkit.exporters.push import describe_push, plan_push, push
    from leafkit.pipeline.exports.recipe_folders import export_folders
    from leafkit.pipeline.run import open_run

    # a hub that cannot be written to is found out before the work
    hub = HuggingFaceHub() if is_meant else None
    runtime = options.get("web_runtime", "")
    is_cut_given = any(key_of(word) == "data.max_document_tokens" for word in rest)
    with open_run(recipe, trains=False) as run:
        places = run.on_main(
            lambda: export_folders(
                run,
                to,
                license=license_id,
                repository=repository,
                web_runtime=runtime,
                is_cut_given=is_cut_given,
            )
        )
        for name, place in places.items():
            log(f"{name}: {place}")
        if not repository or not run.is_main:
            return 0
        uploads = plan_push(places, repository)
        log(describe_push(uploads, places, private=is_private, license_id=license_id))
        if hub is None:
            log("nothing was uploaded: the same command with yes=true uploads it")
        else:
            push(uploads, hub, private=is_private)
    return 0


def _read_options(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The words that are no keys of recipes, by name, and the others."""
    options: dict[str, str] = {}
    rest = []
    for word in words:
        key, equals, value = key_of(word), "=" in word, word.partition("=")[2]
        if equals and key in OPTIONS:
            if key in options:
                raise UsageError(f"{key}= comes twice", "once is enough")
            options[key] = value
        else:
            rest.append(word)
    return options, rest


def _flag(options: Mapping[str, str], key: str, default: str) -> bool:
    value = options.get(key, default)
    if value not in ("true", "false"):
        raise UsageError(f"{key}={value[:40]} is neither true nor false", f"{key}=true")
    return value == "true"
