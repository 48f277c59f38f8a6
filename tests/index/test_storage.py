"""Indexes on disk: what is written is what is read; damaged, foreign and mismatched files are
refused by name.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache

import faiss
import numpy as np
import pytest
from index_case import KINDS, make_documents, make_index, make_queries

from leafkit.config import IndexConfig
from leafkit.core.artifact import publish, seal_of
from leafkit.core.checkpoint_layout import FAISS_FILE, MANIFEST_FILE
from leafkit.core.errors import LeafkitError
from leafkit.core.process.lock import exclusive
from leafkit.index import storage
from leafkit.index.search import search_index
from leafkit.index.storage import STEP, load_index, open_index, save_index

DOCUMENTS = make_documents(600)
QUERIES = make_queries(DOCUMENTS)


@cache
def built_once(kind):
    return make_index(DOCUMENTS, kind)


def reseal(folder, change=None):
    """The manifest of a forger: the sha256 fits whatever the file holds now."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["files"][FAISS_FILE] = hashlib.sha256((folder / FAISS_FILE).read_bytes()).hexdigest()
    if change:
        change(manifest)
    manifest["seal"] = seal_of(manifest)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.fixture
def saved(tmp_path):
    save_index(make_index(DOCUMENTS, "ivf_flat"), tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_index_finds_what_the_saved_one_found(kind, tmp_path):
    built = built_once(kind)
    save_index(built, tmp_path / "index")
    loaded = load_index(tmp_path / "index", dim=32)
    assert (loaded.plan, loaded.dim, loaded.num_documents) == (built.plan, 32, 600)
    assert (loaded.build_s, loaded.build_threads) == (built.build_s, built.build_threads)
    for setting in built.plan.settings:
        before, after = (
            search_index(index, QUERIES, 10, setting, documents=DOCUMENTS)
            for index in (built, loaded)
        )
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.scores, after.scores)


def test_saving_again_replaces_the_index(saved):
    save_index(make_index(DOCUMENTS[:300], "flat"), saved)
    assert load_index(saved).num_documents == 300


def test_a_changed_byte_is_found_before_faiss_reads_it(saved, monkeypatch):
    monkeypatch.setattr(
        faiss, "read_index", lambda *_: pytest.fail("faiss has read a damaged file")
    )
    content = bytearray((saved / FAISS_FILE).read_bytes())
    content[-5] ^= 1
    (saved / FAISS_FILE).write_bytes(bytes(content))
    with pytest.raises(LeafkitError, match="does not have the sha256"):
        load_index(saved)


def test_a_missing_file_is_named(saved):
    (saved / FAISS_FILE).unlink()
    with pytest.raises(LeafkitError, match=f"{FAISS_FILE} is missing"):
        load_index(saved)


def test_no_artifact_at_all(tmp_path):
    with pytest.raises(LeafkitError, match="no such artifact"):
        load_index(tmp_path / "nothing")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("kind", ["ivf_flat", "hnsw", "opq", "binary"])
def test_a_truncated_file_with_a_fitting_manifest_is_refused(kind, share, tmp_path):
    save_index(built_once(kind), tmp_path / "index")
    path = tmp_path / "index" / FAISS_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    reseal(tmp_path / "index")
    with pytest.raises(LeafkitError, match=r"no index that faiss .* can read") as caught:
        load_index(tmp_path / "index")
    assert "build the index again" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 64, b"IwFl" + b"\xff" * 200, b"%PDF-1.7 nothing of faiss", b"\x80\x05."],
)
def test_a_foreign_file_with_a_fitting_manifest_is_refused(content, saved):
    (saved / FAISS_FILE).write_bytes(content)
    reseal(saved)
    with pytest.raises(LeafkitError, match=r"no index that faiss .* can read"):
        load_index(saved)


def test_sizes_beyond_the_file_are_refused_without_taking_the_memory(tmp_path):
    save_index(make_index(DOCUMENTS, "flat"), tmp_path / "index")
    path = tmp_path / "index" / FAISS_FILE
    content = path.read_bytes()
    size = np.uint64(600 * 32)
    at = content.index(size.tobytes(), 20)
    forged = content[:at] + np.uint64(2**36).tobytes() + content[at + 8 :]  # 256 GiB of floats
    path.write_bytes(forged)
    reseal(tmp_path / "index")
    with pytest.raises(LeafkitError, match=r"no index that faiss .* can read"):
        load_index(tmp_path / "index")


def test_limits_are_set_while_faiss_reads_and_as_before_afterwards(saved, monkeypatch):
    if not hasattr(faiss, "get_deserialization_vector_byte_limit"):
        pytest.skip("this faiss has no limits")
    seen = []
    read = faiss.read_index

    def spy(path):
        seen.append(
            (faiss.get_deserialization_loop_limit(), faiss.get_deserialization_vector_byte_limit())
        )
        return read(path)

    monkeypatch.setattr(faiss, "read_index", spy)
    before = (faiss.get_deserialization_loop_limit(), faiss.get_deserialization_vector_byte_limit())
    load_index(saved)
    assert seen == [(1024, (saved / FAISS_FILE).stat().st_size + 1)]
    assert (
        faiss.get_deserialization_loop_limit(),
        faiss.get_deserialization_vector_byte_limit(),
    ) == before
    (saved / FAISS_FILE).write_bytes(b"rubbish")
    reseal(saved)
    with pytest.raises(LeafkitError):
        load_index(saved)
    assert (
        faiss.get_deserialization_loop_limit(),
        faiss.get_deserialization_vector_byte_limit(),
    ) == before


