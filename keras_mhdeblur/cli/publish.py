"""`mhdeblur publish`: a preset in, a repository of the Hugging Face Hub out."""

import contextlib
import sys

from keras_mhdeblur.cli.common import UsageError, one_line, quiet_import


def add_parser(commands):
    parser = commands.add_parser(
        "publish",
        help="upload a preset to the Hugging Face Hub",
        description="Uploads a preset to the Hugging Face Hub as one commit: weights, "
        "configuration, LiteRT files, licence and card. The same command goes on with "
        "an upload that broke off. Needs a token: `hf auth login` or HF_TOKEN.",
    )
    add = parser.add_argument
    add("preset", metavar="PRESET", help="built-in name or folder")
    add(
        "uri",
        metavar="hf://USER/NAME",
        help="the repository; it is created where there is none",
    )
    add(
        "--revision",
        metavar="VERSION",
        help="name of this version, such as v1, for hf://USER/NAME@v1; it is never "
        "moved",
    )
    add("--private", action="store_true", help="make a new repository private")
    add(
        "--dry-run",
        action="store_true",
        help="show the files, their sizes and the card; nothing is sent",
    )
    parser.set_defaults(run=_publish)


def _publish(options):
    with quiet_import():
        from keras_mhdeblur.presets import publishing
    with _errors_as_sentences():
        upload = publishing.plan_upload(options.uri, options.preset, options.revision)
    for note in upload.notes:
        print(f"mhdeblur: warning: {note}", file=sys.stderr)
    print(_files_text(upload), flush=True)
    if options.dry_run:
        print(f"\nREADME.md:\n\n{upload.card}", end="")
        return 0
    _hide_bars()
    with _errors_as_sentences():
        address = publishing.send(upload, options.private)
    version = f"@{options.revision}" if options.revision else ""
    print(
        f"Published {address}. Try: mhdeblur restore PHOTO --preset "
        f"{upload.uri}{version} -o restored"
    )
    return 0


@contextlib.contextmanager
def _errors_as_sentences():
    try:
        yield
    except (ValueError, OSError) as error:
        raise UsageError(one_line(error).partition(" Received: ")[0]) from None


def _files_text(upload):
    version = f", version {upload.revision}" if upload.revision else ""
    size = sum(file.size for file in upload.files.values())
    lines = [
        f"{upload.uri}{version}: {len(upload.files)} files, {size / 1e6:.2f} MB",
        *(
            f"{file.size:12,}  {file.sha256[:12]}  {name}"
            for name, file in upload.files.items()
        ),
    ]
    return "\n".join(lines)


def _hide_bars():
    """Hides the client's bars where nobody watches them."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
