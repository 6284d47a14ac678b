"""Beyond setup.cfg: a package outside of its folder, and the page for an index.

On an index, links of README.md must have whole addresses. They get them from the
address of the repository, `Source` below `project_urls` in setup.cfg. Without it they
become plain text, and pictures are left out with their captions.
"""

import configparser
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# A picture and its caption, in italics below it.
PICTURE = re.compile(
    r"^!\[[^\[\]]*\]\((?!https?:)[^)]+\)\n(\n\*[^*]+\*\n)?", re.MULTILINE
)
# Targets that are whole already stay.
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def long_description(text, source=None, version=None):
    """A README whose links work elsewhere.

    Args:
        text: the README.
        source: address of the repository, None where there is none yet.
        version: of this release, whose tag is "v" and the version.
    """

    def link(match):
        image, label, target = match.groups()
        if source is None:
            return label
        kind = "raw" if image else "blob"
        return f"{image}[{label}]({source}/{kind}/v{version}/{target})"

    text = re.sub(r"<!--.*?-->\n", "", text)
    if source is None:
        text = PICTURE.sub("", text)
    return re.sub(r"\n{3,}", "\n\n", LINK.sub(link, text))


def source_address():
    """The repository's address in setup.cfg, or None."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    urls = config["metadata"].get("project_urls", "")
    found = re.search(r"^Source = (\S+?)/?$", urls, re.MULTILINE)
    return found and found[1]


def package_version():
    text = (ROOT / "keras_mhdeblur" / "__init__.py").read_text("utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text("utf-8")
    setup(
        long_description=long_description(readme, source_address(), package_version()),
        # The zoo lies beside the package in a checkout and inside it once installed.
        packages=[
            *find_packages(include=["keras_mhdeblur", "keras_mhdeblur.*"]),
            "keras_mhdeblur.zoo",
        ],
        package_dir={"keras_mhdeblur.zoo": "zoo"},
    )
