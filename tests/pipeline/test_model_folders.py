"""What sentence-transformers reads as a teacher is read with equal vectors, or refused with the
true reason: tiny folders of every kind against sentence-transformers itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_folders as ff
import numpy as np
import pytest
import tiny
import torch
from torch import nn

from leafkit.config import TeacherConfig
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.embedders.black_box import BlackBoxEmbedder
from leafkit.models.checkpoint import load_encoder, read_encoder
from leafkit.models.folder import fingerprint_of_folder
from leafkit.pipeline.model_handle import ModelOpener

st = pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")
TEXTS = [
    "Compute the matrix",
    "read the queue backwards and split the string " * 12,  # beyond every limit
    "",
    "Überraschung für 東京 😀 é ß İ\n\tqueue",
    "a",
]
PROMPTS = {"query": "find the answer : ", "document": "table : "}
QUICK = ("mpnet", "xlm-roberta", "qwen3", "gemma3_text")
SLOW = (
    "bert roberta distilbert camembert albert electra deberta-v2 modernbert qwen2 llama mistral opt"
).split()


class Bare:
    """Backbones by architecture, each written once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, architecture: str) -> Path:
        folder = self._root / architecture
        if not folder.is_dir():
            ff.write_bare(folder, architecture)
        return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Bare:
    return Bare(tmp_path_factory.mktemp("bare"))


def teacher(folder: Path, trust_remote_code: bool = False):
    config = TeacherConfig(source=f"model:{folder}", trust_remote_code=trust_remote_code)
    opener = ModelOpener(torch.device("cpu"), torch.float32, folder.parent / "checkpoints", config)
    return opener.open_teacher().model


def mine(model, role: str, texts: list[str] = TEXTS) -> np.ndarray:
    return model.embed(texts, role, model.max_tokens)


def theirs(folder: Path, role: str, texts: list[str] = TEXTS) -> np.ndarray:
    model = st.SentenceTransformer(str(folder), device="cpu")
    return (model.encode_query if role == "query" else model.encode_document)(
        texts, normalize_embeddings=True
    )


def assert_equal(folder: Path, **settings: Any) -> None:
    model = teacher(folder, **settings)
    their_model = st.SentenceTransformer(str(folder), device="cpu", **settings)
    methods = {"query": their_model.encode_query, "document": their_model.encode_document}
    for role, encode in methods.items():
        expected = encode(TEXTS, normalize_embeddings=True)  # it ranks by cosine
        assert model.dim == expected.shape[1]
        np.testing.assert_allclose(mine(model, role), expected, atol=2e-6)


