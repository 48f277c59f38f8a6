"""What tokenizers leave to the model: where to stop reading, an end of sequence to pool, and a
token for a text without any.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

from leafkit.core.errors import LeafkitError

# what tokenizers are compared on; those of one vocabulary can still cut and close differently
PROBE = "Hello, Wörld 123: the end"
# and of its accents
_OF_ONE_CHARACTER = (
    type(None),
    normalizers.BertNormalizer,
    normalizers.Lowercase,
)
_CHARS_PER_TOKEN = 6  # English and code have 3 to 5: few texts are read twice


def token_of_empty_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that stands for a text without tokens: end of sequence, separator or padding, the
    first that there is.

    A byte-level BPE tokenizer such as Qwen2's gives an empty text no token at all, and there would
    be nothing to pool.

    Raises:
        LeafkitError: the tokenizer has none of them.
    """
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise LeafkitError(
        "an empty text has no token, and the tokenizer has no eos, sep or pad token to stand for "
        "it",
        "leave empty texts out, or give the tokenizer an eos_token",
    )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a tokenizer that knows no token but special ones: transformers makes such a one where
    its files are missing, and all words become unknown.

    Raises:
        LeafkitError: naming the folder.
    """
    specials = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    if not set(tokenizer.get_vocab()) - specials:
        raise LeafkitError(
            f"{folder} holds no tokenizer: tokenizer.json (or vocab.txt, *.model) is missing, and "
            "without a vocabulary all words are one unknown token",
            "restore the file, or download the model again with all its files",
        )


def identify_tokenizer(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> str:
    """What decides about the ids that a fast tokenizer gives a text, beside the call's own limit:
    its content, without the truncation and padding of its last call, and the version of the
    libraries. "" for a slow one, whose content is in code and files of many kinds.
    """
    around: list[object] = [tokenizers.__version__]
    backend: object = tokenizer
    if not isinstance(tokenizer, Tokenizer):
        if not tokenizer.is_fast:
            return ""
        backend = tokenizer.backend_tokenizer
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        around += [transformers.__version__, type(tokenizer).__name__, *ends]
        around += [tokenizer.truncation_side, bool(getattr(tokenizer, "split_special_tokens", 0))]
    if not isinstance(backend, Tokenizer):
        return ""
    content = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps([around, content], sort_keys=True).encode()).hexdigest()


def count_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> int:
    """Tokens of a prompt with the special tokens around it, uncut."""
    return len(tokenizer(prompt, verbose=False)["input_ids"])


def truncated_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut at ``max_tokens``.

    A tokenizer reads a text to its end before it cuts. One that splits at white space first, as
    BERT's does, gives a beginning of the text that ends at a space the same tokens, so it gets a
    beginning alone; where that falls short of ``max_tokens``, the text.
    """
    enough = _CHARS_PER_TOKEN * max_tokens
    ends = (
        [text.find(" ", enough) for text in texts]
        if _splits_at_spaces(tokenizer)
        else [-1] * len(texts)
    )
    found = _cut_ids(
        tokenizer,
        [text if end < 0 else text[:end] for text, end in zip(texts, ends, strict=True)],
        max_tokens,
    )
    short = [i for i, end in enumerate(ends) if end >= 0 and len(found[i]) < max_tokens]
    for i, ids in zip(
        short, _cut_ids(tokenizer, [texts[i] for i in short], max_tokens), strict=True
    ):
        found[i] = ids
    return found


def _cut_ids(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int
) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        texts,
        truncation=True,
        max_length=max_tokens,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    return ids


def _splits_at_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether no token reaches over a space, and the beginning of a text is what is kept of it."""
    if not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return False
    normalizer = tokenizer.backend_tokenizer.normalizer
    is_sequence = isinstance(normalizer, normalizers.Sequence)
    steps = [normalizer[i] for i in range(len(normalizer))] if is_sequence else [normalizer]
    splits = isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
    is_local = all(isinstance(step, _OF_ONE_CHARACTER) for step in steps)
    return splits and is_local and not any(" " in token for token in tokenizer.get_added_vocab())


def ends_with_special(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a special token behind every text."""
    bare, closed = (
        tokenizer("a", add_special_tokens=is_closed)["input_ids"] for is_closed in (False, True)
    )
    return closed[-1:] != bare[-1:] and closed[-1] in tokenizer.all_special_ids


