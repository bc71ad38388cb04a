"""What a child leaves is taken only if it is what it looks like."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker import files


def take(root: Path, name: str, target: Path, *folders: str) -> bytes:
    with files.opened(root, *folders) as folder:
        files.copy(folder, name, target)
    return target.read_bytes()


def test_a_plain_file_is_copied(tmp_path):
    tmp_path.joinpath("a").mkdir()
    tmp_path.joinpath("a", "file.pt2").write_bytes(b"content")
    assert take(tmp_path, "file.pt2", tmp_path / "copy", "a") == b"content"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../file", "a/b", "/etc/passwd", ".hidden", "a\nb", "x" * 200, "ä", "\0"]
)
def test_a_name_that_is_not_plain_is_refused(tmp_path, name):
    with pytest.raises(files.Escape, match="plain name"):
        take(tmp_path, name, tmp_path / "copy")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "thing")
    with pytest.raises(files.Escape):
        take(tmp_path, "thing", tmp_path / "copy")
    assert not tmp_path.joinpath("copy").exists()


def test_a_link_on_the_way_is_refused(tmp_path):
    tmp_path.joinpath("link").symlink_to("/proc/self")
    with pytest.raises(files.Escape):
        take(tmp_path, "environ", tmp_path / "copy", "link")


def test_a_folder_of_too_many_files_is_refused(tmp_path):
    for number in range(files.MAX_FILES + 1):
        tmp_path.joinpath(str(number)).touch()
    with files.opened(tmp_path) as folder, pytest.raises(files.Escape, match="more than"):
        files.names(folder)
