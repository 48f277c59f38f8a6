"""``builtin:pydocs``, ``builtin:pydocs-out-of-domain``, ``mteb:TASK``: collections that an
installed package brings.
"""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import UsageError
from leafkit.data.builtin import pydocs_fingerprint, read_pydocs
from leafkit.data.mteb_source import mteb_fingerprint, read_mteb
from leafkit.data.records import Collection

PYDOCS, PYDOCS_OUT_OF_DOMAIN = "pydocs", "pydocs-out-of-domain"


@dataclass(frozen=True, slots=True)
class PydocsSource:
    """The documentation of installed packages.

    Attributes:
        name: which of the two lists of packages.
    """

    name: str

    @classmethod
    def parse(cls, uri: str, rest: str) -> PydocsSource:
        """Read the address.

        Raises:
            UsageError: there is no such collection.
        """
        if rest not in {PYDOCS, PYDOCS_OUT_OF_DOMAIN}:
            raise UsageError(
                f"unknown built-in source {uri!r}",
                f"there are builtin:{PYDOCS} and builtin:{PYDOCS_OUT_OF_DOMAIN}",
            )
        return cls(rest)

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of the packages' files."""
        return pydocs_fingerprint(self._packages(data))

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection, whole; a hash of each name says its split.

        Raises:
            LeafkitError: none of the packages is installed.
        """
        return read_pydocs(self.name, self._packages(data))

    def _packages(self, data: DataConfig) -> list[str]:
        return data.packages if self.name == PYDOCS else data.out_of_domain_packages


@dataclass(frozen=True, slots=True)
class MtebSource:
    """A retrieval task that mteb has on this machine.

    Attributes:
        uri: as the recipe names it.
        reference: TASK[:SUBSET][@SPLIT].
    """

    uri: str
    reference: str

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of the task and of its data's revision."""
        return fingerprint([self.uri, mteb_fingerprint(self.reference)])

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection, whole.

        Raises:
            UsageError: mteb has no such task.
            LeafkitError: its data cannot be had.
        """
        return read_mteb(self.reference)