def with_eos(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy that ends every text with a special token, for last-token pooling (LG-ANNA, arXiv
    2506.07438, pools EOS).

    It is the tokenizer that appends it, not the encoder: whoever loads the saved model,
    sentence-transformers say, then gets the same ids, and truncation leaves room for it.

    Raises:
        LeafkitError: there is no such token, or no way to append it.
    """
    if ends_with_special(tokenizer):
        return tokenizer
    if tokenizer.eos_token is None:
        raise LeafkitError(
            f"pooling=last needs an end-of-sequence token and {type(tokenizer).__name__} has none",
            "pooling=mean needs none",
        )
    end = tokenizer.eos_token
    new = _with_template(tokenizer, f"$A {end}", f"$A $B:1 {end}:1")
    if not ends_with_special(new):
        raise LeafkitError(
            f"pooling=last: {type(tokenizer).__name__} lets no {tokenizer.eos_token} be appended",
            "pooling=mean needs none",
        )
    return new


def with_asked_ends(
    tokenizer: PreTrainedTokenizerBase, config: Mapping[str, object]
) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy of it that puts the beginning and the end that its config asks for
    with add_bos_token and add_eos_token.

    transformers 5 believes tokenizer.json alone, where many folders leave them out.

    Args:
        tokenizer: as it was loaded.
        config: of tokenizer_config.json.
    """
    new = tokenizer
    begin = tokenizer.bos_token if config.get("add_bos_token") is True else None
    if begin is not None and new("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
        new = _with_template(new, f"{begin} $A", f"{begin} $A $B:1")
    if config.get("add_eos_token") is True and tokenizer.eos_token is not None:
        new = with_eos(new)
    return new


def _with_template(
    tokenizer: PreTrainedTokenizerBase, single: str, pair: str
) -> PreTrainedTokenizerBase:
    """A copy that puts special tokens around a text, as ``single`` says, after what it did before;
    ``pair`` is for what comes in two pieces, as a text with a special token before it does.
    """
    new = copy.deepcopy(tokenizer)
    if new.is_fast:
        named = ((new.bos_token, new.bos_token_id), (new.eos_token, new.eos_token_id))
        template = processors.TemplateProcessing(
            single=single,
            pair=pair,
            special_tokens=[(name, i) for name, i in named if name is not None and name in single],
        )
        before = new.backend_tokenizer.post_processor
        new.backend_tokenizer.post_processor = (
            template if before is None else processors.Sequence([before, template])
        )
    return new


def without_last_call(
    tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> PreTrainedTokenizerBase:
    """A copy that neither cuts nor pads by itself, as it is to be saved.

    A fast tokenizer keeps the truncation and padding of its last call and would save them: what is
    on disk would depend on what was tokenized before. transformers also keeps how it was loaded
    (from a folder, without a network): by its files, one model would be two.
    """
    new = copy.deepcopy(tokenizer)
    if new.is_fast:
        new.backend_tokenizer.no_truncation()
        new.backend_tokenizer.no_padding()
    new.model_max_length = max_tokens
    of_last_call = ("max_length", "stride", "truncation_strategy")
    of_loading = ("is_local", "local_files_only")
    for setting in (*of_last_call, *of_loading):
        new.init_kwargs.pop(setting, None)
    return new


def comes_back_equal(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    """Whether loading the folder that it was saved to gives the same ids.

    transformers chooses the class by the config's model_type, whatever was saved: a WordPiece
    tokenizer beside a Qwen2 config comes back as byte-level BPE.
    """
    try:
        return bool(
            AutoTokenizer.from_pretrained(folder)(PROBE)["input_ids"]
            == tokenizer(PROBE)["input_ids"]
        )
    except (OSError, ValueError, KeyError):
        return False


def byte_tokenizer(max_tokens: int) -> PreTrainedTokenizerBase:
    """Qwen2's tokenizer with the 256 bytes for a vocabulary, and an end of text that also pads."""
    names = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return Qwen2Tokenizer(
        vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=max_tokens
    )
