"""The documentation: its length, links, commands, Python blocks and names."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

import keras_mhdeblur
from keras_mhdeblur import cli

ROOT = Path(__file__).parents[1]
CARDS = sorted(path.parent / "README.md" for path in ROOT.glob("zoo/*/metadata.json"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name for name in ("SECURITY.md", "examples/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("zoo/*/README.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
# Former names, which their modules keep for those who use them.
ALIASES = {"from_torch_checkpoint", "load_torch_state_dict"}


def name(path):
    return path.relative_to(ROOT).as_posix()


def anchors(text):
    """Anchors of a page's headings, as repository browsers and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in headings
    }


def broken_links(path, text):
    for link in LINK.findall(FENCE.sub("", text)):
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(file.read_text("utf-8")):
            yield f"{link}: no such heading"


def blocks(text, *languages):
    return [code for language, code in FENCE.findall(text) if language in languages]


def commands(text):
    """Words of every command in the fenced shell blocks of a page."""
    for code in blocks(text, "bash", "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                yield words[: words.index("&&")]
                words = words[words.index("&&") + 1 :]
            if words:
                yield words


def refused(words):
    """Message of the parser of `mhdeblur`, or None."""
    try:
        cli._parser().parse_args(words[1:])
    except SystemExit as error:
        return f"{shlex.join(words)}: refused" if error.code else None


def public_names():
    """Names in `__all__` of the package's public modules, but for aliases."""
    for room in keras_mhdeblur.__all__:
        path = ROOT / "keras_mhdeblur" / room / "__init__.py"
        for node in ast.parse(path.read_text("utf-8")).body if path.exists() else ():
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
                names = set(ast.literal_eval(node.value)) - ALIASES
                yield from (f"{room}.{item}" for item in names)


def test_readme_is_read_once():
    assert (ROOT / "README.md").stat().st_size <= 9000


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links(path):
    assert list(broken_links(path, path.read_text("utf-8"))) == []


def test_broken_links_are_found():
    text = "[a](nowhere.md) [b](README.md#no-such-heading) [c](README.md#limits)"
    found = list(broken_links(ROOT / "README.md", text))
    assert found == [
        "nowhere.md: no such file",
        "README.md#no-such-heading: no such heading",
    ]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_parse(path, capsys):
    problems = []
    for words in commands(path.read_text("utf-8")):
        if words[0] == "mhdeblur":
            problems.append(refused(words))
        if words[0] == "python" and words[1].endswith(".py"):
            script = ROOT / words[1]
            problems.append(None if script.is_file() else f"{words[1]}: no such file")
    assert [problem for problem in problems if problem] == []


def test_wrong_commands_are_refused(capsys):
    text = "```bash\nmhdeblur restore a.jpg -o b.png && mhdeblur restore --sharp\n```"
    right, wrong = commands(text)
    assert refused(right) is None
    assert refused(wrong) == "mhdeblur restore --sharp: refused"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_python_compiles(path):
    for code in blocks(path.read_text("utf-8"), "python"):
        compile(code, name(path), "exec")


def test_reference_has_every_public_name():
    pages = "".join(path.read_text("utf-8") for path in ROOT.glob("docs/api/*.md"))
    documented = re.findall(r"^::: keras_mhdeblur\.(.+)$", pages, re.MULTILINE)
    public = set(public_names())
    assert {"networks.NAFNet", "losses.PSNRLoss", "export.to_litert"} <= public
    assert public - set(documented) == set()


@pytest.mark.parametrize("card", CARDS, ids=name)
def test_front_matter(card):
    _, matter, text = card.read_text("utf-8").split("---\n", 2)
    entries = yaml.safe_load(matter)
    assert entries["library_name"] == "keras"
    assert entries["pipeline_tag"] == "image-to-image"
    assert entries["license"] and entries["tags"]
    assert text.lstrip().startswith(f"# {card.parent.name}\n")
    if (card.parent / "model.weights.h5").exists():
        assert entries["datasets"] and "psnr" in entries["metrics"]
        titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert titles == ["Uses", "Limits", "Data", "Scores", "Licence"]
