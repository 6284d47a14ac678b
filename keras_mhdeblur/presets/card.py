"""The model card of a preset: README.md, which begins with YAML."""

import re

from keras_mhdeblur.presets.files import CARD, LITERT, LITERT_STAGES, PresetError
from keras_mhdeblur.presets.hub import PREFIX

LICENSE = "LICENSE"
EXAMPLE = "example.jpg"
# Data sets that metadata's text may name, and their names on the Hub's pages.
_DATASETS = {"GoPro": "gopro", "HIDE": "hide", "REDS": "reds", "RealBlur": "realblur"}
# A repository of the Hub. Any other text about a base model is a note on the card.
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FRONT_MATTER = re.compile(r"\A---\n(.*?\n)??---\n\s*", re.DOTALL)
_PYTHON = re.compile(r"^```python\n.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?:|mailto:|#)[^)\s]+\)")


def default_card(name, entries):
    """The text of a preset's card, of what its metadata tells.

    Args:
        name: for `from_preset`, and the title.
        entries: dictionary of metadata.json, and "members", the presets that have the
            weights, if any.
    """
    lines = [_front_matter(_facts(entries)), f"# {name}", ""]
    if entries.get("description"):
        lines += [entries["description"], ""]
    lines += [
        *_snippet(name),
        "",
        f"- Network: {entries['architecture']}, {entries['parameters']:,} parameters",
    ]
    if members := entries.get("members"):
        lines.append(f"- Networks of: {_presets(members)}")
    titles = {
        "license": "Licence",
        "paper": "Paper",
        "training_data": "Training data",
        "scores": "Scores",
    }
    lines += [f"- {titles[key]}: {entries[key]}" for key in titles if entries.get(key)]
    if source := entries.get("source"):
        lines.append(f"- Converted from: {source['file']}, sha256 {source['sha256']}")
    if entries.get("license_text"):
        lines += ["", "## Licence", "", entries["license_text"].strip()]
    return "\n".join(lines) + "\n"


def published_card(text, names, uri, entries, address):
    """A card as it is published: complete front matter, and the Hub's name in it.

    What the card's own front matter says stays, but for the licence and the tags, which
    come from the metadata and from both.

    Args:
        text: the preset's card, or None.
        names: names of the preset in the card's calls of `from_preset`.
        uri: "hf://user/name".
        entries: as of `default_card`.
        address: of the repository's main branch, without a slash at the end.

    Returns:
        The text of README.md.

    Raises:
        PresetError: the card's front matter is no YAML mapping.
    """
    title = uri.rpartition("/")[2]
    if text is None:
        text = default_card(title, entries)
        names = {title}
    own, body = _divided(text)
    facts = _facts(entries)
    matter = facts | {
        "datasets": _datasets(entries),
        "metrics": ["psnr", "ssim"],
        "base_model": _base_model(entries),
        "widget": [{"src": f"{address}/{EXAMPLE}", "example_title": "Motion blur"}],
        **own,
        **_license(entries),
        "tags": list(dict.fromkeys([*_listed(own.get("tags")), *facts["tags"]])),
    }
    parts = [_for_the_hub(body, names, uri).rstrip()]
    if not matter["base_model"]:
        parts.append("## Base model\n\n" + _origin(entries))
    parts.append(
        f"## Example photo\n\n`{EXAMPLE}` is a crop of an average of eight frames of "
        "GOPRO_Large_all (Nah, Kim and Lee, CVPR 2017), CC BY 4.0."
    )
    return _front_matter(matter) + "\n" + "\n\n".join(parts) + "\n"


def _facts(entries):
    """The beginning of every card."""
    tags = ["deblurring", "image-restoration", "keras_mhdeblur"]
    files = entries.get("files") or {}
    if {LITERT, *LITERT_STAGES.values()} & set(files) or entries.get("litert"):
        tags.append("litert")
    return {
        "library_name": "keras",
        "pipeline_tag": "image-to-image",
        **_license(entries),
        "tags": tags,
    }


def _license(entries):
    if entries.get("license"):
        return {"license": entries["license"].lower()}
    if entries.get("license_text"):
        return {"license": "other", "license_name": "own", "license_link": LICENSE}
    return {"license": "unknown"}


def _datasets(entries):
    """Names of data sets; of photos without a name there are none."""
    text = str(entries.get("training_data") or "")
    return [name for word, name in _DATASETS.items() if word in text]


def _base_model(entries):
    base = entries.get("base_model")
    if base and _REPOSITORY.fullmatch(base):
        return base
    # Without a member's revision.
    on_hub = [name for name in entries.get("members") or () if name.startswith(PREFIX)]
    return [name.removeprefix(PREFIX).partition("@")[0] for name in on_hub] or None


def _origin(entries):
    """A sentence on a base model that has no repository."""
    if entries.get("base_model"):
        return entries["base_model"]
    if source := entries.get("source"):
        return f"Converted from `{source['file']}`, sha256 `{source['sha256']}`."
    if members := entries.get("members"):
        return (
            f"It has the networks of {_presets(members)}, which come with the package."
        )
    return "None on the Hub. The text above tells how the weights were made."


def _presets(names):
    return " and ".join(f"`{name}`" for name in names)


def _front_matter(matter):
    import yaml

    entries = {key: value for key, value in matter.items() if value}
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def _divided(text):
    """The front matter of a card, as a dictionary, and the rest."""
    import yaml

    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    try:
        own = yaml.safe_load(found[1] or "") or {}
    except yaml.YAMLError as error:
        raise PresetError(f"{CARD}: its front matter is no YAML: {error}") from error
    if not isinstance(own, dict):
        raise PresetError(f"{CARD}: its front matter is no mapping. Received: {own!r}")
    return own, text[found.end() :]


def _listed(value):
    return [value] if isinstance(value, str) else list(value or [])


def _snippet(name):
    return (
        "```python",
        "import keras_mhdeblur",
        "",
        f'model = keras_mhdeblur.from_preset("{name}")',
        'model.restore("photo.jpg").save("sharp.png")',
        "```",
    )


def _for_the_hub(body, names, uri):
    """A card's text whose Python loads the preset from the Hub."""
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    call = rf"from_preset\(([\"'])(?:{known})\1"
    body = re.sub(call, lambda _: f'from_preset("{uri}"', body)
    # Files that are not published cannot be linked to.
    body = _LINK.sub(r"\1", body)
    install = "```bash\npip install keras-mhdeblur\n```\n\n"
    for snippet in _PYTHON.finditer(body):
        if f'from_preset("{uri}"' in snippet[0]:
            return body[: snippet.start()] + install + body[snippet.start() :]
    return f"{body.rstrip()}\n\n## Use\n\n{install}" + "\n".join(_snippet(uri))