@pytest.mark.parametrize(
    "architecture",
    [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_every_architecture_is_an_encoder_here(tmp_path, bare, architecture):
    folder = ff.save(tmp_path / "m", bare(architecture), ff.normalize(), prompts=PROMPTS)
    assert teacher(folder).encoder is not None
    assert_equal(folder)


def token_dense() -> list[Any]:
    from sentence_transformers.models import Pooling

    return [ff.dense(ff.WIDTH, 32, module_input_name="token_embeddings"), Pooling(32)]


def edited(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: ff.edit(folder / name, **changes)


def rename_settings(folder: Path) -> None:
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    ff.edit(folder / "sentence_roberta_config.json", max_seq_length=17)


def write_language_model(folder: Path) -> None:
    ff.edit(folder / "config.json", architectures=["Qwen2ForCausalLM"])


LINEAR = {
    "no module behind the pooling": {},
    "normalized": {"after": lambda: [ff.normalize()]},
    "one map": {"after": lambda: [ff.dense(32, 24), ff.normalize()]},
    "two maps": {"after": lambda: [ff.dense(32, 64, bias=False), ff.dense(64, 24)]},
    "three maps": {
        "after": lambda: [ff.dense(32, 64), ff.dense(64, 40), ff.dense(40, 8, bias=False)]
    },
    "a residual": {"after": lambda: [ff.dense(32, 32, use_residual=True), ff.normalize()]},
    "a residual of another width": {"after": lambda: [ff.dense(32, 24, use_residual=True)]},
    "first token": {"pooling": "cls"},
    "last token": {"pooling": "lasttoken"},
    "weights of torch.save": {"after": lambda: [ff.dense(32, 24)], "then": ff.to_bin},
    "weights in shards": {"then": ff.shard},
    "lower-cased": {
        "then": lambda folder: [
            ff.edit(folder / "sentence_bert_config.json", do_lower_case=True),
            ff.edit(folder / "tokenizer_config.json", do_lower_case=False),
        ]
    },
    "an older name of the settings": {"then": rename_settings},
    "modes of the older layout": {
        "then": edited("1_Pooling/config.json", pooling_mode=..., pooling_mode_cls_token=True)
    },
}
WHOLE = {
    "an activation": {"after": lambda: [ff.dense(32, 24, nn.Tanh()), ff.normalize()]},
    "the default activation": {
        "after": lambda: [ff.dense(32, 24)],
        "then": edited("2_Dense/config.json", activation_function=...),
    },
    "an activation that is not torch's": {
        "after": lambda: [ff.dense(32, 24)],
        "then": edited("2_Dense/config.json", activation_function="other.Identity"),
    },
    "normalized before the map": {"after": lambda: [ff.normalize(), ff.dense(32, 24)]},
    "a map of every token": {"modules": token_dense},
    "largest value": {"pooling": "max"},
    "square root of the length": {"pooling": "mean_sqrt_len_tokens"},
    "weighted by place": {"pooling": "weightedmean"},
    "two poolings": {"pooling": ("mean", "max")},
    "no pooling named": {
        "then": edited("1_Pooling/config.json", pooling_mode=..., pooling_mode_mean_tokens=False)
    },
    "the prompt left out": {"then": edited("1_Pooling/config.json", include_prompt=False)},
    "a limit of queries": {"then": edited("sentence_bert_config.json", query_length=12)},
    "settings of the tokenizer": {
        "then": edited("sentence_bert_config.json", tokenizer_args={"truncation_side": "left"})
    },
}


@pytest.mark.parametrize("kind", [*LINEAR, *WHOLE])
def test_every_sequence_of_modules_gives_their_vectors(tmp_path, bare, kind):
    case = {**LINEAR, **WHOLE}[kind]
    folder = ff.save(
        tmp_path / "m",
        bare("bert"),
        *case.get("after", list)(),
        pooling=case.get("pooling", "mean"),
        modules=case["modules"]() if "modules" in case else None,
        prompts=PROMPTS,
    )
    case.get("then", lambda _: None)(folder)
    assert_equal(folder)
    assert (teacher(folder).encoder is None) == (kind in WHOLE)
    if kind in WHOLE:
        with pytest.raises(LeafkitError) as caught:  # as a student's start
            load_encoder(f"model:{folder}")
        assert "teacher.source" in caught.value.hint


def write_router(folder: Path, bare: Bare) -> Path:
    from sentence_transformers.models import Pooling, Router, Transformer

    routes = [
        [Transformer(str(bare(name)), max_seq_length=limit), Pooling(ff.WIDTH)]
        for name, limit in (("bert", 20), ("mpnet", 30))
    ]
    router = Router.for_query_document(*routes)
    st.SentenceTransformer(modules=[router], device="cpu").save(str(folder))
    return folder


def write_table(folder: Path, bare: Bare) -> Path:
    from sentence_transformers.models import StaticEmbedding

    torch.manual_seed(0)
    table = StaticEmbedding(tiny.make_tokenizer(), embedding_dim=16)
    st.SentenceTransformer(modules=[table], device="cpu").save(str(folder))
    return folder


def write_words(folder: Path, bare: Bare) -> Path:
    from sentence_transformers.models import Pooling, WordEmbeddings
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

    words = tiny.VERBS + tiny.THINGS + tiny.OTHERS
    torch.manual_seed(0)
    table = WordEmbeddings(WhitespaceTokenizer(words, stop_words=[]), torch.randn(len(words), 16))
    st.SentenceTransformer(modules=[table, Pooling(16)], device="cpu").save(str(folder))
    return folder


@pytest.mark.parametrize("write", [write_router, write_table, write_words])
def test_models_without_one_transformer_teach_as_a_whole(tmp_path, bare, write):
    folder = write(tmp_path / "m", bare)
    assert_equal(folder)
    assert isinstance(teacher(folder), BlackBoxEmbedder)


def test_a_shorter_cut_reaches_a_model_that_is_read_whole(tmp_path, bare):
    folder = ff.save(tmp_path / "m", bare("bert"), pooling="max")
    model = teacher(folder)
    whole, cut = (model.embed(TEXTS, "document", limit) for limit in (ff.LIMIT, 12))
    assert not np.allclose(whole[1], cut[1], atol=1e-3)
    ff.edit(folder / "tokenizer_config.json", model_max_length=12)
    np.testing.assert_allclose(cut, theirs(folder, "document"), atol=2e-6)
    np.testing.assert_array_equal(model.embed(TEXTS, "document", 10**6), whole)


def test_the_encoder_of_a_t5_is_read_alone(tmp_path):
    bare = ff.write_t5(tmp_path / "bare")
    layers = [ff.dense(32, 24, bias=False), ff.normalize()]
    folder = ff.save(tmp_path / "m", bare, *layers, prompts=PROMPTS)
    assert_equal(folder)
    for path in folder.glob("model.safetensors"), bare.glob("*.json"), bare.glob("*.safetensors"):
        for file in path:  # a whole T5, with its decoder, as published ones are
            shutil.copy(bare / file.name, folder / file.name)
    ff.edit(folder / "tokenizer_config.json", model_max_length=ff.LIMIT)
    assert_equal(folder)
    assert teacher(folder).encoder is not None


def test_without_any_limit_a_text_is_read_to_its_end(tmp_path):
    folder = ff.save(tmp_path / "m", ff.write_t5(tmp_path / "bare"), limit=None)
    assert_equal(folder)


def test_a_bare_transformer_has_their_pooling_and_is_normalized(tmp_path, bare):
    for architecture, change in (("bert", None), ("qwen2", write_language_model)):
        folder = shutil.copytree(bare(architecture), tmp_path / architecture)
        if change:
            change(folder)
        texts = list(filter(None, TEXTS))  # bytes of an empty one leave nothing to pool there
        expected = theirs(folder, "query", texts)
        np.testing.assert_allclose(mine(teacher(folder), "query", texts), expected, atol=2e-6)


def test_a_text_model_inside_text_config_is_read_alone(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    folder = ff.write_gemma3(tmp_path / "m")
    model = teacher(folder)
    assert model.encoder is not None
    assert model.encoder.backbone.config.model_type == "gemma3_text"
    backbone, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = list(filter(None, TEXTS))  # the end of an empty one is padding, whose vector is zero
    for text, found in zip(texts, mine(model, "query", texts), strict=True):
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=model.max_tokens)
        with torch.no_grad():
            hidden = backbone(**ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(found, (hidden / hidden.norm()).numpy(), atol=2e-6)


@pytest.mark.parametrize("base", ["absolute", "inside"])
def test_an_adapter_is_merged_into_the_model_that_it_names(tmp_path, bare, base):
    peft = pytest.importorskip("peft", reason="pip install peft")
    from transformers import AutoModel

    place = tmp_path / "base"
    shutil.copytree(bare("bert"), place)
    folder = ff.write_lora(tmp_path / "m", place)
    if base == "inside":
        shutil.move(place, folder / "base")
        ff.edit(folder / "adapter_config.json", base_model_name_or_path="base")
        place = folder / "base"
    model = teacher(folder)
    backbone = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(place), str(folder)).eval()
    ids = model.encoder.tokenize(["compute the matrix"], "query")
    with torch.no_grad():
        hidden = backbone(input_ids=torch.tensor(ids)).last_hidden_state[0].mean(dim=0)
    found = mine(model, "query", ["compute the matrix"])[0]
    np.testing.assert_allclose(found, (hidden / hidden.norm()).numpy(), atol=2e-6)
    plain = mine(teacher(place), "query", ["compute the matrix"])[0]
    assert not np.allclose(found, plain, atol=1e-3)
    before = fingerprint_of_folder(folder)  # covers the model under the adapter
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert fingerprint_of_folder(folder) != before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"base_model_name_or_path": "owner/name"}, "whose revision is None: unpinned"),
        ({"base_model_name_or_path": "owner/name", "revision": "main"}, "revision is 'main'"),
        ({"base_model_name_or_path": "/no/such"}, "is no folder and no hub id"),
        ({"base_model_name_or_path": None}, "is no folder and no hub id"),
    ],
)
def test_an_adapter_of_an_unknown_model_is_refused(tmp_path, bare, changes, match):
    pytest.importorskip("peft", reason="pip install peft")
    folder = ff.write_lora(tmp_path / "m", bare("bert"))
    ff.edit(folder / "adapter_config.json", **changes)
    with pytest.raises(LeafkitError, match=match) as caught:
        teacher(folder)
    assert "merge the adapter" in caught.value.hint


