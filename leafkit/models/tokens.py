"""What tokenizers leave to the model: an end-of-sequence token to pool, and a token for a text that has none."""

from __future__ import annotations

import copy
from pathlib import Path

from tokenizers import pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

from leafkit.errors import LeafkitError

PROBE = (
    "Hello, Wörld 123: the end"  # what tokenizers are compared on; those of one vocabulary can still cut and close differently
)


def token_of_empty_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that stands for a text without tokens: end of sequence, separator or padding, the first that there is.

    A byte-level BPE tokenizer such as Qwen2's gives an empty text no token at all, and there would be nothing to pool.

    Raises:
        LeafkitError: the tokenizer has none of them.
    """
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise LeafkitError(
        "an empty text has no token, and the tokenizer has no eos, sep or pad token to stand for it",
        "leave empty texts out, or give the tokenizer an eos_token",
    )


def ends_with_special(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a special token behind every text."""
    bare, closed = (tokenizer("a", add_special_tokens=is_closed)["input_ids"] for is_closed in (False, True))
    return closed[-1:] != bare[-1:] and closed[-1] in tokenizer.all_special_ids


def with_eos(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy that ends every text with a special token, for last-token pooling (LG-ANNA, arXiv 2506.07438, pools EOS).

    It is the tokenizer that appends it, not the encoder: whoever loads the saved model, sentence-transformers say, then
    gets the same ids, and truncation leaves room for it.

    Raises:
        LeafkitError: there is no such token, or no way to append it.
    """
    if ends_with_special(tokenizer):
        return tokenizer
    if tokenizer.eos_token is None:
        raise LeafkitError(
            f"pooling=last needs an end-of-sequence token and {type(tokenizer).__name__} has none", "pooling=mean needs none"
        )
    new = copy.deepcopy(tokenizer)
    if new.is_fast:
        append = processors.TemplateProcessing(
            single=f"$A {new.eos_token}", pair=f"$A $B:1 {new.eos_token}:1", special_tokens=[(new.eos_token, new.eos_token_id)]
        )
        before = new.backend_tokenizer.post_processor
        new.backend_tokenizer.post_processor = append if before is None else processors.Sequence([before, append])
    if not ends_with_special(new):
        raise LeafkitError(
            f"pooling=last: {type(tokenizer).__name__} lets no {tokenizer.eos_token} be appended",
            "pooling=mean needs none",
        )
    return new


def comes_back_equal(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    """Whether loading the folder that it was saved to gives the same ids.

    transformers chooses the class by the config's model_type, whatever was saved: a WordPiece tokenizer beside a Qwen2
    config comes back as byte-level BPE.
    """
    try:
        return bool(AutoTokenizer.from_pretrained(folder)(PROBE)["input_ids"] == tokenizer(PROBE)["input_ids"])
    except (OSError, ValueError, KeyError):
        return False


def byte_tokenizer(max_tokens: int) -> PreTrainedTokenizerBase:
    """Qwen2's tokenizer with the 256 bytes for a vocabulary, and an end of text that also pads."""
    names = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return Qwen2Tokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=max_tokens)
