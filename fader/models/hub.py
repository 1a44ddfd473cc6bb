"""Models on the Hugging Face Hub, or on the server that ``HF_ENDPOINT`` names."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fader.errors import FaderError
from fader.files import write_text
from fader.models.folders import CLASSIFIER_WEIGHTS, CONFIG, WEIGHTS, onnx_form

CARD = "README.md"
#: All that is fetched of a repository, whatever else it has.
FILES = (CONFIG, WEIGHTS, CLASSIFIER_WEIGHTS, CARD, f"onnx/{CONFIG}", "onnx/*.onnx")


def download(name: str, **options: Any) -> Path:
    """The folder of the model ``user/name``, or ``user/name@revision``, in the Hub's cache, which
    does where the Hub cannot be reached. ``options`` are ``huggingface_hub.snapshot_download``'s.
    Raises :class:`FaderError` that says why there is none."""
    # Imported here: it takes longer than all other imports of an edit.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo_id, _, revision = name.partition("@")
    if revision:
        options["revision"] = revision
    with _asking(name, "cannot be fetched from"):
        try:
            folder = Path(snapshot_download(repo_id, allow_patterns=[*FILES], **options))
        except LocalEntryNotFoundError as error:
            if options.get("local_files_only") or constants.HF_HUB_OFFLINE:
                why = "is not in the cache, and to look for it elsewhere is switched off"
            else:
                why = f"is not in the cache, and {_endpoint()} cannot be reached"
            raise FaderError(f"{name}: no folder here; {why} ({_cause(error)})") from None
    if not (folder / CONFIG).is_file():
        raise FaderError(f"{name}: not a Fader model, it has no {CONFIG}")
    return folder


def upload(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    **options: Any,
) -> str:
    """Upload a folder's files to ``user/name``, which is made if there is none, ``private`` or not.

    ``options``, such as ``commit_message``, are those of ``HfApi.upload_folder``. Returns the
    commit's address. Errors are huggingface_hub's.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    options = {"commit_message": "Upload a Fader model", "revision": branch, **options}
    return api.upload_folder(repo_id=repo_id, folder_path=os.fspath(folder), **options)


def push(folder: Path, repo_id: str, card: str, *, private: bool | None = None) -> str:
    """Upload a model's files, with ``card`` as its card, to ``user/name``; the commit's address, or
    :class:`FaderError` that says why it could not be."""
    with tempfile.TemporaryDirectory() as copy:
        for name in (CONFIG, WEIGHTS, CLASSIFIER_WEIGHTS):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(copy) / name)
        with suppress(FaderError):  # one of other weights stays here
            if (form := onnx_form(folder)) and form != folder:
                shutil.copytree(form, Path(copy) / form.name)
        write_text(Path(copy) / CARD, card)
        with _asking(repo_id, "cannot be sent to"):
            return str(upload(copy, repo_id, private=private))


@contextmanager
def _asking(name: str, failed: str) -> Iterator[None]:
    """What the Hub's library raises as a :class:`FaderError` of one sentence; progress bars on
    terminals alone."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # Where the environment decides on bars, the library does not let others.
    decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled()
    silent = not decided and not sys.stderr.isatty()
    if silent:
        disable_progress_bars()
    try:
        yield
    except errors.HFValidationError:
        raise FaderError(f"{name}: not a folder here, and no Hub id such as user/name") from None
    except errors.OfflineModeIsEnabled:
        raise FaderError(f"{name}: HF_HUB_OFFLINE is set, so nothing is sent") from None
    except errors.RevisionNotFoundError:
        raise FaderError(f"{name}: {_endpoint()} has it, but not this revision") from None
    # The last is what all failures of a connection are, in whatever library it uses.
    except (OSError, ValueError, errors.HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError):
            why = "there is none, or it needs a token: log in with hf auth login, or set HF_TOKEN"
        elif isinstance(error, errors.RepositoryNotFoundError):
            why = "there is none, or it is private"
        else:
            why = _cause(error)
        raise FaderError(f"{name}: {failed} {_endpoint()} ({why})") from None
    finally:
        if silent:
            enable_progress_bars()


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "the Hugging Face Hub")


def _cause(error: BaseException) -> str:
    """The first line of what was at the root of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