def test_an_adapter_of_another_model_is_refused(tmp_path, bare):
    pytest.importorskip("peft", reason="pip install peft")
    folder = ff.write_lora(tmp_path / "m", bare("bert"))
    ff.edit(folder / "adapter_config.json", base_model_name_or_path=str(bare("roberta")))
    file = folder / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = {key.replace("encoder.", "bert.encoder."): v for key, v in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(LeafkitError, match="the adapter's weights are for another model"):
        teacher(folder)


def test_a_folders_own_code_runs_where_it_is_trusted_and_nothing_else_does(tmp_path, bare):
    folder = ff.write_own_code(tmp_path / "m", bare("qwen2"))
    with pytest.raises(
        LeafkitError, match=r"code of its own \(config.json: modeling_own"
    ) as caught:
        teacher(folder)
    assert "teacher.trust_remote_code=true" in caught.value.hint
    assert_equal(folder, trust_remote_code=True)
    own = mine(teacher(folder, trust_remote_code=True), "query")
    ff.edit(folder / "config.json", auto_map=...)
    stock = mine(teacher(folder), "query")
    assert (own * stock).sum(axis=1)[:2].max() < 0.999  # two-way attention is another model
    before = fingerprint_of_folder(folder)
    (folder / "modeling_own.py").write_text(ff.OWN_CODE + "# changed\n")
    assert fingerprint_of_folder(folder) != before


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}}),
        ("modules.json", {}),
    ],
)
def test_own_code_of_every_part_is_refused_without_trust(tmp_path, bare, file, changes):
    folder = ff.save(tmp_path / "m", bare("bert"), ff.normalize())
    if changes:
        ff.edit(folder / file, **changes)
    else:
        ff.edit_modules(folder, lambda modules: modules[1].update(type="custom_st.Pooling"))
    for read in (teacher, read_encoder):
        with pytest.raises(LeafkitError, match=f"code of its own .*{file}.*not trusted"):
            read(folder)


