"""Scripts that complete leafkit's commands, recipes and keys in a shell.

The words are those of this version: source the script anew after an update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leafkit.cli.command_table import COMMANDS
from leafkit.cli.shorthand import SHORT_KEYS
from leafkit.config.effects import EFFECTS, has_effect
from leafkit.config.load import list_recipes
from leafkit.config.reference import ANY_NAME, list_keys

SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str) -> str:
    """The script for one of ``SHELLS``."""
    words = {name: _words_of(name) for name in COMMANDS}
    recipes = list(list_recipes())
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](words, recipes)


def _words_of(command: str) -> list[str]:
    """What may stand behind a command: a key with its ``=``, or a word as it is."""
    words = list(COMMANDS[command].words)
    if command in EFFECTS:
        keys = [key.name for key in list_keys() if ANY_NAME not in key.name]
        words = ["recipe=", *(f"{key}=" for key in keys if has_effect(command, key)), *words]
    if command in {"bench", "inherit"}:
        short = [name for name, key in SHORT_KEYS.items() if has_effect(command, key)]
        words += [f"{name}=" for name in short]
    if command == "explain":
        words += [key.name for key in list_keys()]
    return words


def _bash(words: Mapping[str, Sequence[str]], recipes: Sequence[str]) -> str:
    cases = "\n".join(f'    {name}) words="{" ".join(of)}" ;;' for name, of in words.items())
    return f"""# leafkit completion bash: source <(leafkit completion bash)
_leafkit() {{
  # bash takes = and : for ends of words, so the word is read from the line
  local line="${{COMP_LINE:0:COMP_POINT}}" words="" token
  token="${{line##* }}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$token"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  case "$token" in
    recipe=*) COMPREPLY=($(compgen -W "{" ".join(recipes)}" -- "${{token#recipe=}}")) ;;
    *=*) compopt -o filenames 2>/dev/null
      COMPREPLY=($(compgen -f -- "${{token##*[=:]}}")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$token"))
      [ "${{#COMPREPLY[@]}}" -gt 0 ] || COMPREPLY=($(compgen -f -- "$token"))
      [[ "${{COMPREPLY[0]}}" == *= ]] && compopt -o nospace 2>/dev/null ;;
  esac
}}
complete -F _leafkit leafkit
"""


def _zsh(words: Mapping[str, Sequence[str]], recipes: Sequence[str]) -> str:
    cases = "\n".join(f"    {name}) of=({' '.join(of)}) ;;" for name, of in words.items())
    return f"""#compdef leafkit
# leafkit completion zsh: source <(leafkit completion zsh), after compinit
_leafkit() {{
  local -a of
  if (( CURRENT == 2 )); then
    compadd -- {" ".join(words)}
    return
  fi
  case $words[2] in
{cases}
  esac
  if compset -P 'recipe='; then
    compadd -- {" ".join(recipes)}
  elif compset -P '*[=:]'; then
    _files
  else
    compadd -S '' -- ${{(M)of:#*=}}
    compadd -- ${{of:#*=}}
    _files
  fi
}}
compdef _leafkit leafkit
"""


def _fish(words: Mapping[str, Sequence[str]], recipes: Sequence[str]) -> str:
    lines = [
        "# leafkit completion fish: leafkit completion fish | source",
        "function __leafkit_behind",
        "  set -l words (commandline -opc)",
        '  test (count $words) -gt 1; and test "$words[2]" = $argv[1]',
        "end",
    ]
    for name, command in COMMANDS.items():
        does = command.does.replace("'", "\\'")
        lines.append(f"complete -c leafkit -n __fish_use_subcommand -xa {name} -d '{does}'")
    for name, of in words.items():
        of = [*of, *(f"recipe={recipe}" for recipe in recipes)] if "recipe=" in of else of
        if of:
            lines.append(f"complete -c leafkit -n '__leafkit_behind {name}' -a '{' '.join(of)}'")
    return "\n".join(lines) + "\n"
