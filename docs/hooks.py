"""Hooks of mkdocs: files of the checkout that lie outside of docs/ join the site.

Links in the pages are paths in the checkout, so that they work in a repository browser,
too. Here those that leave docs/ become links within the site, or plain text where they
name no page.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
# Files of the checkout and their places in the site.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "zoo/ablation/README.md": "research/ablation.md",
}
CARDS = {
    f"zoo/{path.parent.name}/README.md": f"cards/{path.parent.name}.md"
    for path in sorted(ROOT.glob("zoo/*/metadata.json"))
}
IMAGES = {
    path.relative_to(ROOT).as_posix(): f"images/{path.name}"
    for pattern in ("examples/*.jpg", "examples/*.png", "zoo/ablation/*.png")
    for path in sorted(ROOT.glob(pattern))
}
PLACES = PAGES | CARDS | IMAGES
_DASH = re.compile(r'(<li class="doc-section-item[^>]*>)\s*–')
_FENCE = re.compile(r"^(```.*?^```)$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config):
    """Adds the model cards to the navigation, behind the page on models."""
    for entry in config.nav:
        if isinstance(entry, dict) and "Models" in entry:
            entry["Models"].append({"Cards": list(CARDS.values())})
    return config


def on_files(files, config):
    for source, place in PLACES.items():
        if not files.get_file_from_path(place):
            path = str(ROOT / source)
            files.append(File.generated(config, place, abs_src_path=path))
    return files


def on_page_markdown(markdown, page, config, files):
    source = Path(page.file.abs_src_path).resolve().relative_to(ROOT).as_posix()

    def link(match):
        mark, text, target, anchor = match.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = PLACES.get(path) or path.removeprefix("docs/")
        if place == path:  # neither a page nor in docs/
            return text
        folder = posixpath.dirname(page.file.src_uri)
        return f"{mark}[{text}]({posixpath.relpath(place, folder or '.')}{anchor})"

    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(link, part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html, page, config, files):
    # Results have neither a name nor always a type: nothing stands before the dash.
    return _DASH.sub(r"\1", html)
