"""What each kind is made of, and which collections it cannot be built of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import faiss
import pytest
from index_case import CONFIG, KINDS, make_documents, make_index

from leafkit.config import INDEX_KINDS, IndexConfig
from leafkit.core.errors import UsageError
from leafkit.index import kinds as folder
from leafkit.index.kinds import registry as module
from leafkit.index.kinds.ivf import choose_lists
from leafkit.index.kinds.ivf_pq import choose_code_bytes
from leafkit.index.kinds.registry import plan_indexes


@pytest.mark.parametrize(
    ("num_documents", "lists"),
    [
        (1, 1),
        (3, 3),
        (16, 16),
        (64, 32),
        (12_000, 512),
        (18_792, 512),
        (100_000, 1024),
        (1_000_000, 4096),
    ],
)
def test_lists_are_the_power_of_two_nearest_to_four_roots(num_documents, lists):
    assert choose_lists(IndexConfig(), num_documents) == lists
    assert choose_lists(IndexConfig(num_lists=7), num_documents) == 7


@pytest.mark.parametrize(
    ("dim", "code_bytes"), [(384, 48), (768, 96), (100, 10), (896, 112), (97, 1), (4, 1), (1, 1)]
)
def test_code_bytes_divide_the_dimension_and_hold_about_a_bit_for_each(dim, code_bytes):
    assert choose_code_bytes(IndexConfig(), dim) == code_bytes
    assert dim % code_bytes == 0


def test_every_plan_names_faiss_own_description_and_its_sweep():
    plans = {p.kind: p for p in plan_indexes(replace(CONFIG, kinds=KINDS), 1500, 32)}
    assert {k: p.factory for k, p in plans.items() if k != "rabitq"} == {
        "flat": "Flat",
        "hnsw": "HNSW8",
        "ivf_flat": "IVF16,Flat",
        "ivf_pq": "IVF16,PQ8x8np",
        "opq": "OPQ8,IVF16,PQ8x8np",
        "int8": "SQ8",
        "binary": "BFlat",
        "binary_rescored": "BFlat",
    }
    assert [plans["hnsw"].label(s) for s in plans["hnsw"].settings] == [
        "ef_search=10",
        "ef_search=40",
        "ef_search=160",
    ]
    assert [plans["opq"].label(s) for s in plans["opq"].settings] == [
        "num_probes=1",
        "num_probes=4",
        "num_probes=16",
    ]
    assert plans["binary_rescored"].label(4) == "rescore_factor=4"
    assert [plans[k].label(plans[k].settings[0]) for k in ("flat", "int8", "binary")] == [
        "exhaustive"
    ] * 3
    assert plans["ivf_flat"].num_training == 16 * 64
    assert plans["ivf_pq"].num_training == 1500  # 256 codewords would take more than there are


def test_probes_beyond_the_lists_become_one_setting_and_it_is_said(capsys):
    plan = plan_indexes(
        IndexConfig(kinds=["ivf_flat"], num_lists=10, num_probes=[1, 4, 16, 64]), 1500, 32
    )[0]
    assert plan.settings == (1, 4, 10)
    assert "num_probes 16, 64: there are 10 lists" in capsys.readouterr().out


def test_few_training_documents_of_a_codebook_are_said(capsys):
    plan_indexes(IndexConfig(kinds=["ivf_pq"]), 1500, 32)
    assert "trained on 1,500 documents; faiss recommends 9,984" in capsys.readouterr().out
    plan_indexes(IndexConfig(kinds=["ivf_pq"]), 9984, 32)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("config", "num_documents", "dim", "message"),
    [
        (
            IndexConfig(kinds=["ivf_flat"], num_lists=101),
            100,
            32,
            "num_lists=101 is more than the 100 documents",
        ),
        (
            IndexConfig(kinds=["ivf_pq", "opq"]),
            255,
            32,
            "ivf_pq, opq needs 256 documents to train on, there are 255",
        ),
        (
            IndexConfig(kinds=["opq"], code_bytes=5),
            1000,
            32,
            "code_bytes=5 does not divide the 32 dimensions; 2, 4, 8 do",
        ),
        (IndexConfig(kinds=["ivf_pq"], code_bytes=33), 1000, 32, "code_bytes=33 does not divide"),
        (IndexConfig(kinds=["hnsw"], hnsw_links=1), 1000, 32, "hnsw_links=1 is below 2"),
        (IndexConfig(kinds=["annoy"]), 1000, 32, "annoy is not one of flat, hnsw"),
    ],
)
def test_what_cannot_be_built_is_a_mistake_of_the_recipe(config, num_documents, dim, message):
    with pytest.raises(UsageError) as caught:
        plan_indexes(config, num_documents, dim)
    assert message in str(caught.value)
    assert "bench.indexes.kinds" in caught.value.hint


def test_all_mistakes_are_named_at_once():
    with pytest.raises(UsageError) as caught:
        plan_indexes(
            IndexConfig(kinds=["ivf_pq", "hnsw"], num_lists=300, code_bytes=7, hnsw_links=0),
            200,
            32,
        )
    assert all(
        key in str(caught.value)
        for key in ("num_lists", "code_bytes", "256 documents", "hnsw_links")
    )


def test_keys_of_kinds_that_are_not_wanted_are_not_looked_at():
    assert (
        len(
            plan_indexes(
                IndexConfig(kinds=["flat", "binary"], num_lists=300, code_bytes=7, hnsw_links=1),
                20,
                32,
            )
        )
        == 2
    )


def test_a_faiss_without_rabitq_leaves_it_out_and_says_so_once(monkeypatch, capsys):
    monkeypatch.delattr(faiss, "IndexIVFRaBitQ", raising=False)
    plans = plan_indexes(IndexConfig(kinds=["rabitq", "flat", "rabitq"]), 1000, 32)
    assert [p.kind for p in plans] == ["flat"]
    assert capsys.readouterr().out.count("rabitq is left out") == 1


def test_a_kind_named_twice_is_built_once():
    assert len(plan_indexes(IndexConfig(kinds=["flat", "flat"]), 10, 8)) == 1


def test_every_kind_of_the_config_has_a_plan():
    assert {
        p.kind for p in plan_indexes(replace(CONFIG, kinds=list(INDEX_KINDS)), 1500, 32)
    } >= set(KINDS)


def test_the_recipe_s_names_are_the_kinds_there_are():
    assert tuple(module.KINDS) == INDEX_KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_says_of_itself_is_what_faiss_makes_and_reads(kind):
    """The class guards what is read from disk; the sweep must reach the index that is searched."""
    about, built = module.KINDS[kind], make_index(make_documents(), kind)
    assert about.name == kind
    written = (faiss.serialize_index_binary if about.is_binary else faiss.serialize_index)(
        built.index
    )
    read = (faiss.deserialize_index_binary if about.is_binary else faiss.deserialize_index)(written)
    assert type(read).__name__ == about.faiss_class
    assert bool(about.parameter) == (built.plan.settings != (0,))
    if about.faiss_parameter:
        faiss.ParameterSpace().set_index_parameter(built.index, about.faiss_parameter, 3)
    assert about.has_pq_tables == ("PQ" in built.plan.factory)


def test_every_file_of_the_folder_holds_kinds_that_are_listed():
    """A kind that is written and not listed could not be chosen."""
    listed = {type(kind).__module__.rpartition(".")[2] for kind in module.KINDS.values()}
    files = {path.stem for path in Path(folder.__path__[0]).glob("*.py")}
    assert files == listed | {"__init__", "kind", "registry"}
