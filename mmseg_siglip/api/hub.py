"""The way of a saved system to the Hub."""

from __future__ import annotations

from huggingface_hub import HfApi

from mmseg_siglip.api.origins import FOLDER


def upload_folder(
    folder: str, repository: str, *, private: bool, token: str | None, message: str
) -> str:
    """Put what `save_pretrained` wrote into a repository, which is made if it is not there.

    Args:
        folder: The folder.
        repository: ``owner/name``.
        private: Of a new repository.
        token: By default the one of ``hf auth login``.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: The repository has no such name.
        OSError: The Hub does not take it, or cannot be reached.
    """
    hub = HfApi(token=token)
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            delete_patterns=f'{FOLDER}/*',
        )
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise OSError(f'{repository}: the Hub cannot be reached ({error})') from error
    return commit.commit_url
