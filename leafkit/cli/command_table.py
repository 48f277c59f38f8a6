"""Every command of the command line: how it is called and what it does.

What runs a command is ``run`` in the module of ``leafkit.cli.commands`` that has its name; it is
imported when the command is called, so that help and wrong use answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """What a command says of itself: its words, and what it does.

    Attributes:
        usage: the words behind it.
        does: a sentence without its full stop.
        words: that a shell may complete, beside keys of recipes.
    """

    usage: str
    does: str
    words: tuple[str, ...] = ()


COMMANDS = {
    "distill": Command(
        "recipe=NAME [dry_run=true] [key=value ...]",
        "everything: corpus, teacher, teacher vectors, student, benchmark, inheritance, report",
    ),
    "teach": Command("recipe=NAME [dry_run=true] [key=value ...]", "train the teacher alone"),
    "mine": Command(
        "recipe=NAME [key=value ...]",
        "hard negatives for the recipe's stages, and the ranking-consistency filter",
    ),
    "synth": Command(
        "recipe=NAME [synth.model=NAME synth.endpoint.base_url=URL key=value ...]",
        "persona-based synthetic training rows from a chat model, resumable; shows the cost "
        "before it starts",
    ),
    "embed": Command(
        "recipe=NAME [to=STORE] [key=value ...]",
        "embed the documents with the teacher, resumable, into an index; to=qdrant:URL/COLLECTION, "
        "parquet:FOLDER, ... sends them to a store, too",
        ("to=", "to_precision="),
    ),
    "bench": Command(
        "recipe=NAME | teacher=MODEL student=MODEL collections=SOURCE [key=value ...]",
        "asymmetric retrieval benchmark of any teacher and student on any collections, BM25 "
        "beside them",
    ),
    "inherit": Command(
        "recipe=NAME | teacher=MODEL student=MODEL corpus=SOURCE [strict=true] [diagnose=true] "
        "[key=value ...]",
        "Matryoshka and quantization inheritance, with gates; exit status 1 when one fails; "
        "diagnose=true looks at a teacher",
    ),
    "compare": Command(
        "FOLDER FOLDER ... [out=comparison.html]", "several runs in one report", ("out=",)
    ),
    "export": Command(
        "recipe=NAME [to=hub,onnx,openvino,web] [push=OWNER/NAME [private=false] [yes=true]] "
        "[license=apache-2.0] [web_runtime=FOLDER] [key=value ...]",
        "the student as ONNX graphs for leafkit's own queries; with to= student, teacher and pair "
        "in folders that other tools open, with push= on the hub; all checked against the model",
        ("to=", "push=", "yes=", "private=", "license=", "web_runtime="),
    ),
    "search": Command(
        'FOLDER | STORE student=FOLDER ["question"] [k=10] [index=hnsw]',
        "ask an index, or a store that leafkit embed filled, a question with the student, or, "
        "without one, questions line by line; index= keeps a faiss index",
        ("k=", "index=", "student="),
    ),
    "serve": Command(
        "FOLDER [port=8080] [host=127.0.0.1] [api_key_file=FILE] [teacher=off] [promise=.99] "
        "[workers=2] ...",
        "answer for a pair over HTTP: OpenAI's /v1/embeddings, /v1/search, TEI's /embed; every "
        "setting stands in docs/serve.md",
        (
            "port=",
            "host=",
            "name=",
            "allow_hosts=",
            "api_key_env=",
            "api_key_file=",
            "teacher=",
            "index=",
            "student_documents=",
            "promise=",
            "unverified=",
            "workers=",
            "max_inputs=",
            "max_body_bytes=",
            "max_requests=",
            "max_hits=",
            "batch_tokens=",
        ),
    ),
    "predict": Command(
        "teacher=MODEL | teacher=vectors:FOLDER [home=SOURCE] [target=.95] [minutes=2] [texts=N] "
        "[kinds=static,last-layer] [diagnose=true] [key=value ...]",
        "what each kind of student of a teacher will be worth on your texts, with an interval, "
        "before any of them is made",
        ("teacher=", "home=", "target=", "minutes=", "texts=", "kinds=", "diagnose="),
    ),
    "rescue": Command(
        "vectors:FOLDER | parquet:FILE | qdrant:URL/COLLECTION [text=NAME] [title=NAME] [id=NAME] "
        "[vector=NAME] [similarity=cosine|dot] [key=value ...]",
        "a query encoder for an index whose model is gone, from its texts and vectors alone, and a "
        "certificate",
        ("vectors:", "parquet:", "qdrant:", "text=", "title=", "id=", "vector=", "similarity="),
    ),
    "ladder": Command(
        "recipe=NAME [ladder.rungs=[table,3l]] [ladder.promises=[.95,.99]] [key=value ...]",
        "cheap rungs below a finished recipe's student, and a router over them, its student and "
        "its teacher that holds a promise; leafkit serve FOLDER promise=.99 serves it",
    ),
    "recipes": Command(
        "[copy NAME FILE]", "list the recipes; copy one to a file of your own", ("copy",)
    ),
    "show": Command(
        "recipe=NAME [key=value ...] [SECTION ...]",
        "print a resolved recipe, or what each key of some sections means and may be",
    ),
    "explain": Command(
        "KEY ...",
        "what a key means, may be and is by default, where it counts, which recipes set it",
    ),
    "completion": Command(
        "bash|zsh|fish",
        "the script that completes commands, recipes and keys in your shell",
        ("bash", "zsh", "fish"),
    ),
    "doctor": Command("", "what this machine has, what is missing, how to get it"),
}
