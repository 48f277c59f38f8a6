"""From texts to flat token ids, in bounded memory: a million texts are tokenized some thousands at
a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from leafkit.core.artifact import fingerprint
from leafkit.core.console import Bar
from leafkit.core.method import method_of
from leafkit.data.stored.flat_tokens import FlatTokens, flatten
from leafkit.data.vector_store import hash_texts
from leafkit.models.packed.grouping import TokenIds
from leafkit.models.static_encoder import tokenize
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tokenization import identify_tokenizer

_TEXTS_PER_PART = 4096


@dataclass(frozen=True, slots=True)
class TokenReader:
    """How texts become token ids.

    Attributes:
        read: token ids of texts, in order.
        identify: what decides about the ids beside the texts: tokenizer, prompt, limit and code;
            "" where that cannot be said.
    """

    read: Callable[[Sequence[str]], TokenIds]
    identify: Callable[[], str]

    def read_parts(self, texts: Sequence[str], bar: Bar | None = None) -> Iterator[TokenIds]:
        """Token ids of texts, some thousands at a time; the bar is advanced by the texts done."""
        for start in range(0, len(texts), _TEXTS_PER_PART):
            part = texts[start : start + _TEXTS_PER_PART]
            yield self.read(part)
            if bar is not None:
                bar.advance(len(part))

    def identify_ids(self, texts: Sequence[str]) -> str:
        """Identity of the ids of these texts in this order; "" where that cannot be said."""
        own = self.identify()
        content = hashlib.sha256(hash_texts(texts).tobytes()).hexdigest()
        return own and fingerprint([own, len(texts), content])


def reader_of(encoder: TextEncoder, role: str, max_tokens: int | None = None) -> TokenReader:
    """Reads texts as an encoder does: with the prompt of their role, cut at ``max_tokens`` (None
    and 0: the model's own limit).
    """

    def identify() -> str:
        tokenizer = identify_tokenizer(encoder.tokenizer)
        around = [encoder.prompt(role), encoder.limit(max_tokens), method_of(TextEncoder)]
        return tokenizer and fingerprint([tokenizer, *around])

    return TokenReader(lambda texts: encoder.tokenize(texts, role, max_tokens), identify)


def bare_reader(tokenizer: Tokenizer, max_tokens: int) -> TokenReader:
    """Reads texts as a table of token vectors does: without special tokens, cut at ``max_tokens``
    (0 does not cut).
    """

    def identify() -> str:
        return fingerprint([identify_tokenizer(tokenizer), max_tokens, method_of(tokenize)])

    return TokenReader(lambda texts: tokenize(tokenizer, texts, max_tokens), identify)


def read_flat(reader: TokenReader, texts: Sequence[str]) -> FlatTokens:
    """Token ids of texts, flat in memory."""
    return flatten(reader.read_parts(texts))


Tokenize = Callable[[TokenReader, Sequence[str]], FlatTokens]  # in memory, or out of kept files
