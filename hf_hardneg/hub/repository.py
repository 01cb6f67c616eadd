"""Read and write a dataset repository of the Hub: what it holds at a commit, and the next commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import ConfigError, DataError, HardNegError, HubError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from huggingface_hub import CommitInfo

README = "README.md"
LONGEST = 10_000_000
"""Bytes of a card that are read."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository at one commit.

    Args:
        sha (`str`): the commit.
        private (`bool`): whether others cannot see it.
        files (`Mapping[str, int]`): paths and their sizes in bytes.
        readme (`str`, *optional*): the text of the card.
    """

    sha: str
    private: bool
    files: Mapping[str, int]
    readme: str | None


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A dataset repository.

    Args:
        repo_id (`str`): such as `user/name`.
        revision (`str`, *optional*): the branch; `main` by default.
        token (`str`, *optional*): of the Hub; by default the one that is stored on this machine.

    Raises:
        ConfigError: `repo_id` is not the name of a repository.
    """

    repo_id: str
    revision: str | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        with suppress(HFValidationError):
            validate_repo_id(self.repo_id)
            if self.repo_id.count("/") == 1:
                return
        raise ConfigError(
            f"{self.repo_id!r} is not the name of a Hub dataset. Give user/name or organization/name, of letters, "
            "digits, '-', '_' and '.'."
        )

    def __repr__(self) -> str:
        return f"Repository({self.repo_id!r}, revision={self.revision!r})"

    def create(self, *, private: bool | None = None) -> None:
        """Create the repository and the branch, where they do not exist.

        Raises:
            HubError: the Hub does not allow it; or it should be private and is public.
        """
        with self._talking("create or open"):
            self._api.create_repo(self.repo_id, repo_type="dataset", private=private, exist_ok=True)
            if private and not self._api.repo_info(self.repo_id, repo_type="dataset").private:
                raise HubError(
                    f"{self.repo_id} is public already, and private=True was asked for. Make it private in its "
                    "settings first, or push to a new name. Nothing was uploaded."
                )
            if self.revision is not None and not self.revision.startswith("refs/pr/"):
                self._api.create_branch(self.repo_id, repo_type="dataset", branch=self.revision, exist_ok=True)

    def snapshot(self) -> Snapshot:
        """Read what the branch holds now.

        Raises:
            HubError: it cannot be read.
        """
        with self._talking("read"):
            info = self._api.repo_info(self.repo_id, repo_type="dataset", revision=self.revision, files_metadata=True)
            files = {file.rfilename: file.size or 0 for file in info.siblings or []}
            if files.get(README, 0) > LONGEST:
                raise HubError(
                    f"The card of {self.repo_id} has {files[README]:,} bytes; {LONGEST:,} are read. Shorten it first."
                )
            readme = self.read(README, info.sha) if README in files else None
        return Snapshot(sha=str(info.sha), private=bool(info.private), files=files, readme=readme)

    def read(self, path: str, sha: str) -> str:
        """Read the text of a file at a commit.

        Raises:
            DataError: it is no text in UTF-8.
        """
        with self._talking("read"):
            local = self._api.hf_hub_download(self.repo_id, path, repo_type="dataset", revision=sha)
        try:
            return Path(local).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} of {self.repo_id} is no text in UTF-8 ({error}). Write it so first.") from error

    def load(self, config: str | None, sha: str | None) -> DatasetDict:
        """Load all splits of a config at a commit.

        Raises:
            HubError: it does not exist, or cannot be read.
            ConfigError: a local folder stands in its place.
        """
        from datasets import load_dataset

        if Path(self.repo_id).exists():
            raise ConfigError(
                f"There is a folder {self.repo_id} here, which load_dataset() would read instead of the Hub dataset of "
                "that name. Work in another folder, or rename that one."
            )
        with self._talking("load from"):
            return load_dataset(self.repo_id, config, revision=sha, token=self.token, trust_remote_code=False)

    def commit(self, operations: list[Any], message: str, *, parent: str, create_pr: bool) -> CommitInfo | None:
        """Commit on top of `parent`, all or nothing; `None` where somebody else's commit came first.

        Raises:
            HubError: the Hub does not take it.
        """
        with self._talking("write to"):
            try:
                return self._api.create_commit(
                    self.repo_id,
                    operations,
                    commit_message=message,
                    repo_type="dataset",
                    revision=self.revision,
                    parent_commit=parent,
                    create_pr=create_pr,
                )
            except Exception as error:
                if _status(error) in (409, 412):
                    return None
                raise

    @property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(token=self.token, library_name="hf_hardneg")

    @contextmanager
    def _talking(self, what: str) -> Iterator[None]:
        """Raise whatever goes wrong inside as a `HubError`, without the token."""
        from huggingface_hub import get_token

        try:
            yield
        except HardNegError:
            raise
        except Exception as error:
            hint = _HINTS.get(_status(error) or 0, "Nothing that was there is lost: try the same again.")
            said = " ".join(str(error).split())
            secret = self.token or get_token()
            if secret:
                said = said.replace(secret, "***")
            where = f" at {self.revision!r}" if self.revision else ""
            raise HubError(
                f"Cannot {what} the Hub dataset {self.repo_id}{where}. {hint} ({type(error).__name__}: {said})"
            ) from error


_HINTS = {
    401: "Log in with `hf auth login`, set HF_TOKEN, or pass token=, with the right to write there.",
    403: "This token may not read or may not write there: ask for access where it is gated, or take another token.",
    404: "There is none of that name or revision, or it is private and the token cannot see it.",
}


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
