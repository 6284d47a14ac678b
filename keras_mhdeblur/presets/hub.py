"""Presets from the Hugging Face Hub, and how it is reached."""

import concurrent.futures
import os
import re
import threading
from pathlib import Path

from keras_mhdeblur.presets.files import FILES, PresetError

PREFIX = "hf://"
# The Hub's client retries an unreachable server for half a minute and more.
_PATIENCE_SECONDS = 4.0


def download(uri):
    """The local folder of a preset on the Hub; downloads what is not in the cache.

    Args:
        uri: "hf://user/repo" or "hf://user/repo@revision".

    Returns:
        The folder, in the Hub's cache. When the Hub cannot be reached or
        HF_HUB_OFFLINE is set, it is what the cache holds.

    Raises:
        PresetError: no such repository or revision, or the Hub cannot be reached and
            the cache does not hold the preset.
    """
    repo_id, revision = parse_uri(uri)
    import huggingface_hub
    from huggingface_hub import errors

    request = {
        "repo_id": repo_id,
        "revision": revision or "main",
        "endpoint": endpoint(),
        "allow_patterns": list(FILES),
    }
    unreachable = None
    if not _offline():
        api = huggingface_hub.HfApi(endpoint=endpoint())
        try:
            within_patience(
                lambda: api.model_info(repo_id, revision=revision or "main")
            )
        except errors.RevisionNotFoundError as error:
            raise PresetError(
                f"Preset {uri!r}: {repo_id} has no revision {revision or 'main'!r} on "
                f"{hub_name()}. Name one of its branches, tags or commits."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise PresetError(
                f"Preset {uri!r}: there is no repository {repo_id} on {hub_name()}, "
                "or you may not read it. Check the name, or log in (`hf auth login` "
                "or HF_TOKEN)."
            ) from error
        except Exception as error:
            unreachable = error
    if unreachable is None and not _offline():
        try:
            return Path(huggingface_hub.snapshot_download(**request))
        except Exception as error:
            raise PresetError(
                f"Preset {uri!r}: the download broke off: {brief(error)} Try again; "
                "complete files are kept."
            ) from error
    try:
        return Path(huggingface_hub.snapshot_download(**request, local_files_only=True))
    except Exception as error:
        if unreachable is None:
            reason = "HF_HUB_OFFLINE is set"
            remedy = "Unset it and load the preset once while online"
        else:
            reason = f"{hub_name()} cannot be reached ({brief(unreachable)})"
            remedy = "Check the network, HF_ENDPOINT and your proxy"
        raise PresetError(
            f"Preset {uri!r}: {reason} and the local cache does not hold it. {remedy}, "
            "or pass the path of a folder that holds the preset."
        ) from error


def parse_uri(uri):
    """Repository ("user/name") and revision, or None, of "hf://user/name@revision"."""
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@(\S+))?", str(uri))
    if match is None:
        raise PresetError(
            'A preset on the Hub is "hf://user/repo" or "hf://user/repo@revision". '
            f"Received: uri={uri!r}"
        )
    return match.groups()


def within_patience(call):
    """The result of call(), or TimeoutError.

    The client's own `timeout` begins when a name is resolved, which may hang.
    """
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    # A daemon, so that a hanging call does not keep the interpreter from leaving.
    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(_PATIENCE_SECONDS)
    except concurrent.futures.TimeoutError:
        raise TimeoutError(f"no answer in {_PATIENCE_SECONDS:g} seconds") from None


def endpoint():
    # Read now: the Hub's client reads it once, when it is imported.
    return os.environ.get("HF_ENDPOINT")


def hub_name():
    return endpoint() or "huggingface.co"


def _offline():
    from huggingface_hub import constants

    value = os.environ.get("HF_HUB_OFFLINE", "")
    return constants.HF_HUB_OFFLINE or value.upper() in constants.ENV_VARS_TRUE_VALUES


def brief(error):
    """The first line of an error's message, with a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."
