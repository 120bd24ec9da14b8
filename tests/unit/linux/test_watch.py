"""Following files that others replace."""

import os
import select

import pytest

from wgpy.linux.watch import Watch


@pytest.fixture
def watch():
    made = Watch()
    yield made
    made.close()


def woke(watch):
    """Whether something changed; asking clears it."""
    ready = bool(select.select([watch.fd], [], [], 0)[0])
    watch.acknowledge()
    return ready


def test_a_file_written_anew_wakes(watch, tmp_path):
    file = tmp_path / "ca.crl"
    file.write_text("one")
    watch.follow([str(file)])
    assert not woke(watch)
    file.write_text("two")
    assert woke(watch)
    assert not woke(watch)


def test_a_file_replaced_by_a_rename_wakes_each_time(watch, tmp_path):
    file = tmp_path / "ca.crl"
    file.write_text("one")
    watch.follow([str(file)])
    for text in ("two", "three"):
        new = tmp_path / "new"
        new.write_text(text)
        woke(watch)
        os.replace(new, file)
        assert woke(watch)


def test_a_file_that_is_not_there_yet_wakes_when_it_comes(watch, tmp_path):
    file = tmp_path / "later.pem"
    watch.follow([str(file)])
    file.write_text("here")
    assert woke(watch)


def test_a_directory_wakes_for_what_comes_and_goes(watch, tmp_path):
    watch.follow([str(tmp_path)])
    file = tmp_path / "one.crl"
    file.write_text("one")
    assert woke(watch)
    file.unlink()
    assert woke(watch)


def test_what_is_followed_no_longer_is_quiet(watch, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    watch.follow([str(old)])
    watch.follow([str(new)])
    woke(watch)
    (old / "file").write_text("text")
    assert not woke(watch)
    (new / "file").write_text("text")
    assert woke(watch)


def test_reading_a_file_does_not_wake(watch, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("text")
    watch.follow([str(file)])
    file.read_text()
    assert not woke(watch)


def test_a_directory_that_is_missing_is_an_error(watch, tmp_path):
    with pytest.raises(FileNotFoundError):
        watch.follow([str(tmp_path / "missing" / "file")])


def test_a_directory_made_anew_is_followed_after_asking_again(watch, tmp_path):
    place = tmp_path / "crls"
    place.mkdir()
    watch.follow([str(place)])
    place.rmdir()
    assert woke(watch)
    place.mkdir()
    watch.follow([str(place)])
    woke(watch)
    (place / "file").write_text("text")
    assert woke(watch)
