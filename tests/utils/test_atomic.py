import os

import pytest

from keras_mhdeblur.utils.atomic import atomic_file, atomic_files


class Killed(BaseException):
    pass


def test_a_file_appears_at_the_end(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["out.txt"]


def test_a_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(Killed), atomic_file(path) as partial:
        partial.write_text("half")
        raise Killed
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out.txt"]


def test_what_a_kill_left_is_replaced(tmp_path):
    (tmp_path / "partial").write_text("half of an older one")
    with atomic_file(tmp_path / "out.txt", "partial") as partial:
        partial.write_text("new")
    assert os.listdir(tmp_path) == ["out.txt"]


def test_errors_name_the_file_that_was_given(tmp_path):
    path = tmp_path / "none" / ("x" * 200)
    with pytest.raises(FileNotFoundError) as caught:
        with atomic_file(path) as partial:
            partial.write_bytes(b"")
    assert caught.value.filename == str(path)


def test_files_appear_together(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("old")
    with atomic_files(tmp_path / "deep") as new:
        (new / "a").write_text("new")
        (new / "b").mkdir()
        assert (tmp_path / "deep" / "a").read_text() == "old"
    assert sorted(os.listdir(tmp_path / "deep")) == ["a", "b"]
    assert (tmp_path / "deep" / "a").read_text() == "new"


def test_nothing_appears_when_one_file_fails(tmp_path):
    with pytest.raises(Killed), atomic_files(tmp_path / "new" / "deep") as new:
        (new / "a").write_text("half")
        raise Killed
    assert not os.listdir(tmp_path)


def test_folders_are_replaced_as_a_whole_where_that_is_asked_for(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("")
    with pytest.raises(OSError), atomic_files(tmp_path) as new:
        (new / "folder").mkdir()
    assert os.listdir(tmp_path / "folder") == ["old"]
    with atomic_files(tmp_path, replace_folders=True) as new:
        (new / "folder").mkdir()
        (new / "folder" / "new").write_text("")
    assert os.listdir(tmp_path / "folder") == ["new"]
    assert os.listdir(tmp_path) == ["folder"]
