"""Building: codecs, determinism, blocks, bad vectors, and the GPU through a fake."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import faiss
import index_case
import numpy as np
import pytest
from index_case import CONFIG, KINDS, make_documents, make_index, make_queries, sort_exactly

from leafkit.core.errors import LeafkitError
from leafkit.data.vector_store import Space, VectorStore
from leafkit.index import build, vectors
from leafkit.index.build import build_index, copy_to_gpu
from leafkit.index.kinds.registry import plan_indexes
from leafkit.index.search import search_index
from leafkit.index.storage import measure_bytes

DOCUMENTS = make_documents()
QUERIES = make_queries(DOCUMENTS)


@cache
def built_once(kind):
    return make_index(DOCUMENTS, kind)


def written(built):
    return bytes(
        (faiss.serialize_index_binary if built.plan.about.is_binary else faiss.serialize_index)(
            built.index
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_builds_the_same_index_byte_for_byte(kind):
    assert written(make_index(DOCUMENTS, kind)) == written(built_once(kind))


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq", "opq"])
def test_the_seed_reaches_the_clusters(kind):
    assert written(built_once(kind)) != written(make_index(DOCUMENTS, kind, seed=1))


def test_the_seed_reaches_the_codebooks():
    def codebooks(seed):
        # must outlive what is taken out of it
        index = make_index(DOCUMENTS, "ivf_pq", replace(CONFIG, num_lists=1), seed).index
        return faiss.vector_to_array(
            faiss.downcast_index(faiss.extract_index_ivf(index)).pq.centroids
        )

    assert np.array_equal(codebooks(3), codebooks(3))
    assert not np.array_equal(codebooks(3), codebooks(4))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_documents_build_what_one_block_builds(kind, monkeypatch):
    whole = written(built_once(kind))
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 97)
    assert len(list(vectors.read_blocks(DOCUMENTS))) == 16
    blocks = make_index(DOCUMENTS, kind)
    if (
        kind == "hnsw"
        # faiss links the highest levels of each added batch first: another graph, but as good
    ):
        found = search_index(blocks, QUERIES, 10, 160).positions
        assert (
            np.mean(
                [
                    len(set(a) & set(b))
                    for a, b in zip(found, sort_exactly(QUERIES, DOCUMENTS, 10), strict=True)
                ]
            )
            > 9.8
        )
    else:
        different = sum(a != b for a, b in zip(written(blocks), whole, strict=True))
        # its rotated floats end in other bits
        assert different <= (0.05 * len(whole) if kind == "rabitq" else 0)


def test_threads_are_as_before_after_building(monkeypatch):
    before = faiss.omp_get_max_threads()
    assert make_index(DOCUMENTS[:300], "hnsw").build_threads == 1
    assert faiss.omp_get_max_threads() == before
    monkeypatch.setattr(build, "MAX_SERIAL", 299)
    assert make_index(DOCUMENTS[:300], "hnsw").build_threads == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_by_row(kind, bad):
    documents = DOCUMENTS.copy()
    documents[700, 3] = bad
    with pytest.raises(LeafkitError, match="document 700 is not finite"):
        make_index(documents, kind)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_flat", "int8", "binary", "binary_rescored"])
@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_documents_are_an_index(kind, count):
    built = make_index(DOCUMENTS[:count], kind, replace(CONFIG, num_lists=0))
    found = search_index(built, QUERIES, 10, built.plan.settings[-1], documents=DOCUMENTS[:count])
    assert found.positions.shape == (len(QUERIES), count)
    assert sorted(found.positions[0].tolist()) == list(range(count))


def test_faiss_own_refusal_becomes_an_error_with_the_kind():
    plan = plan_indexes(replace(CONFIG, kinds=["ivf_pq"]), 1500, 32)[0]
    with pytest.raises(
        LeafkitError, match=r"cannot build the index ivf_pq \(IVF16,PQ8x8np\) of 20 x 32 vectors"
    ):
        build_index(DOCUMENTS[:20], replace(plan, num_training=20), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_and_a_memory_map_build_what_an_array_builds(kind, tmp_path):
    half = DOCUMENTS.astype(np.float16)
    texts = [str(i) for i in range(len(half))]
    store = VectorStore(
        tmp_path / "store",
        Space(teacher="x", dim=32, prompt="", max_tokens=8, pooling="mean", normalized=True),
        texts,
        rows_per_shard=400,
    )
    for shard in store.missing():
        store.write(shard, half[shard.start : shard.stop])
    np.save(tmp_path / "map.npy", half)
    expected = written(make_index(half.astype(np.float32), kind))
    plan = plan_indexes(replace(CONFIG, kinds=[kind]), len(half), 32)[0]
    assert written(build_index(store, plan, 0)) == expected
    assert written(build_index(np.load(tmp_path / "map.npy", mmap_mode="r"), plan, 0)) == expected


# --- codecs: what is decoded is what was encoded, within the codec's own step


def test_flat_and_ivf_flat_keep_every_bit():
    flat = built_once("flat").index
    assert np.array_equal(flat.sa_decode(flat.sa_encode(DOCUMENTS)), DOCUMENTS)
    ivf = built_once("ivf_flat").index
    assert np.array_equal(ivf.sa_decode(ivf.sa_encode(DOCUMENTS)), DOCUMENTS)


def test_int8_decodes_within_half_a_step_of_each_dimension():
    index = built_once("int8").index
    codes = index.sa_encode(DOCUMENTS)
    assert codes.shape == DOCUMENTS.shape
    step = (DOCUMENTS.max(axis=0) - DOCUMENTS.min(axis=0)) / 255
    error = np.abs(index.sa_decode(codes) - DOCUMENTS)
    assert (error <= step * 0.51 + 1e-6).mean() > 0.999
    assert (error <= step * 1.01 + 1e-6).all()


def test_int8_saturates_beyond_the_range_it_was_trained_on():
    index = built_once("int8").index
    decoded = index.sa_decode(index.sa_encode(3 * np.eye(32, dtype=np.float32)))
    assert (np.diag(decoded) <= DOCUMENTS.max(axis=0) + 0.01).all()
    assert (np.diag(decoded) >= DOCUMENTS.max(axis=0) - 0.01).all()


@pytest.mark.parametrize(("kind", "least"), [("ivf_pq", 0.9), ("opq", 0.9), ("rabitq", 0.75)])
def test_compressed_codes_decode_to_something_near(kind, least):
    if kind not in KINDS:
        pytest.skip("this faiss has no RaBitQ")
    index = built_once(kind).index
    codes = index.sa_encode(DOCUMENTS)
    decoded = index_case.unit(index.sa_decode(codes))
    assert (decoded * DOCUMENTS).sum(axis=1).mean() > least
    assert len(set(map(bytes, codes))) > 1000  # no collapse


def test_more_code_bytes_lose_less():
    def error(code_bytes):
        index = make_index(DOCUMENTS, "ivf_pq", replace(CONFIG, code_bytes=code_bytes)).index
        return np.square(index.sa_decode(index.sa_encode(DOCUMENTS)) - DOCUMENTS).sum(axis=1).mean()

    errors = [error(code_bytes) for code_bytes in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2]


# --- bytes


def test_bytes_are_those_of_the_serialised_index_links_and_centroids_included():
    for kind in KINDS:
        assert measure_bytes(built_once(kind)) == len(written(built_once(kind)))
    per_vector = {kind: measure_bytes(built_once(kind)) / len(DOCUMENTS) for kind in KINDS}
    assert 128 < per_vector["flat"] < 129
    assert per_vector["hnsw"] > 128 + 2 * 8 * 4  # 2 x 8 links of 4 bytes at the lowest level
    assert 4 <= per_vector["binary"] < 5
    assert 32 < per_vector["int8"] < 34
    assert per_vector["ivf_pq"] > 8 + 8 + 256 * 32 * 4 / 1500  # code, id, and the codebooks' share
    assert per_vector["opq"] > per_vector["ivf_pq"] + 32 * 32 * 4 / 1500  # the rotation's share


# --- the GPU, through a fake that clones on the CPU: nothing here has run on a GPU


class FakeOptions:
    useFloat16 = False


@pytest.fixture
def fake_gpu(monkeypatch):
    calls = []

    def clone(resources, device, index, options=None):
        calls.append((device, options.useFloat16 if options else None))
        return (
            faiss.clone_index(index)
            if isinstance(index, faiss.Index)
            else faiss.clone_binary_index(index)
        )

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", FakeOptions, raising=False)
    monkeypatch.setattr(faiss, "GpuParameterSpace", faiss.ParameterSpace, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", clone, raising=False)
    monkeypatch.setattr(faiss, "index_binary_cpu_to_gpu", clone, raising=False)
    return calls


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq", "opq", "binary"])
def test_a_gpu_copy_finds_what_the_index_finds(kind, fake_gpu):
    built = built_once(kind)
    copy = copy_to_gpu(built)
    assert copy.device == "gpu"
    assert copy.build_s >= built.build_s
    expected = None if kind == "binary" else kind in ("ivf_pq", "opq")
    assert fake_gpu == [(0, expected)]
    setting = built.plan.settings[-1]
    assert np.array_equal(
        search_index(copy, QUERIES, 5, setting).positions,
        search_index(built, QUERIES, 5, setting).positions,
    )


@pytest.mark.parametrize("kind", ["hnsw", "int8", "binary_rescored"])
def test_kinds_without_a_gpu_form_stay_on_the_cpu_and_it_is_said(kind, fake_gpu, capsys):
    assert copy_to_gpu(built_once(kind)) is None
    assert f"index {kind} is measured on the CPU alone" in capsys.readouterr().out


def test_a_gpu_that_refuses_leaves_the_cpu_and_it_is_said(fake_gpu, monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("out of memory on device 0")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refuse, raising=False)
    assert copy_to_gpu(built_once("flat")) is None
    assert "out of memory on device 0" in capsys.readouterr().out
