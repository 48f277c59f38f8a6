"""The Hugging Face hub as ``push`` asks it: through huggingface_hub, with its errors in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from leafkit.core.errors import LeafkitError

_TOKEN_HINT = (
    "hf auth login asks for one; on a machine without a terminal HF_TOKEN holds it: a token with "
    "the right to write, from the settings of your account"
)


class HuggingFaceHub:
    """The hub at HF_ENDPOINT, with the token that huggingface_hub finds; a ``Hub``.

    Raises:
        LeafkitError: the hub is switched off, or there is no token.
    """

    def __init__(self) -> None:
        import huggingface_hub
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise LeafkitError(
                "HF_HUB_OFFLINE is set: nothing can be uploaded", "unset it, then push again"
            )
        if not huggingface_hub.get_token():
            raise LeafkitError("there is no token for the hub", _TOKEN_HINT)
        self._api = huggingface_hub.HfApi(library_name="leafkit")

    def create(self, repository: str, *, private: bool) -> bool:
        """See ``Hub.create``."""
        with _in_words(repository):
            self._api.create_repo(repository, private=private, exist_ok=True)
            return bool(self._api.model_info(repository).private)

    def commit(self, repository: str, folder: Path, names: Sequence[str]) -> str:
        """See ``Hub.commit``."""
        import huggingface_hub

        operations = [
            huggingface_hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
            for name in names
        ]
        with _in_words(repository):
            done = self._api.create_commit(
                repository, operations, commit_message="Export from leafkit"
            )
        return str(done.oid)

    def download(self, repository: str, commit: str, name: str, folder: Path) -> Path:
        """See ``Hub.download``."""
        with _in_words(repository):
            found = self._api.hf_hub_download(
                repository, name, revision=commit, local_dir=folder, force_download=True
            )
        return Path(found)


@contextlib.contextmanager
def _in_words(repository: str) -> Iterator[None]:
    """What the client raises, as an error that says what to do.

    Raises:
        LeafkitError: in place of any of its errors.
    """
    try:
        yield
    except LeafkitError:
        raise
    except Exception as err:  # many kinds, of the client and of what it stands on
        status = getattr(getattr(err, "response", None), "status_code", None)
        # the hub's own words come behind the status, in lines of their own
        reason = " ".join(filter(None, map(str.strip, str(err).splitlines())))
        if status == 401:
            raise LeafkitError(
                f"{repository}: the hub does not take the token", _TOKEN_HINT
            ) from err
        if status == 403:
            raise LeafkitError(
                f"{repository}: the token has no right to write there",
                "name a repository of your own or of an organization that you write in, and a "
                "token with the right to write",
            ) from err
        if status == 400:
            raise LeafkitError(
                f"{repository}: the hub refuses what it was sent: {reason}",
                "its words name what it does not take: the card's head (license=), the "
                "repository's name, or a file; trying again changes nothing",
            ) from err
        raise LeafkitError(
            f"{repository}: the hub cannot be asked: {type(err).__name__}: {reason}",
            "check the network, and try again: what is uploaded already is not uploaded twice",
        ) from err
