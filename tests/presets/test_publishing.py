"""Uploads to a Hub on the loopback."""

import json
import re
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from PIL import Image

from keras_mhdeblur import from_preset
from keras_mhdeblur.presets import PresetError, update_metadata, upload_preset
from keras_mhdeblur.presets.card import default_card, published_card
from keras_mhdeblur.presets.publishing import plan_upload

URI = "hf://me/small"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:The preset records no")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The client waits between its tries of a broken connection; tests need not."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def weights(model):
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


def head(hub, repo="me/small"):
    return hub.commits[hub.resolve(repo, "main")]


def sent(hub):
    """Names of the contents that were put on the Hub."""
    return [request for request in hub.requests if request.startswith("PUT")]


def front_matter(card):
    _, matter, body = card.split("---\n", 2)
    return yaml.safe_load(matter), body


def test_upload_then_load(hub, preset, make_model):
    (preset / "notes.txt").write_text("not a preset's file")
    update_metadata(preset, license="MIT", license_text="Do as you like.\n")
    url = upload_preset(URI, preset, private=True, commit_message="First")
    assert url == f"{hub.url}/me/small/commit/{hub.resolve('me/small', 'main')}"
    assert hub.repos["me/small"]["private"]
    files = head(hub)
    assert sorted(files) == [
        *("LICENSE", "README.md", "config.json", "example.jpg", "metadata.json"),
        "model.weights.h5",
    ]
    for name in ("config.json", "model.weights.h5"):
        assert files[name] == (preset / name).read_bytes()
    assert files["LICENSE"] == b"Do as you like.\n"
    # One commit brought them.
    assert sum("/commit/" in request for request in hub.requests) == 1
    # The checksums are those of what is there, the new card's too.
    metadata = json.loads(files["metadata.json"])
    for name, entry in metadata["files"].items():
        assert entry["sha256"] == sha256(files[name]).hexdigest()
        assert entry["bytes"] == len(files[name])
    assert np.array_equal(weights(from_preset(URI)), weights(make_model()))