@pytest.mark.parametrize("write", [None, write_table])
def test_code_of_another_repository_is_never_run(tmp_path, bare, write):
    if write:
        folder = write(tmp_path / "m", bare)
        own = {"idx": 1, "name": "1", "path": "", "type": "owner/other--own.Pooling"}
        ff.edit_modules(folder, lambda modules: modules.append(own))
    else:
        folder = ff.write_own_code(tmp_path / "m", bare("qwen2"))
        ff.edit(folder / "config.json", auto_map={"AutoModel": "owner/other--modeling_own.Own"})
    for is_trusted in (False, True):
        with pytest.raises(LeafkitError, match="code of another repository"):
            teacher(folder, trust_remote_code=is_trusted)


def test_code_for_other_tasks_is_no_code_of_the_embedding_model(tmp_path, bare):
    folder = ff.save(tmp_path / "m", bare("bert"), ff.normalize())
    ff.edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    assert_equal(folder)


def test_a_model_of_images_too_is_refused(tmp_path, bare):
    folder = ff.save(tmp_path / "m", bare("bert"))
    ff.edit_modules(
        folder,
        lambda modules: modules[0].update(type="sentence_transformers.models.CLIPModel"),
    )
    with pytest.raises(LeafkitError, match="CLIPModel reads images beside text"):
        teacher(folder)


def test_without_sentence_transformers_the_reason_and_the_remedy_are_said(
    tmp_path, bare, monkeypatch
):
    import importlib.util

    folder = ff.save(tmp_path / "m", bare("bert"), pooling="max")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "sentence_transformers" else real(name, *a),
    )
    with pytest.raises(
        MissingExtra, match="exactly one of mean, cls, last: max; reading"
    ) as caught:
        teacher(folder)
    assert 'pip install "leafkit[sentence-transformers]"' in caught.value.hint


