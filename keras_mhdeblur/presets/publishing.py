"""Uploads of presets to the Hugging Face Hub: planned whole, sent as one commit."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

from keras_mhdeblur.presets import hub
from keras_mhdeblur.presets.card import EXAMPLE, LICENSE, published_card
from keras_mhdeblur.presets.files import (
    CARD,
    FILES,
    METADATA,
    WEIGHTS,
    PresetError,
    member_names,
    read_metadata,
    verify,
)
from keras_mhdeblur.presets.zoo import PLAIN_NAMES, builtin_preset, find_preset
from keras_mhdeblur.utils.types import PathLike

# The licence of this package and of its own presets.
_OWN_LICENSE = "Apache-2.0"
# What a new repository of the Hub may hold.
_EMPTY = {".gitattributes", ".gitignore", CARD, LICENSE}


@dataclasses.dataclass(frozen=True)
class File:
    """A file to upload.

    Attributes:
        content: its path, or its bytes.
    """

    content: Path | bytes

    def read(self):
        if isinstance(self.content, bytes):
            return self.content
        return self.content.read_bytes()

    @property
    def size(self):
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stat().st_size

    @property
    def sha256(self):
        return hashlib.sha256(self.read()).hexdigest()

    def is_at(self, entry):
        """True if the Hub has the same bytes under this entry of a repository."""
        if entry is None or entry.size != self.size:
            return False
        if entry.lfs is not None:
            return entry.lfs.sha256 == self.sha256
        content = self.read()
        blob = b"blob %d\0" % len(content) + content
        return entry.blob_id == hashlib.sha1(blob).hexdigest()


@dataclasses.dataclass(frozen=True)
class Upload:
    """The files of an upload, and its address.

    Attributes:
        name: what the user called the preset.
        repo_id: "user/name".
        revision: the version's name, or None.
        files: dictionary from names to `File`s, sorted.
        card: text of README.md.
        notes: sentences on what the card lacks.
    """

    name: str
    repo_id: str
    revision: str | None
    files: dict[str, File]
    card: str
    notes: tuple[str, ...]

    @property
    def uri(self):
        return f"{hub.PREFIX}{self.repo_id}"

    def error(self, reason):
        return PresetError(
            f"Preset {self.name!r} was not uploaded to {self.uri}: {reason}. "
            f"Received: uri={self.uri!r}"
        )


def upload_preset(
    uri: str,
    preset: PathLike,
    revision: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
) -> str:
    """Uploads a preset to the Hugging Face Hub.

    One commit brings the preset's files, its licence, an example photo and a card
    whose snippet loads the preset from there. Files that are there already are not
    sent again, so that an upload that broke off is gone on with by the same call. The
    checksums of all files are compared at the end. The repository is created where
    there is none. The Hub's client must be logged in (`hf auth login` or HF_TOKEN).

    Args:
        uri: "hf://user/name".
        preset: name of a built-in preset, or a folder, as `save_to_preset` writes it.
        revision: name of this version, such as "v1", for
            `from_preset("hf://user/name@v1")`; None for none. It becomes a tag and
            never moves.
        private: whether a repository that is created now is private.
        commit_message: "Upload preset" when None.

    Returns:
        The address of the commit.

    Raises:
        PresetError: the preset has no weights or is damaged, the repository holds
            something else, the revision has another content, or the Hub refuses the
            files or cannot be reached.
    """
    upload = plan_upload(uri, preset, revision)
    for note in upload.notes:
        warnings.warn(note, stacklevel=2)
    return send(upload, private, commit_message)


def plan_upload(uri: str, preset: PathLike, revision: str | None = None) -> Upload:
    """The `Upload` of a preset; nothing is sent. For arguments see `upload_preset`."""
    repo_id, inner_revision = hub.parse_uri(uri)
    if inner_revision is not None:
        raise PresetError(
            f"Pass the version as `revision={inner_revision!r}`. Received: uri={uri!r}"
        )
    if revision is not None and not re.fullmatch(r"\w[\w.-]*", revision):
        raise PresetError(
            "`revision` must be a name of letters, digits, dots and dashes, such as "
            f'"v1". Received: revision={revision!r}'
        )
    name, folder = str(preset), find_preset(preset)
    metadata = read_metadata(folder, name)
    members = member_names(folder, metadata, name)
    for member in members or ():
        if not member.startswith(hub.PREFIX) and builtin_preset(member) is None:
            raise PresetError(
                f"Preset {name!r} cannot be published: its member {member!r} is a "
                "folder of this computer. Upload the member first, and save the preset "
                f'with its name, "hf://user/name". Received: preset={name!r}'
            )
    if WEIGHTS not in metadata["files"] and not members:
        raise PresetError(
            f"Preset {name!r} has no weights, only a configuration: there is nothing "
            f"to publish. Received: preset={name!r}"
        )
    verify(folder, metadata["files"], metadata, name)
    files = {file: File(Path(folder) / file) for file in metadata["files"]}
    text = files[CARD].read().decode("utf-8") if CARD in files else None
    names = {name, folder.name, *(k for k, v in PLAIN_NAMES.items() if v == name)}
    address = f"https://huggingface.co/{repo_id}/resolve/main"
    about = {**metadata, "members": members}
    card = published_card(text, names, f"{hub.PREFIX}{repo_id}", about, address)
    files[CARD] = File(card.encode())
    listed = {
        file: {"sha256": files[file].sha256, "bytes": files[file].size}
        for file in sorted(files)
    }
    content = json.dumps({**metadata, "files": listed}, indent=2) + "\n"
    files[METADATA] = File(content.encode())
    files[EXAMPLE] = File(Path(__file__).parents[1] / "export" / "photo.jpg")
    if license_text := _license_text(metadata):
        files[LICENSE] = File(license_text.encode())
    files = dict(sorted(files.items()))
    return Upload(name, repo_id, revision, files, card, _notes(metadata))


def _license_text(metadata):
    if metadata.get("license_text"):
        return metadata["license_text"]
    if metadata.get("license") != _OWN_LICENSE:
        return None
    package = Path(__file__).parents[1]
    if not (package / "zoo").is_dir():  # a checkout
        return (package.parent / LICENSE).read_text("utf-8")
    files = importlib.metadata.files("keras-mhdeblur") or ()
    (path,) = [file for file in files if file.name == LICENSE]
    return path.read_text("utf-8")


def _notes(metadata):
    """Sentences on what a card should tell and the metadata does not."""
    wanted = {
        "license": (
            metadata.get("license") or metadata.get("license_text"),
            "licence of the weights",
        ),
        "training_data": (metadata.get("training_data"), "training data"),
    }
    return tuple(
        f"The preset records no {words}; `keras_mhdeblur.presets.update_metadata("
        f"folder, {key}=...)` records it."
        for key, (value, words) in wanted.items()
        if not value
    )


def send(
    upload: Upload, private: bool = False, commit_message: str | None = None
) -> str:
    """Sends what `plan_upload` returned; see `upload_preset`."""
    import huggingface_hub

    api = huggingface_hub.HfApi(endpoint=hub.endpoint())
    with _explained(upload):
        hub.within_patience(api.whoami)
        head, branches, tags = _references(api, upload, private)
        there = _entries(api, upload, head)
        _refuse_others(api, upload, head, there)
        tagged = tags.get(upload.revision)
        if upload.revision in branches:
            raise upload.error(f"{upload.revision!r} is the name of a branch there")
        if tagged and _different(upload, _entries(api, upload, tagged)):
            raise upload.error(
                f"the version {upload.revision!r} is there already and has another "
                "content; choose another revision"
            )
        commit = tagged or _commit(api, upload, head, there, commit_message)
        if upload.revision and not tagged:
            api.create_tag(upload.repo_id, tag=upload.revision, revision=commit)
    return f"{api.endpoint}/{upload.repo_id}/commit/{commit}"


def _references(api, upload, private):
    """Head of the main branch, names of branches, and tags with their commits."""
    from huggingface_hub import errors

    try:
        references = api.list_repo_refs(upload.repo_id)
    except errors.RepositoryNotFoundError:
        api.create_repo(upload.repo_id, private=private)
        references = api.list_repo_refs(upload.repo_id)
    branches = {branch.name: branch.target_commit for branch in references.branches}
    tags = {tag.name: tag.target_commit for tag in references.tags}
    return branches.get("main"), branches, tags


def _entries(api, upload, commit) -> dict[str, Any]:
    """Name -> size and checksums of the files of a commit."""
    if commit is None:
        return {}
    tree = api.list_repo_tree(upload.repo_id, revision=commit, recursive=True)
    return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}


def _refuse_others(api, upload, head, there):
    """Raises where a repository is neither empty nor one of a preset."""
    foreign = sorted(set(there) - _EMPTY)
    if not foreign:
        return
    if METADATA in there:
        with tempfile.TemporaryDirectory() as folder:
            api.hf_hub_download(
                upload.repo_id, METADATA, revision=head, local_dir=folder
            )
            with contextlib.suppress(PresetError):
                read_metadata(folder, upload.uri)
                return
    raise upload.error(
        f"another repository has this name, and it is no preset: it holds "
        f"{foreign[0]!r}; choose another name"
    )


def _different(upload, there):
    """Names of files that the Hub lacks or has with other bytes, and of old ones."""
    changed = [n for n, file in upload.files.items() if not file.is_at(there.get(n))]
    known = {*FILES, LICENSE, EXAMPLE}
    return changed + sorted((known & set(there)) - set(upload.files))


def _commit(api, upload, head, there, message):
    """Sends what is different as one commit; returns it once it is verified."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = _different(upload, there)
    if not names:
        return head
    operations = [
        CommitOperationAdd(name, upload.files[name].content)
        if name in upload.files
        else CommitOperationDelete(name)
        for name in names
    ]
    commit = api.create_commit(
        upload.repo_id,
        operations,
        commit_message=message or "Upload preset",
        parent_commit=head,
    ).oid
    if wrong := _different(upload, _entries(api, upload, commit)):
        raise upload.error(
            f"{wrong[0]} arrived with other bytes than it was sent with; call it again"
        )
    return commit


@contextlib.contextmanager
def _explained(upload):
    """Turns the errors of the Hub's client into a sentence."""
    try:
        yield
    except PresetError:
        raise
    except Exception as error:
        raise upload.error(_reason(error)) from error


def _reason(error):
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return (
            f"{hub.hub_name()} knows no valid token of yours; run `hf auth login`, or "
            "set HF_TOKEN"
        )
    if status in (403, 404):
        return "your token has no right to write there"
    if status in (409, 412):
        return "somebody else wrote there at the same time; call it again"
    if status is not None:
        return f"{hub.hub_name()} refuses it ({hub.brief(error).rstrip('.')})"
    while error.__cause__ is not None:
        error = error.__cause__
    told = hub.brief(error).rstrip(".")
    if not isinstance(error, OSError) and not _is_of_a_client(error):
        return f"{hub.hub_name()}'s client failed ({told})"
    return (
        f"the connection to {hub.hub_name()} broke off ({told}); no part of it is "
        "published, and the same call goes on where it stopped"
    )


def _is_of_a_client(error):
    """True if an error is of one of the libraries that speak HTTP."""
    return type(error).__module__.startswith(("http", "requests", "urllib3"))
