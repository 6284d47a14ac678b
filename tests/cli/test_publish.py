"""`mhdeblur publish`, to a Hub on the loopback."""

import io
import sys

import keras
import pytest

from keras_mhdeblur import Deblurrer, cli
from keras_mhdeblur.networks import NAFNet


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = NAFNet(4, (1,), 1, (1,), num_heads=2)
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    Deblurrer(network).save_to_preset(folder, license="MIT", training_data="my photos")
    return folder


def run(*arguments):
    return cli.main(["publish", *map(str, arguments)])


def test_dry_run_shows_all_and_sends_nothing(hub, preset, capfd):
    assert run(preset, "hf://me/tiny", "--revision", "v1", "--dry-run") == 0
    out, err = capfd.readouterr()
    first, *files = out.split("\n\n")[0].splitlines()
    assert first.startswith("hf://me/tiny, version v1: 5 files, ")
    sizes = {line.split()[2]: int(line.split()[0].replace(",", "")) for line in files}
    path = preset / "model.weights.h5"
    assert sizes["model.weights.h5"] == path.stat().st_size
    card = out.split("README.md:\n\n")[1]
    assert card.startswith("---\nlibrary_name: keras\n")
    assert 'from_preset("hf://me/tiny")' in card
    assert len(card.encode()) == sizes["README.md"]
    assert hub.requests == [] and err == ""


@pytest.mark.slow
def test_publish_then_restore(hub, preset, tmp_path, capfd):
    assert run(preset, "hf://me/tiny", "--revision", "v1", "--private") == 0
    assert hub.repos["me/tiny"]["private"]
    out, err = capfd.readouterr()
    last = out.splitlines()[-1]
    assert last.endswith("mhdeblur restore PHOTO --preset hf://me/tiny@v1 -o restored")
    assert err == ""
    photo = tmp_path / "photo.jpg"
    commit = hub.commits[hub.resolve("me/tiny", "v1")]
    photo.write_bytes(commit["example.jpg"])
    command = ["restore", str(photo), "--preset", "hf://me/tiny@v1", "-o"]
    assert cli.main([*command, str(tmp_path / "restored")]) == 0
    assert (tmp_path / "restored" / "photo.png").is_file()


class Closed(io.StringIO):
    """Output whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_no_error(preset, official_file, monkeypatch, capfd):
    convert = ["convert", str(official_file("xydeblur")), "-o", str(preset)]
    for command in (["publish", str(preset), "hf://me/tiny", "--dry-run"], convert):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Closed())
            assert cli.main(command) == 141
    assert capfd.readouterr().err == ""


def test_missing_facts_are_warnings(hub, preset, tmp_path, capfd):
    network = NAFNet(4, (1,), 1, (1,), num_heads=1)
    Deblurrer(network).save_to_preset(tmp_path / "bare")
    assert run(tmp_path / "bare", "hf://me/bare", "--dry-run") == 0
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("mhdeblur: warning: The preset records no licence of")
    assert second.startswith("mhdeblur: warning: The preset records no training data;")


@pytest.mark.parametrize(
    "uri, arguments, message",
    [
        ("me/tiny", (), 'A preset on the Hub is "hf://user/repo"'),
        ("hf://you/tiny", (), "your token has no right to write there."),
        ("hf://me/thesis", (), "another repository has this name"),
        ("hf://me/tiny", ("--revision", "a b"), "`revision` must be a name"),
    ],
)
def test_errors_are_one_line(hub, preset, uri, arguments, message, capfd):
    hub.create("me/thesis")
    hub.commit("me/thesis", "main", {"thesis.pdf": b"years of work"})
    assert run(preset, uri, *arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("mhdeblur: error: ") and message in line
    assert "Received" not in line


def test_without_token_or_weights(hub, preset, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert run(preset, "hf://me/tiny") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("run `hf auth login`, or set HF_TOKEN.")
    assert run("nafnet_width32", "hf://me/tiny") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "has no weights, only a configuration" in line
    assert hub.repos == {}