@pytest.mark.parametrize(
    ("architecture", "told", "limit"),
    [
        ("roberta", None, 67),
        ("xlm-roberta", None, 67),
        ("mpnet", None, 66),
        ("bert", None, 68),
        ("bert", 500, 68),
        ("roberta", 500, 67),
        ("opt", 500, 68),
        ("qwen2", 500, 500),  # turns its positions, and has no table of them
    ],
)
def test_texts_are_cut_at_the_positions_that_there_are(
    tmp_path, bare, caplog, architecture, told, limit
):
    folder = ff.save(tmp_path / "m", bare(architecture), limit=None)
    ff.edit(folder / "sentence_bert_config.json", max_seq_length=told or ...)
    with caplog.at_level("WARNING", logger="leafkit"):
        model = teacher(folder)
    assert model.max_tokens == limit
    assert ("texts are cut at" in caplog.text) == (told is not None and told > limit)
    vectors = mine(model, "document", ["the queue and the table " * 200])
    cut = theirs_cut(folder, limit, "the queue and the table " * 200)
    np.testing.assert_allclose(vectors[0], cut, atol=2e-6)


def theirs_cut(folder: Path, limit: int, text: str) -> np.ndarray:
    model = st.SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = limit
    return model.encode(text, normalize_embeddings=True)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_tokens_beyond_the_table_are_named_at_load(tmp_path, bare, pooling):
    folder = ff.save(tmp_path / "m", bare("bert"), pooling=pooling)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["foobar", "barfoo"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(LeafkitError, match=r"2 tokens beyond the 157 .* 'foobar' \(157\)"):
        teacher(folder)


@pytest.mark.parametrize("case", ["width", "chain", "outside", "residual"])
def test_dense_modules_that_do_not_fit_are_named_at_load(tmp_path, bare, case):
    folder = ff.save(tmp_path / "m", bare("bert"), ff.dense(32, 24), ff.dense(24, 8))
    if case == "width":
        ff.edit_modules(folder, lambda modules: modules.pop(2))
    if case == "chain":
        ff.edit_modules(folder, lambda modules: modules.insert(2, dict(modules[3])))
    if case == "outside":
        ff.edit_modules(folder, lambda modules: modules[3].update(path="../3_Dense"))
    if case == "residual":
        ff.edit(folder / "3_Dense" / "config.json", use_residual=True)
    match = {
        "width": "its Dense module takes 24 dimensions, and the model gives 32",
        "chain": "in_features 32, and 3_Dense before it gives 8",
        "outside": "outside of the model's folder",
        "residual": "3_Dense: the projection cannot be loaded",
    }
    with pytest.raises(LeafkitError, match=match[case]):
        teacher(folder)


def write_llama_tokenizer(folder: Path, specials: dict[str, str], **asked: bool) -> None:
    """tokenizer.json without ends, whatever its config asks for."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<s>", "</s>", *tiny.OTHERS, *tiny.THINGS]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    core.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "model_max_length": ff.LIMIT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config | specials | asked))


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ({"add_eos_token": True}, [], [2]),
        ({"add_bos_token": True}, [1], []),
        ({"add_bos_token": True, "add_eos_token": True}, [1], [2]),
        ({"add_bos_token": False, "add_eos_token": False}, [], []),
        ({}, [], []),
    ],
)
@pytest.mark.parametrize("pooling", ["lasttoken", "mean"])
def test_texts_begin_and_end_as_the_config_asks(tmp_path, bare, asked, begin, end, pooling):
    folder = ff.save(tmp_path / "m", bare("llama"), ff.normalize(), pooling=pooling)
    specials = {"bos_token": "<s>", "eos_token": "</s>"}
    write_llama_tokenizer(folder, specials, **asked)
    encoder = read_encoder(folder)
    plain = [3, 4]
    assert encoder.tokenize(["the of"], "document") == [[*begin, *plain, *end]]
    cut = encoder.tokenize(["the of " * 90], "document")[0]
    assert len(cut) == ff.LIMIT
    assert cut[-1:] == end or not end
