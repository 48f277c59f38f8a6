"""Token ids of long lists of texts: read once, kept in files, shared by processes and steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.core.errors import LeafkitError
from leafkit.embedders.token_reader import TokenReader, reader_of
from leafkit.pipeline import embed
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.embed import load_tokens
from leafkit.pipeline.run import open_run

TEXTS = [document for _, document in tiny.make_pairs()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def recipe(home, tmp_path):
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    return load_recipe(str(path))


@pytest.fixture
def run(recipe):
    with open_run(recipe) as opened:
        yield opened


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """Also a few texts are worth a file."""
    monkeypatch.setattr(embed, "_FEWEST_KEPT", 1)


class Counted:
    """A reader that says how many texts it was given."""

    def __init__(self, limit: int = 16) -> None:
        encoder, self.num_read = tiny.make_encoder(), 0
        own = reader_of(encoder, "document", limit)

        def read(texts):
            self.num_read += len(texts)
            return own.read(texts)

        self.reader = TokenReader(read, own.identify)
        self.expected = encoder.tokenize(TEXTS, "document", limit)


def lists_of(tokens) -> list[list[int]]:
    return [ids.tolist() for ids in tokens]


def test_texts_are_tokenized_once(run):
    counted = Counted()
    for _ in range(3):
        assert lists_of(load_tokens(run, counted.reader, TEXTS)) == counted.expected
    assert counted.num_read == len(TEXTS)
    again = Counted()
    assert lists_of(load_tokens(run, again.reader, TEXTS)) == again.expected
    assert again.num_read == 0
    other = Counted(limit=12)
    assert lists_of(load_tokens(run, other.reader, TEXTS)) == other.expected
    assert other.num_read == len(TEXTS)
    assert len(list((run.root / "tokens").iterdir())) == 2


@pytest.mark.parametrize("name", ["ids.int32", "offsets.int64", "tokens.json"])
def test_damaged_files_are_named_and_made_anew(run, name, capsys):
    counted = Counted()
    load_tokens(run, counted.reader, TEXTS)
    (path,) = (run.root / "tokens").glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-3])
    assert lists_of(load_tokens(run, counted.reader, TEXTS)) == counted.expected
    shown = capsys.readouterr()
    assert str(path).replace("\n", "") in (shown.out + shown.err).replace("\n", "")
    assert counted.num_read == 2 * len(TEXTS)


def test_few_texts_and_unknown_tokenizers_stay_in_memory(run, monkeypatch):
    counted = Counted()
    nameless = TokenReader(counted.reader.read, lambda: "")
    assert lists_of(load_tokens(run, nameless, TEXTS)) == counted.expected
    monkeypatch.setattr(embed, "_FEWEST_KEPT", len(TEXTS) + 1)
    assert lists_of(load_tokens(run, counted.reader, TEXTS)) == counted.expected
    assert not (run.root / "tokens").exists()


def test_a_process_that_does_not_see_the_files_is_told_so(run, monkeypatch):
    monkeypatch.setattr(embed, "write_tokens", lambda *given: None)
    with pytest.raises(LeafkitError, match=r"process 0 does not see .*tokens"):
        load_tokens(run, Counted().reader, TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"kind": "static", "static": {"document_epochs": 1}}])
def test_a_student_is_the_same_from_files_and_from_memory(home, tmp_path, monkeypatch, changes):
    weights = {}
    for where, fewest in (("files", 1), ("memory", 10**6)):
        monkeypatch.setattr(embed, "_FEWEST_KEPT", fewest)
        plain = tiny.tiny_recipe(home, tmp_path / where)
        plain["student"] |= changes
        path = tiny.write_recipe(tmp_path / "tiny.yaml", plain)
        with open_run(load_recipe(str(path))) as run:
            run_distill(run)
        assert (tmp_path / where / "tokens").exists() is (where == "files")
        folder = tmp_path / where / "tiny" / "student"
        weights[where] = {
            str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*.safetensors")
        } | {"losses": (folder / "losses.json").read_bytes()}
    assert len(weights["files"]) > 1
    assert weights["files"] == weights["memory"]


SCRIPT = """
import sys
from leafkit.config.load import load_recipe
from leafkit.embedders.token_reader import TokenReader, reader_of
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline import embed
from leafkit.pipeline.run import open_run
import json, pathlib, tiny

embed._FEWEST_KEPT = 1
texts = [document for _, document in tiny.make_pairs()]
with open_run(load_recipe(sys.argv[1])) as run:
    own = reader_of(tiny.make_encoder(), "document", 16)
    num_read = 0
    def read(part):
        global num_read
        num_read += len(part)
        return own.read(part)
    found = embed.load_tokens(run, TokenReader(read, own.identify), texts)
    maps = pathlib.Path("/proc/self/maps").read_text()
    said = {"read": num_read, "ids": [ids.tolist() for ids in found], "mapped": "ids.int32" in maps}
    pathlib.Path(sys.argv[2], f"{run.world.rank}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_two_processes_read_what_one_wrote(home, tmp_path):
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    path = tiny.write_recipe(tmp_path / "tiny.yaml", plain)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    support = str(Path(tiny.__file__).parent)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = tiny.environment()
    environment["PYTHONPATH"] = f"{support}:{environment['PYTHONPATH']}"
    subprocess.run(
        [sys.executable, *launcher, str(script), str(path), str(tmp_path)],
        env=environment,
        check=True,
        timeout=120,
        capture_output=True,
    )
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first["read"], second["read"]) == (len(TEXTS), 0)
    assert first["ids"] == second["ids"] == tiny.make_encoder().tokenize(TEXTS, "document", 16)
    assert first["mapped"]
    assert second["mapped"]
