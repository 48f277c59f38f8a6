"""The name of every folder and file below ``checkpoints/`` and inside artifacts; no other module
spells one.

    checkpoints/
        vectors/MODEL-ROLE-ID/    vectors of texts, shared by all recipes
        corpora/SOURCE-ID/        collections as they were read, shared too
        measured/PART-ID/         what was measured on one collection or task, shared too
        tokens/ID/                token ids of texts, shared too
        RECIPE/
            STAGE/                one of the teacher's training stages: a model folder
            mined/STAGE/SOURCE/   hard negatives
            synth/                rows that a chat model wrote; synth.work/ while it is asked
            student/              a model folder
            index/, index-KIND/   documents and their vectors; a faiss index over them
            bench/, inherit/, contamination/, diagnosis/, export/
            pairs/                texts and vectors of an index that is rescued; pairs.work/ while
                                  they are fetched
            certificate/          what can be said of the rescue
            prediction/           what students of a teacher will be worth
            ladder/RUNG/          model folders of rungs below the student; ladder/router/ what they
                                  keep and cost, and which of them answers
            hub/, openvino/       the student and its teacher for other tools
            report.json, report.html, README.md
            report.tables/        every table of the report as Markdown, CSV and LaTeX

Every artifact has a ``manifest.json`` beside its files.
"""

from __future__ import annotations

# folders beside those of the recipes
VECTORS_FOLDER, CORPORA_FOLDER, MEASURED_FOLDER = "vectors", "corpora", "measured"
TOKENS_FOLDER = "tokens"
SHARED_FOLDERS = (VECTORS_FOLDER, CORPORA_FOLDER, MEASURED_FOLDER, TOKENS_FOLDER)
LOCK_FILE = ".lock"  # held by the one run that may write
LOCKS_FOLDER = ".locks"  # of single artifacts that recipes share, while they are made
PRECISION_FILE = ".precision.json"  # what precision=auto chose here, by device
HASHES_FILE = ".hashes.json"  # sha256 of files outside of artifacts, while they do not change

# folders of a recipe
STUDENT, INDEX, BENCH, INHERIT = "student", "index", "bench", "inherit"
CONTAMINATION, DIAGNOSIS, EXPORT = "contamination", "diagnosis", "export"
HUB, OPENVINO, WEB = "hub", "openvino", "web"  # folders for other tools
MINED, SYNTH, SYNTH_WORK, DRY_RUN_ROWS = "mined", "synth", "synth.work", "rows"
PAIRS, PAIRS_WORK, CERTIFICATE = "pairs", "pairs.work", "certificate"
PREDICTION = "prediction"
LADDER = "ladder"
INHERIT_PASSES = ".inherit.passes"  # finished passes of a grid that was stopped
RECIPE_FOLDERS = (
    STUDENT,
    INDEX,
    BENCH,
    INHERIT,
    CONTAMINATION,
    DIAGNOSIS,
    EXPORT,
    HUB,
    OPENVINO,
    WEB,
    MINED,
    SYNTH,
    SYNTH_WORK,
    DRY_RUN_ROWS,
    PAIRS,
    PAIRS_WORK,
    CERTIFICATE,
    PREDICTION,
    LADDER,
)

# of every artifact
MANIFEST_FILE = "manifest.json"
VERIFIED_FILE = ".verified.json"  # what its files looked like when their sha256 were last read

# of a model folder, beside the files of sentence-transformers
MODEL_SPACE_FILE = "leafkit.json"
LOSSES_FILE = "losses.json"  # the loss of each training step
SOURCES_FILE = "sources.json"  # the rows that each batch of a stage took
ROUTER_FOLDER = "router"  # of a ladder, beside its rungs
LOGS_FOLDER = "logs"  # folder of what loggers wrote while a step trained
STATE_FOLDER = "state"  # likewise of a training's state; hidden, and gone when the step is there
NOT_OF_THE_MODEL = (MODEL_SPACE_FILE, MANIFEST_FILE, LOSSES_FILE, SOURCES_FILE)

# of token ids
TOKEN_IDS_FILE, TOKEN_OFFSETS_FILE, TOKENS_FILE = "ids.int32", "offsets.int64", "tokens.json"

CUT_FILE = "cut.json"  # of a folder of vectors: what the model did not read of the texts

# of a collection
COLLECTION_FILE, DOCUMENTS_FILE = "collection.json", "documents.jsonl"
QUERIES_FILE, JUDGMENTS_FILE, NEGATIVES_FILE = (
    "queries.jsonl",
    "judgments.jsonl",
    "negatives.jsonl",
)