def test_the_cards_snippet_runs(hub, preset, tmp_path, monkeypatch):
    upload_preset(URI, preset)
    card = head(hub)["README.md"].decode()
    assert hub.cards == [card]
    (snippet,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    assert f'from_preset("{URI}")' in snippet
    (tmp_path / "photo.jpg").write_bytes(head(hub)["example.jpg"])
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert Image.open("sharp.png").size == Image.open("photo.jpg").size


def test_built_in_presets_have_complete_cards():
    for name, files in (
        ("nafnet_mh_c", ["model.tflite", "model.tflite.json"]),
        ("maxim_mh_c", ["model.stages_1.tflite", "model.stages_1.tflite.json"]),
    ):
        upload = plan_upload("hf://me/a", name)
        assert upload.notes == ()
        wanted = {"config.json", "metadata.json", "model.weights.h5", "README.md"}
        assert {*files, *wanted, "LICENSE", "example.jpg"} <= set(upload.files)
        assert upload.files["LICENSE"].read() == (ROOT / "LICENSE").read_bytes()
        matter, body = front_matter(upload.card)
        assert matter["license"] == "apache-2.0"
        assert matter["library_name"] == "keras"
        assert matter["pipeline_tag"] == "image-to-image"
        assert "gopro" in matter["datasets"]
        assert "psnr" in matter["metrics"]
        assert {"deblurring", "keras_mhdeblur", "litert"} <= set(matter["tags"])
        example = "https://huggingface.co/me/a/resolve/main/example.jpg"
        assert matter["widget"][0]["src"] == example
        assert "base_model" in matter or "## Base model" in body
        assert 'from_preset("hf://me/a"' in body
        assert f'from_preset("{name}"' not in body
        assert "pip install keras-mhdeblur" in body
        assert not re.search(r"\]\((?!https?:|#)", body)


ENTRIES = {"architecture": "NAFNet", "parameters": 12, "license": "MIT"}


def published(text, **entries):
    entries = ENTRIES | entries
    return published_card(text, {"mine"}, URI, entries, "https://hub/me/small")


def test_what_a_card_says_itself_stays():
    text = (
        "---\nlicense: gpl-3.0\ntags: [mine, deblurring]\ndatasets: [my-photos]\n"
        "base_model: you/them\nlanguage: en\n---\n\n# Title\n\n"
        "[Limits](#limits), [paper](https://a.b/c), [log](../log.md) ![p](p.png)\n\n"
        '```python\nfrom_preset("other")\n```\n\n'
        "```python\nmodel = mhd.from_preset('mine', stages=1)\n```\n"
    )
    matter, body = front_matter(published(text))
    # The licence is the one that the metadata records.
    assert matter["license"] == "mit"
    assert matter["datasets"] == ["my-photos"] and matter["language"] == "en"
    assert matter["base_model"] == "you/them" and "Base model" not in body
    expected = ["mine", "deblurring", "image-restoration", "keras_mhdeblur"]
    assert matter["tags"] == expected
    assert "[Limits](#limits), [paper](https://a.b/c), log p\n" in body
    assert 'from_preset("other")\n```\n\n```bash\npip install' in body
    assert f'model = mhd.from_preset("{URI}", stages=1)' in body


def test_a_card_without_a_snippet_gets_one():
    _, body = front_matter(published("# Mine\n\nText.\n"))
    assert body.index("Text.") < body.index("## Use")
    assert body.count(f'from_preset("{URI}")') == 1
    _, body = front_matter(published(None))
    assert "# small\n" in body and "## Use" not in body
    assert body.count(f'from_preset("{URI}")') == 1


@pytest.mark.parametrize(
    "entries, key, expected",
    [
        ({}, "license", "mit"),
        ({"license": None}, "license", "unknown"),
        ({"license": None, "license_text": "Free."}, "license_link", "LICENSE"),
        ({"training_data": "frames of REDS and GoPro"}, "datasets", ["gopro", "reds"]),
        ({"training_data": "my own photos"}, "datasets", None),
        ({"base_model": "google/maxim"}, "base_model", "google/maxim"),
        ({"base_model": "My own network."}, "base_model", None),
    ],
)
def test_front_matter_of_metadata(entries, key, expected):
    matter, body = front_matter(published(None, **entries))
    assert matter.get(key) == expected
    if entries.get("base_model") == "My own network.":
        assert "## Base model\n\nMy own network.\n" in body


def test_the_origin_of_converted_weights_is_told():
    card = published(None, source={"file": "a.pth", "sha256": "12ab"})
    assert "## Base model\n\nConverted from `a.pth`, sha256 `12ab`." in card
    assert "Converted from: a.pth, sha256 12ab" in default_card(
        "a", {**ENTRIES, "source": {"file": "a.pth", "sha256": "12ab"}}
    )


def test_front_matter_that_is_no_yaml():
    for text, message in (
        ("---\na: [\n---\n", "no YAML"),
        ("---\n3\n---\n", "mapping"),
    ):
        with pytest.raises(PresetError, match=message):
            published(text)


def test_versions_are_tags_that_never_move(hub, preset, tmp_path, make_model):
    first = upload_preset(URI, preset, revision="v1")
    # Once more: nothing to do.
    hub.requests.clear()
    assert upload_preset(URI, preset, revision="v1") == first
    assert not sent(hub) and not any("/commit/" in r for r in hub.requests)
    other = make_model(seed=1)
    other.save_to_preset(tmp_path / "other")
    with pytest.raises(PresetError, match="'v1' is there already and has another"):
        upload_preset(URI, tmp_path / "other", revision="v1")
    assert np.array_equal(weights(from_preset(URI)), weights(make_model()))
    upload_preset(URI, tmp_path / "other", revision="v2")
    assert np.array_equal(weights(from_preset(URI)), weights(other))
    assert np.array_equal(weights(from_preset(f"{URI}@v2")), weights(other))
    assert np.array_equal(weights(from_preset(f"{URI}@v1")), weights(make_model()))
    with pytest.raises(PresetError, match="'main' is the name of a branch"):
        upload_preset(URI, preset, revision="main")


def test_files_of_an_older_version_go(hub, preset, make_model):
    upload_preset(URI, preset)
    head(hub).update({"recipe.yaml": b"seed: 0", "before.png": b"a picture"})
    # As by hand, on the Hub's page: its author keeps the picture.
    make_model(seed=1).save_to_preset(preset)
    upload_preset(URI, preset)
    assert "recipe.yaml" not in head(hub) and "before.png" in head(hub)


def test_a_broken_connection_publishes_nothing_and_goes_on(hub, preset, make_model):
    make_model().save_to_preset(preset, litert=True)
    litert = sha256((preset / "model.tflite").read_bytes()).hexdigest()
    hub.broken.append(f"PUT /large/{litert}")
    with pytest.raises(PresetError, match="connection to .* broke off .*goes on"):
        upload_preset(URI, preset, revision="v1")
    assert head(hub) == {} and not hub.repos["me/small"]["tags"]
    assert list(hub.large_files) == [
        sha256((preset / "model.weights.h5").read_bytes()).hexdigest()
    ]
    hub.broken.clear()
    hub.requests.clear()
    upload_preset(URI, preset, revision="v1")
    assert sent(hub) == [f"PUT /large/{litert}"]
    assert "model.tflite" in head(hub)


def test_a_connection_that_breaks_before_the_tag(hub, preset):
    hub.broken.append("POST .*/tag/")
    with pytest.raises(PresetError, match="broke off"):
        upload_preset(URI, preset, revision="v1")
    hub.broken.clear()
    hub.requests.clear()
    upload_preset(URI, preset, revision="v1")
    assert not any("/commit/" in request for request in hub.requests)
    assert hub.repos["me/small"]["tags"] == {"v1": hub.resolve("me/small", "main")}


def test_other_bytes_on_the_server_are_noticed(hub, preset, monkeypatch):
    def put(path, body):
        hub.large_files[path.removeprefix("/large/")] = body[:-1]
        return 200, {}, {}

    monkeypatch.setattr(hub, "put", put)
    with pytest.raises(PresetError, match="weights.h5 arrived with other bytes"):
        upload_preset(URI, preset, revision="v1")
    assert not hub.repos["me/small"]["tags"]


def test_without_a_token(hub, preset, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(PresetError, match="no valid token.*hf auth login"):
        upload_preset(URI, preset)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    with pytest.raises(PresetError, match="no valid token.*hf auth login.*Received"):
        upload_preset(URI, preset)
    assert hub.repos == {}


def test_without_rights(hub, preset):
    with pytest.raises(PresetError, match="no right to write there"):
        upload_preset("hf://you/new", preset)
    hub.create("you/old")
    with pytest.raises(PresetError, match="no right to write there"):
        upload_preset("hf://you/old", preset)
    assert head(hub, "you/old") == {}


@pytest.mark.parametrize("metadata", [None, b'{"keras_version": "3.0"}'])
def test_another_repository_is_left_alone(hub, preset, metadata):
    hub.create("me/small")
    files = {"README.md": b"# Mine", "thesis.pdf": b"years of work"}
    if metadata is not None:
        files["metadata.json"] = metadata
    hub.commit("me/small", "main", dict(files))
    with pytest.raises(PresetError, match="it is no preset: it holds"):
        upload_preset(URI, preset)
    assert head(hub) == files


def test_an_empty_repository_is_taken(hub, preset):
    hub.create("me/small")
    hub.commit("me/small", "main", {".gitattributes": b"*.h5 filter=lfs"})
    upload_preset(URI, preset)
    assert {".gitattributes", "model.weights.h5"} <= set(head(hub))


def test_a_change_in_between_is_not_lost(hub, preset, monkeypatch):
    upload_preset(URI, preset)
    update_metadata(preset, license="MIT")
    post = hub.post

    def meanwhile(path, body):
        if "/commit/" in path:
            hub.commit("me/small", "main", {"README.md": b"theirs"})
        return post(path, body)

    monkeypatch.setattr(hub, "post", meanwhile)
    with pytest.raises(PresetError, match="somebody else wrote there"):
        upload_preset(URI, preset)
    assert head(hub) == {"README.md": b"theirs"}


def test_nothing_to_publish(hub, preset):
    with pytest.raises(PresetError, match="no weights, only a configuration"):
        upload_preset(URI, "nafnet_width32")
    with pytest.raises(PresetError, match="Unknown preset 'nothing'"):
        upload_preset(URI, "nothing")
    with open(preset / "config.json", "a") as file:
        file.write(" ")
    with pytest.raises(PresetError, match="config.json is damaged"):
        upload_preset(URI, preset)
    assert hub.requests == []


@pytest.mark.parametrize(
    "uri, revision, message",
    [
        ("me/small", None, "Received: uri='me/small'"),
        ("hf://me/small@v1", None, "`revision='v1'`"),
        ("hf://me/small", "a b", "Received: revision='a b'"),
        ("hf://me/small", "../v1", "Received: revision="),
    ],
)
def test_wrong_names(preset, uri, revision, message):
    with pytest.raises(PresetError, match=message):
        plan_upload(uri, preset, revision)


def test_missing_facts_are_named(hub, preset):
    with pytest.warns(UserWarning) as caught:
        upload_preset(URI, preset)
    texts = [str(warning.message) for warning in caught]
    assert any("no licence of the weights" in text for text in texts)
    assert any("no training data" in text for text in texts)
    assert front_matter(head(hub)["README.md"].decode())[0]["license"] == "unknown"
