"""The lines of the Python API, one after the other in one fresh interpreter without a hub: they
work, print nothing, and write only where they were told to.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

LINES = """
import json, pathlib, sys, time, urllib.request
import leafkit

home, work = map(pathlib.Path, sys.argv[1:3])
pairs = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
docs = [{"id": f"d{i}", "text": row["positive"]} for i, row in enumerate(pairs)]
questions = [row["query"] for row in pairs if row["split"] == "train"]
small = {"num_pseudo_texts": 16, "seed": 1}

config = leafkit.StudentConfig(num_epochs=2)
pair   = leafkit.distill(teacher=f"model:{home / 'big'}", student="builtin:minilm", texts=docs,
                         queries=questions, config=config, **small)
pair.save(work / "pair")
pair   = leafkit.load_pair(work / "pair")            # the space is checked here
q      = pair.encode_query("invert a sparse matrix")             # student, prompt included
d      = pair.encode_document(["Compute the inverse ..."], dim=24)
hits   = pair.search("invert a sparse matrix", k=5)              # a table in a notebook
result = leafkit.evaluate(pair, f"beir:{home / 'beir'}", num_resamples=200)
frame, markdown, latex = result.to_pandas(), result.to_markdown(), result.to_latex()
gates  = leafkit.InheritConfig(max_gap={"float32": 1.0, "int8": 1.0, "binary": 1.0})
judged = f"beir:{home / 'beir'}"
grid   = leafkit.check_inheritance(pair, collection=judged, config=gates, num_resamples=200)
made   = leafkit.export(pair, work / "hub", to=["hub", "onnx"])
server = leafkit.serve(pair, port=0, block=False)
with urllib.request.urlopen(f"{server.url}/health", timeout=30) as answer:
    health = answer.status
server.close()
init   = f"model:{home / 'small'}"
stages = {"only": leafkit.StageConfig(init=init, neighbor_model=init, num_steps=2, batch_size=8,
                                      anchor_batch_size=4, num_neighbors=4)}
rows = [{"query": row["query"], "positives": [row["positive"]]} for row in pairs]
teacher = leafkit.train_teacher(stages, rows)
config = leafkit.StudentConfig(num_epochs=0.5)
own    = leafkit.distill(teacher, init, docs, questions, config=config, **small)
(work / "seen.json").write_text(json.dumps({
    "shapes": [q.shape, d.shape, own.encode_query("a").shape],
    "hits": [len(hits), "<table>" in hits._repr_html_(), repr(hits).count(chr(10))],
    "pair": [repr(pair), "<table>" in pair._repr_html_()],
    "rows": [len(frame), "nDCG" in markdown, "tabular" in latex],
    "retained": pair.retention.measured_on,
    "grid": [grid.passed, len(grid.cells)],
    "export": sorted(made),
    "health": health,
}))
"""


def write_beir(folder: Path, rows: list[dict[str, str]]) -> None:
    """The test pairs as a collection of BEIR's."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"d{i}", "title": "", "text": row["positive"]}) + "\n"
            for i, row in enumerate(rows)
        )
    )
    (folder / "queries.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"q{i}", "text": row["query"]}) + "\n" for i, row in enumerate(rows)
        )
    )
    judged = [f"q{i}\td{i}\t1\n" for i, row in enumerate(rows) if row["split"] == "test"]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_line_of_the_python_api_in_one_fresh_interpreter(tmp_path: Path) -> None:
    home = tiny.make_home(tmp_path / "given")
    rows = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
    write_beir(home / "beir", rows)
    folders = {name: tmp_path / name for name in ("here", "user", "temporary", "work")}
    for folder in folders.values():
        folder.mkdir()
    before = set(home.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", LINES, str(home), str(folders["work"])],
        cwd=folders["here"],
        env=tiny.environment(HOME=str(folders["user"]), TMPDIR=str(folders["temporary"])),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    seen = json.loads((folders["work"] / "seen.json").read_text())
    assert seen["shapes"] == [[48], [1, 24], [32]]
    assert seen["hits"] == [5, True, 5]
    assert "retention  asymmetric" in seen["pair"][0]
    assert seen["rows"][0] > 0
    assert seen["rows"][1:] == [True, True]
    assert seen["retained"] == "beir"
    assert seen["grid"] == [True, 12]
    assert seen["export"] == ["onnx", "pair", "student", "teacher"]
    assert seen["health"] == 200
    # only what was asked for: nothing in the current folder, at home or beside the inputs
    assert list(folders["here"].iterdir()) == []
    # onnxruntime itself leaves a device id in the user's cache when it is imported
    written = [p for p in folders["user"].rglob("*") if p.is_file()]
    assert [p for p in written if ".onnxruntime" not in p.parts] == []
    assert set(home.rglob("*")) == before
    assert sorted(p.name for p in folders["work"].iterdir()) == ["hub", "pair", "seen.json"]