# of an index
INDEX_VECTORS_FILE, INDEX_SPACE_FILE, FAISS_FILE = "vectors.npy", "space.json", "index.faiss"

# of what was measured
FIGURES_FILE = "figures.json"  # of one part of a benchmark
RESULTS_FILE = "results.json"  # of the whole benchmark
PER_QUERY_FILE = "per_query.parquet"  # every metric of every query, by collection and system
GRID_FILE, JUNIT_FILE = "grid.json", "junit.xml"
# nDCG@10 of every query, by system/dim/precision/queries/rescoring
GRID_PER_QUERY_FILE = "per_query.npz"
# what a database needs to write the same codes, by documents/dim/precision/name
GRID_SCALES_FILE = "scales.npz"
CONTAMINATION_FILE, DIAGNOSIS_FILE = "contamination.json", "diagnosis.json"

# of an export
QUALITY_FILE = "quality.json"
GRAPH_FILE, INT8_GRAPH_FILE = "query.onnx", "query_int8.onnx"
GRAPH_TOKENIZER_FILE, GRAPH_ABOUT_FILE = "tokenizer.json", "query.json"

# of rows that are trained on
MINED_ROWS_FILE, MINED_ARRAYS_FILE = "rows.jsonl", "mined.npz"
SYNTH_ROWS_FILE, SYNTH_INSTRUCTIONS_FILE = "rows.jsonl", "instructions.jsonl"
SYNTH_SUMMARY_FILE, SYNTH_TASKS_FOLDER = "summary.json", "tasks"
SYNTH_JOURNAL_FILE = "journal.jsonl"

# of vectors computed elsewhere that a user brings
VECTORS_ABOUT_FILE = "about.json"
PAIR_TEXTS_FILE, PAIR_MATRIX_FILE = "documents.jsonl", "documents.npy"

# of such a folder while it is filled, and of what is said of an index that was rescued
PAIR_ROWS_FILE, PAIR_UNDER_WAY_FILE = "rows.jsonl", "vectors.f32"
PAIR_PROGRESS_FILE = "progress.json"
CERTIFICATE_FILE, CERTIFICATE_PAGE_FILE = "certificate.json", "certificate.html"
PREDICTION_FILE, PREDICTION_PAGE_FILE = "prediction.json", "prediction.html"

LADDER_FILE, LADDER_PAGE_FILE = "ladder.json", "ladder.html"  # of a router

# of a vector store: how long its vectors took, what decides about them beside the texts, and how
# many rows its shards have
MADE_FILE, MAKER_FILE, SHARDS_FILE = "made.json", "maker.json", "shards.json"

# reports: STEM.json and STEM.html
REPORT, BENCH_REPORT, INHERIT_REPORT, DIAGNOSIS_REPORT = "report", "bench", "inherit", "diagnosis"
REPORT_FILE, REPORT_PAGE_FILE = f"{REPORT}.json", f"{REPORT}.html"
TABLES_OF_REPORT = "tables"  # in STEM.tables/
CARD_FILE = "README.md"
FINISHED_FILE = ".finished.json"  # what a finished run read: while it is the same, nothing is to do


def index_folder(kind: str) -> str:
    """The folder of a faiss index beside ``index/``."""
    return f"{INDEX}-{kind}"


def tables_folder(stem: str) -> str:
    """The folder of a report's tables beside STEM.html."""
    return f"{stem}.{TABLES_OF_REPORT}"


def vector_shard_file(number: int, kind: str) -> str:
    """A file of a vector store's shard; ``kind`` is vectors, hashes or json."""
    return f"{number:05d}.{kind}"


def shard_claim_file(number: int) -> str:
    """Held by the one process that computes a vector store's shard."""
    return f".{number:05d}.claim"


def is_taken_by_all(name: str) -> bool:
    """Whether a recipe of this name would write into a folder that all recipes share.

    Case does not count: on some file systems ``Vectors`` and ``vectors`` are one folder.
    """
    return name.lower() in SHARED_FOLDERS


def is_taken_in_recipe(name: str) -> bool:
    """Whether a training stage of this name would write where another step of the recipe does."""
    lower = name.lower()
    return lower in (*RECIPE_FOLDERS, *SHARED_FOLDERS) or (
        lower.startswith(f"{INDEX}-") or lower.endswith(f".{TABLES_OF_REPORT}")
    )
