"""A diagnosis in plain sentences, and its verdict. Every threshold is derived here, where it is
used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INHERITABLE, WITH_LOSSES, NOT_INHERITABLE = "can be inherited", "with losses", "cannot be inherited"
_SEVERITY = (INHERITABLE, WITH_LOSSES, NOT_INHERITABLE)

# The student's rank. LEAF's students keep 96.1% of their teachers' nDCG (arXiv 2509.12539, BEIR-14,
# symmetric): a map that by
# itself keeps less than 95% leaves them below that before anything else is lost. Lookup tables
# aligned to an index keep 75 to
# 90% (pyNIFE, constella-zero): below 75% the planned student cannot even reach those.
RANK_GOOD, RANK_POOR = 0.95, 0.75

# Share of nDCG at a Matryoshka dimension, the lowest published of a trained Matryoshka model:
# nomic-embed-text-v1.5 and, at
# 512, EmbeddingGemma. "Far below" is more than .05: no two of the published ones lie further apart
# at one dimension.
MRL_YARDSTICKS = {512: 0.993, 256: 0.980, 128: 0.953, 64: 0.901}
MRL_SLACK = 0.05
# A head must keep this much more of nDCG than randomly turned ones, and the interval of the
# difference must exclude zero.
# One head of a space without Matryoshka differs from another by chance alone; .02 is the gate of
# the inheritance grid.
MRL_GAIN = 0.02
MRL_DEVIATIONS = 3.0  # without queries: standard deviations of variance beyond a random turn's

# Share of nDCG left by one bit per dimension without rescoring. Published: jina-v5 97.1 (95.2
# without its spread regulariser),
# all-MiniLM-L6-v2 93.8, mxbai-large 92.5, e5-base-v2 74.8: .9 lies between those that hold and the
# one that fails.
BINARY_GOOD = 0.90

# Mean cosine of random texts. From .95 on a student at cosine .95 to its teacher may be as far from
# its own text's vector as
# that is from any other text's; .7 is [open]: it only brings the sentence, not the verdict.
ANISOTROPY_HIGH, ANISOTROPY_POOR = 0.7, 0.95
# [open] fewer texts than this per dimension: the sample's spectrum is steeper than the teacher's
TEXTS_PER_DIM = 4


def conclude(figures: Mapping[str, Any]) -> dict[str, Any]:
    """``findings`` (sentences with numbers) and ``verdict`` of what
    ``leafkit.evaluation.diagnosis.diagnose.diagnose`` measured.

    The verdict is the worst of: the rank of the planned student, Matryoshka dimensions that the
    teacher claims, binary codes if they are asked for, and anisotropy. Estimates decide; their
    intervals stand in the sentences.
    """
    if figures["total_variance"] == 0:
        sentence = (
            f"All {figures['num_texts']:,} texts have the same vector: this teacher tells no two "
            f"of them apart."
        )
        return {"findings": [sentence], "verdict": NOT_INHERITABLE}
    if figures["num_queries"] and figures["spectrum"][-1]["ndcg"]["mean"] == 0:
        sentence = f"The teacher finds nothing: nDCG@10 is 0 on {figures['num_queries']:,} queries."
        return {"findings": [sentence], "verdict": NOT_INHERITABLE}
    parts = [
        _sample(figures),
        _rank(figures),
        _anisotropy(figures),
        *_matryoshka(figures),
        _binary(figures),
    ]
    worst = max((verdict for verdict, _ in parts), key=_SEVERITY.index)
    return {"findings": [sentence for _, sentence in parts if sentence], "verdict": worst}


def _share(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}]"


def _sample(figures: Mapping[str, Any]) -> tuple[str, str]:
    texts, dim, queries = figures["num_texts"], figures["dim"], figures["num_queries"]
    basis = (
        f"{queries:,} judged queries"
        if queries
        else "no judged query, so variance has to stand in for nDCG"
    )
    sentence = f"Measured on {texts:,} texts and {basis}."
    if texts < TEXTS_PER_DIM * dim:
        bound = f", whose spectrum has no rank above {texts - 1}" if texts <= dim else ""
        sentence += (
            f" That is few texts for {dim} dimensions{bound}: low ranks look better here than "
            f"they are."
        )
    return INHERITABLE, sentence


def _rank(figures: Mapping[str, Any]) -> tuple[str, str]:
    """The ceiling that the planned student's hidden width sets.

    Without queries the share of variance takes the place of the share of nDCG. It is the more
    pessimistic of the two, because what is lost are the directions in which texts differ least:
    all-MiniLM-L6-v2 on Cranfield (1,398 documents, 225 queries) keeps 77% of the variance and 94%
    of nDCG@10 at rank 64, 91% and 100% at rank 128, 96% and 100% at rank 192.
    """
    dim, width = figures["dim"], figures["student_width"]
    effective = f"effective rank {figures['effective_rank']:.0f} of {dim}"
    if not width or width >= dim:
        wide = (
            f"a student of hidden width {width} reaches"
            if width
            else "a student as wide as that reaches"
        )
        return INHERITABLE, f"The vectors have {effective}; {wide} all of the {dim} dimensions."
    row = next(row for row in figures["spectrum"] if row["rank"] == width)
    kept = row["retention"]["mean"] if "retention" in row else row["variance"]
    says = f" and {_share(row['retention'])} of nDCG@10" if "retention" in row else ""
    sentence = (
        f"A student of hidden width {width} reaches {width} of {dim} dimensions ({effective}): "
        f"the best such map keeps"
        f" {row['variance']:.1%} of the variance{says}."
    )
    if kept >= RANK_GOOD:
        return INHERITABLE, sentence
    sentence += (
        f" Below {RANK_GOOD:.0%} the student's width is a loss of its own: take a wider student, "
        f"or several layers."
    )
    return (WITH_LOSSES if kept >= RANK_POOR else NOT_INHERITABLE), sentence


def _anisotropy(figures: Mapping[str, Any]) -> tuple[str, str]:
    found = figures["anisotropy"]
    interval = f"{found['mean_cosine']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    sentence = f"Random pairs of texts have a mean cosine of {interval}."
    if found["mean_cosine"] >= ANISOTROPY_POOR:
        return WITH_LOSSES, (
            f"{sentence} All texts lie in one narrow cone: a student at cosine {ANISOTROPY_POOR} "
            f"to its teacher may be as far"
            " from its own text's vector as other texts are."
        )
    if found["mean_cosine"] >= ANISOTROPY_HIGH:
        sentence += (
            " That is a narrow cone: the student's cosine to the teacher will look better than "
            "its rankings are."
        )
    return INHERITABLE, sentence


def has_matryoshka(row: Mapping[str, Any]) -> bool:
    """Whether a head keeps more than any turned space's would: in nDCG where it was measured, else
    in variance.
    """
    if "gain" in row:
        return bool(row["gain"]["low"] > 0 and row["gain"]["mean"] >= MRL_GAIN)
    return bool(
        row["variance"] - row["random_variance"] > MRL_DEVIATIONS * row["random_variance_std"]
    )


def _matryoshka(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    heads = [row for row in figures["dims"] if row["dim"] < figures["dim"]]
    if not heads:
        return []
    claimed = [d for d in figures["claimed_dims"] if d < figures["dim"]]
    smallest = min(heads, key=lambda row: row["dim"])
    dim = smallest["dim"]
    if "retention" in smallest:
        kept = (
            f"the first {dim} dimensions keep {_share(smallest['retention'])} of nDCG@10,"
            f" {dim} of a randomly turned space {smallest['random']['retention']['mean']:.1%}"
        )
    else:
        kept = (
            f"the first {dim} dimensions hold {smallest['variance']:.1%} of the variance,"
            f" {dim} of a randomly turned space {smallest['random_variance']:.1%}"
        )
    if not has_matryoshka(smallest):
        claim = f" although it claims {', '.join(map(str, claimed))} dimensions" if claimed else ""
        return [
            (
                WITH_LOSSES if claimed else INHERITABLE,
                f"There is no Matryoshka to inherit{claim}: {kept}.",
            )
        ]
    parts = [(INHERITABLE, f"Matryoshka is there to be inherited: {kept}.")]
    for row in heads:
        yardstick = MRL_YARDSTICKS.get(row["dim"])
        if (
            yardstick is not None
            and "retention" in row
            and row["retention"]["mean"] < yardstick - MRL_SLACK
        ):
            left = f"At {row['dim']} dimensions {_share(row['retention'])} is left"
            sentence = f"{left}; trained Matryoshka models keep {yardstick:.1%}."
            parts.append((WITH_LOSSES if claimed else INHERITABLE, sentence))
    return parts


def _binary(figures: Mapping[str, Any]) -> tuple[str, str]:
    found = figures["binary"]
    shares = ", ".join(
        f"{share:.1%} at cosine {cosine}" for cosine, share in found["sign_agreement_at"].items()
    )
    signs = f"a student keeps {shares} of the teacher's bits"
    if "retention" not in found:
        return INHERITABLE, f"Binary codes: {signs}."
    with_float, student = (found[key]["retention"]["mean"] for key in ("float_queries", "student"))
    sentence = (
        f"Binary codes keep {_share(found['retention'])} of nDCG@10, {with_float:.1%} with float "
        f"queries and {student:.1%} with"
        f" queries of a student at cosine {next(iter(found['sign_agreement_at']))}; {signs}."
    )
    if found["retention"]["mean"] >= BINARY_GOOD or "binary" not in figures["precisions"]:
        return INHERITABLE, sentence
    return (
        WITH_LOSSES,
        f"{sentence} Teachers whose bits hold keep {BINARY_GOOD:.0%} and more: this one's are "
        f"fragile.",
    )
