"""The answer to `mhdeblur` alone, and the words of the help."""

import argparse
import re
import shlex

import pytest

from keras_mhdeblur import cli
from keras_mhdeblur.cli import train


def parsers(parser):
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


def test_the_command_alone_shows_examples_that_work(capfd):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == "" and err == cli.OVERVIEW
    examples = [line.split() for line in err.splitlines() if line.startswith("  ")]
    assert [words[:2] for words in examples] == [
        ["mhdeblur", name] for name in ("restore", "train", "export", "convert")
    ]
    parser = cli._parser()
    for words in examples:
        assert "run" in parser.parse_args(shlex.split(" ".join(words[1:])))
    for command in re.findall(r"mhdeblur ([\w ]*)--help", err):
        with pytest.raises(SystemExit) as caught:
            cli.main([*command.split(), "--help"])
        assert caught.value.code == 0
    assert max(map(len, err.splitlines())) < 80


def test_the_help_says_things_by_their_nouns():
    texts = {parser.prog: parser.format_help() for parser in parsers(cli._parser())}
    assert {"mhdeblur publish", "mhdeblur figures usage"} <= set(texts)
    for name, text in texts.items():
        assert not re.search(r"\b(what|whether)\b", text), name
        assert "\x1b" not in text


@pytest.mark.parametrize(
    "terminal, no_color, bar", [(1, "", 1), (1, "1", 0), (0, "", 0)]
)
def test_colours_are_for_terminals(monkeypatch, terminal, no_color, bar):
    monkeypatch.setattr(train.sys.stdout, "isatty", lambda: bool(terminal))
    monkeypatch.setenv("NO_COLOR", no_color)
    assert train._shows_bar() == bool(bar)