def test_a_faiss_without_limits_reads_all_the_same(saved, monkeypatch):
    for name in ("get_deserialization_loop_limit", "get_deserialization_vector_byte_limit"):
        monkeypatch.delattr(faiss, name, raising=False)
    assert load_index(saved).num_documents == 600


def test_another_dimension_is_named(saved):
    with pytest.raises(LeafkitError, match="vectors of 32 dimensions where 384 are needed"):
        load_index(saved, dim=384)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: make_index(DOCUMENTS, "flat"), "IndexFlatIP"),
        (lambda: make_index(DOCUMENTS[:500], "ivf_flat"), "500"),
        (lambda: make_index(np.ascontiguousarray(DOCUMENTS[:, :16]), "ivf_flat"), "16"),
    ],
)
def test_an_index_that_is_not_the_manifests_is_refused(other, difference, saved):
    faiss.write_index(other().index, str(saved / FAISS_FILE))
    reseal(saved)
    with pytest.raises(LeafkitError, match="where its manifest says") as caught:
        load_index(saved)
    assert difference in str(caught.value)


def test_an_index_of_another_metric_is_refused(tmp_path):
    save_index(make_index(DOCUMENTS, "hnsw"), tmp_path / "index")
    other = faiss.IndexHNSWFlat(32, 8)
    other.add(DOCUMENTS)
    faiss.write_index(other, str(tmp_path / "index" / FAISS_FILE))
    reseal(tmp_path / "index")
    with pytest.raises(LeafkitError, match="where its manifest says"):
        load_index(tmp_path / "index")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["inputs"].pop("kind"),
        lambda m: m["inputs"].update(kind="annoy"),
        lambda m: m["inputs"].update(settings=3),
        lambda m: m["inputs"].update(dim="wide"),
        lambda m: m["metrics"].clear(),
    ],
)
def test_a_manifest_that_describes_no_index_is_refused(change, saved):
    reseal(saved, change)
    with pytest.raises(LeafkitError, match="describes no index"):
        load_index(saved)


def test_a_file_that_the_manifest_does_not_list_is_not_trusted(saved):
    reseal(saved, lambda m: m["files"].clear())
    with pytest.raises(LeafkitError, match="not among the files of its manifest"):
        load_index(saved)


def test_an_artifact_of_another_stage_is_refused(tmp_path):
    with publish(tmp_path / "index", "student", {}, {}) as draft:
        (draft / FAISS_FILE).write_bytes(b"x")
    with pytest.raises(LeafkitError, match=f"'student' artifact where '{STEP}' is needed"):
        load_index(tmp_path / "index")


def test_a_full_disk_is_said_and_leaves_the_old_index(tiny_disk):
    save_index(make_index(DOCUMENTS[:40], "flat"), tiny_disk / "index")
    with pytest.raises(LeafkitError, match="cannot write"):
        save_index(make_index(DOCUMENTS, "flat"), tiny_disk / "index")
    assert load_index(tiny_disk / "index").num_documents == 40


@pytest.fixture
def never_built(monkeypatch):
    def forbid():
        monkeypatch.setattr(
            storage, "build_index", lambda *_: pytest.fail("the index was built again")
        )

    return forbid


@pytest.mark.parametrize("kind", ["hnsw", "binary_rescored", "ivf_pq"])
def test_a_kept_index_is_built_once(kind, tmp_path, never_built, capsys):
    first = open_index(tmp_path / "index-a", kind, DOCUMENTS, "vectors-1")
    assert f"{kind} index" in capsys.readouterr().out
    never_built()
    again = open_index(tmp_path / "index-a", kind, DOCUMENTS, "vectors-1")
    assert capsys.readouterr().out == ""
    setting = first.plan.settings[-1]
    one, two = (
        search_index(index, QUERIES, 10, setting, documents=DOCUMENTS).positions
        for index in (first, again)
    )
    assert np.array_equal(one, two)


def test_an_index_of_other_documents_is_built_again(tmp_path):
    open_index(tmp_path / "index", "int8", DOCUMENTS, "vectors-1")
    found = open_index(tmp_path / "index", "int8", DOCUMENTS[:300], "vectors-2")
    assert found.num_documents == 300
    assert load_index(tmp_path / "index").num_documents == 300


def test_an_index_of_other_settings_is_built_again(tmp_path, monkeypatch):
    open_index(tmp_path / "index", "hnsw", DOCUMENTS, "vectors-1")
    monkeypatch.setattr(
        storage, "IndexConfig", lambda kinds: IndexConfig(kinds=kinds, hnsw_links=8)
    )
    assert open_index(tmp_path / "index", "hnsw", DOCUMENTS, "vectors-1").plan.factory.startswith(
        "HNSW8"
    )


def test_a_damaged_kept_index_is_refused_and_not_silently_replaced(tmp_path):
    open_index(tmp_path / "index", "int8", DOCUMENTS, "vectors-1")
    (tmp_path / "index" / FAISS_FILE).write_bytes(b"cut")
    with pytest.raises(LeafkitError, match="does not have the sha256"):
        open_index(tmp_path / "index", "int8", DOCUMENTS, "vectors-1")


def test_what_was_half_replaced_when_the_machine_died_is_found_again(tmp_path, never_built):
    open_index(tmp_path / "index", "int8", DOCUMENTS, "vectors-1")
    (tmp_path / "index").rename(tmp_path / ".index.old")
    never_built()
    assert open_index(tmp_path / "index", "int8", DOCUMENTS, "vectors-1").num_documents == 600


def test_two_processes_do_not_build_into_one_place(tmp_path):
    with exclusive(tmp_path), pytest.raises(LeafkitError, match="is in use by"):
        open_index(tmp_path / "index", "int8", DOCUMENTS, "vectors-1")
