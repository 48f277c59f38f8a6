"""What leafkit writes others may read, as far as the umask lets them."""

from __future__ import annotations

import os
import tempfile
import time

import pytest

from leafkit.core.artifact import open_artifact, publish
from leafkit.core.file_hashes import HashMemory
from leafkit.core.permissions import share, umask


@pytest.mark.parametrize(("mask", "wanted"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_of_an_artifact_have_the_rights_of_any_new_file(mask, wanted, tmp_path):
    before = os.umask(mask)
    try:
        with publish(tmp_path / "made", "test", {}, {}) as draft:
            (draft / "plain.json").write_text("{}")
            descriptor, name = tempfile.mkstemp(dir=draft)  # as safetensors does
            os.close(descriptor)
            os.rename(name, draft / "model.safetensors")
        time.sleep(0.05)  # what was written this very moment is not remembered as verified
        open_artifact(tmp_path / "made")
        memory = HashMemory(tmp_path / "hashes.json")
        memory.sha256(tmp_path / "made" / "plain.json", "plain")
        memory._is_changed = True
        memory.save()
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "hashes.json", ".verified.json"} <= {path.name for path in files}
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {
        path.name: wanted for path in files
    }


def test_reading_the_umask_leaves_it(tmp_path):
    before = os.umask(0o027)
    try:
        assert umask() == umask() == 0o027
    finally:
        os.umask(before)


def test_rights_beyond_the_umask_stay_and_a_link_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o600)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "script").write_text("")
    (folder / "script").chmod(0o755)
    share(folder)
    assert outside.stat().st_mode & 0o777 == 0o600
    assert (folder / "script").stat().st_mode & 0o777 == 0o755
