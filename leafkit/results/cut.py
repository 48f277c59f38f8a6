"""What a model did not read of texts that are longer than its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leafkit.results.codec import from_plain, to_plain


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Texts as one model read them.

    Attributes:
        model: its name.
        texts: what they are ("scifact documents").
        limit: tokens that it reads of a text, prompt and special tokens included.
        num_texts: how many there are.
        num_cut: those that are longer.
        num_tokens: of the texts uncut, with prompts and special tokens; 0 where none is so long
            that it had to be counted.
        num_read: of these tokens.
        is_sample: the counts of cut texts and of tokens are a random sample's, scaled to all.
    """

    model: str
    texts: str
    limit: int
    num_texts: int
    num_cut: int
    num_tokens: int
    num_read: int
    is_sample: bool = False

    @property
    def share_of_texts(self) -> float:
        """Share of the texts that are cut."""
        return self.num_cut / self.num_texts if self.num_texts else 0.0

    @property
    def share_of_tokens(self) -> float:
        """Share of the tokens that are not read."""
        return 1 - self.num_read / self.num_tokens if self.num_tokens else 0.0

    def __str__(self) -> str:
        about = "about " if self.is_sample else ""
        return (
            f"{self.model} reads up to {self.limit:,} tokens of each of {self.num_texts:,} "
            f"{self.texts}: {about}{_percent(self.share_of_texts)} of them are cut, "
            f"{about}{_percent(self.share_of_tokens)} of their tokens are not read"
        )

    def to_plain(self) -> object:
        """As JSON has it."""
        return to_plain(self)

    @classmethod
    def from_plain(cls, data: Any) -> CutTexts:
        """Read again what ``to_plain`` gave.

        Raises:
            Mismatch: it is something else.
        """
        found: CutTexts = from_plain(cls, data, "cut texts")
        return found


def _percent(share: float) -> str:
    """A share that is not zero never reads as 0%, and one that is not all never as 100%."""
    if 0 < share < 0.0005:
        return "under 0.1%"
    return "over 99.9%" if 0.9995 < share < 1 else f"{share:.1%}"
