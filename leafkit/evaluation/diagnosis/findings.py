"""A diagnosis in plain sentences, and its verdict. Every threshold is derived here, where it is
used.
"""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.results import DiagnosisFigures, HeadFigures, Interval

INHERITABLE, WITH_LOSSES, NOT_INHERITABLE = "can be inherited", "with losses", "cannot be inherited"
_SEVERITY = (INHERITABLE, WITH_LOSSES, NOT_INHERITABLE)

# The student's rank. LEAF's students keep 96.1% of their teachers' nDCG (arXiv 2509.12539, BEIR-14,
# symmetric): a map that by itself keeps less than 95% leaves them below that before anything else
# is lost. Lookup tables aligned to an index keep 75 to 90% (pyNIFE, constella-zero): below 75% the
# planned student cannot even reach those.
RANK_GOOD, RANK_POOR = 0.95, 0.75

# Share of nDCG at a Matryoshka dimension, the lowest published of a trained Matryoshka model:
# nomic-embed-text-v1.5 and, at 512, EmbeddingGemma. "Far below" is more than .05: no two of the
# published ones lie further apart at one dimension.
MRL_YARDSTICKS = {512: 0.993, 256: 0.980, 128: 0.953, 64: 0.901}
MRL_SLACK = 0.05
# A head must keep this much more of nDCG than randomly turned ones, and the interval of the
# difference must exclude zero. One head of a space without Matryoshka differs from another by
# chance alone; .02 is the gate of the inheritance grid.
MRL_GAIN = 0.02
MRL_DEVIATIONS = 3.0  # without queries: standard deviations of variance beyond a random turn's

# Share of nDCG left by one bit per dimension without rescoring. Published: jina-v5 97.1 (95.2
# without its orthogonality regulariser), all-MiniLM-L6-v2 93.8, mxbai-large 92.5, e5-base-v2 74.8:
# .9 lies between those that hold and the one that fails.
BINARY_GOOD = 0.90

# Mean cosine of random texts. From .95 on a student at cosine .95 to its teacher may be as far from
# its own text's vector as that is from any other text's; .7 has no source: it only brings the
# sentence, not the verdict.
ANISOTROPY_HIGH, ANISOTROPY_POOR = 0.7, 0.95
# fewer texts than this per dimension (a rule of thumb): the sample's spectrum is steeper than the
# teacher's
TEXTS_PER_DIM = 4


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The verdict and the sentences that lead to it."""

    verdict: str
    findings: tuple[str, ...]


def conclude(figures: DiagnosisFigures) -> Conclusion:
    """What the figures say of a teacher, in sentences with numbers.

    The verdict is the worst of: the rank of the planned student, Matryoshka dimensions that the
    teacher claims, binary codes if they are asked for, and anisotropy. Estimates decide; their
    intervals stand in the sentences.
    """
    if figures.total_variance == 0:
        sentence = (
            f"All {figures.num_texts:,} texts have the same vector: this teacher tells no two "
            f"of them apart."
        )
        return Conclusion(NOT_INHERITABLE, (sentence,))
    full = figures.spectrum[-1].quality
    if full is not None and full.ndcg.value == 0:
        sentence = f"The teacher finds nothing: nDCG@10 is 0 on {figures.num_queries:,} queries."
        return Conclusion(NOT_INHERITABLE, (sentence,))
    parts = [
        _sample(figures),
        _rank(figures),
        _anisotropy(figures),
        *_matryoshka(figures),
        _binary(figures),
    ]
    worst = max((verdict for verdict, _ in parts), key=_SEVERITY.index)
    return Conclusion(worst, tuple(sentence for _, sentence in parts if sentence))


def _share(kept: Interval) -> str:
    return f"{kept.value:.1%} [{kept.low:.1%}, {kept.high:.1%}]"


def _sample(figures: DiagnosisFigures) -> tuple[str, str]:
    texts, dim, queries = figures.num_texts, figures.dim, figures.num_queries
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


def _rank(figures: DiagnosisFigures) -> tuple[str, str]:
    """The ceiling that the planned student's hidden width sets.

    Without queries the share of variance takes the place of the share of nDCG. It is the more
    pessimistic of the two, because what is lost are the directions in which texts differ least.
    """
    dim, width = figures.dim, figures.student_width
    effective = f"effective rank {figures.effective_rank:.0f} of {dim}"
    if not width or width >= dim:
        wide = (
            f"a student of hidden width {width} reaches"
            if width
            else "a student as wide as that reaches"
        )
        return INHERITABLE, f"The vectors have {effective}; {wide} all of the {dim} dimensions."
    row = next(row for row in figures.spectrum if row.rank == width)
    kept = row.quality.retention.value if row.quality else row.variance
    says = f" and {_share(row.quality.retention)} of nDCG@10" if row.quality else ""
    sentence = (
        f"A student of hidden width {width} reaches {width} of {dim} dimensions ({effective}): "
        f"the best such map keeps {row.variance:.1%} of the variance{says}."
    )
    if kept >= RANK_GOOD:
        return INHERITABLE, sentence
    sentence += (
        f" Below {RANK_GOOD:.0%} the student's width is a loss of its own: take a wider student, "
        f"or several layers."
    )
    return (WITH_LOSSES if kept >= RANK_POOR else NOT_INHERITABLE), sentence


def _anisotropy(figures: DiagnosisFigures) -> tuple[str, str]:
    cosine = figures.mean_cosine
    sentence = f"Random pairs of texts have a mean cosine of {cosine}."
    if cosine.value >= ANISOTROPY_POOR:
        return WITH_LOSSES, (
            f"{sentence} All texts lie in one narrow cone: a student at cosine {ANISOTROPY_POOR} "
            f"to its teacher may be as far from its own text's vector as other texts are."
        )
    if cosine.value >= ANISOTROPY_HIGH:
        sentence += (
            " That is a narrow cone: the student's cosine to the teacher will look better than "
            "its rankings are."
        )
    return INHERITABLE, sentence


def exceeds_random(gain: Interval) -> bool:
    """Whether what a head keeps beyond randomly turned ones is more than chance."""
    return gain.low > 0 and gain.value >= MRL_GAIN


def has_matryoshka(head: HeadFigures) -> bool:
    """Whether a head keeps more than any turned space's would: in nDCG where it was measured, else
    in variance.
    """
    if head.gain is not None:
        return exceeds_random(head.gain)
    return head.variance - head.random_variance > MRL_DEVIATIONS * head.random_variance_std


def _matryoshka(figures: DiagnosisFigures) -> list[tuple[str, str]]:
    heads = [head for head in figures.dims if head.dim < figures.dim]
    if not heads:
        return []
    claimed = [dim for dim in figures.claimed_dims if dim < figures.dim]
    smallest = min(heads, key=lambda head: head.dim)
    kept = _kept_by(smallest)
    if not has_matryoshka(smallest):
        claim = f" although it claims {', '.join(map(str, claimed))} dimensions" if claimed else ""
        verdict = WITH_LOSSES if claimed else INHERITABLE
        return [(verdict, f"There is no Matryoshka to inherit{claim}: {kept}.")]
    parts = [(INHERITABLE, f"Matryoshka is there to be inherited: {kept}.")]
    for head in heads:
        yardstick = MRL_YARDSTICKS.get(head.dim)
        if yardstick is None or head.quality is None:
            continue
        if head.quality.retention.value < yardstick - MRL_SLACK:
            left = f"At {head.dim} dimensions {_share(head.quality.retention)} is left"
            sentence = f"{left}; trained Matryoshka models keep {yardstick:.1%}."
            parts.append((WITH_LOSSES if claimed else INHERITABLE, sentence))
    return parts


def _kept_by(head: HeadFigures) -> str:
    if head.quality is not None and head.random is not None:
        return (
            f"the first {head.dim} dimensions keep {_share(head.quality.retention)} of nDCG@10,"
            f" {head.dim} of a randomly turned space {head.random.retention.value:.1%}"
            + (f" (gain {head.gain.signed()})" if head.gain else "")
        )
    return (
        f"the first {head.dim} dimensions hold {head.variance:.1%} of the variance,"
        f" {head.dim} of a randomly turned space {head.random_variance:.1%}"
    )


def _binary(figures: DiagnosisFigures) -> tuple[str, str]:
    binary = figures.binary
    shares = ", ".join(
        f"{share:.1%} at cosine {cosine}" for cosine, share in binary.sign_agreement_at.items()
    )
    signs = f"a student keeps {shares} of the teacher's bits"
    if binary.quality is None or binary.float_queries is None or binary.student is None:
        return INHERITABLE, f"Binary codes: {signs}."
    kept, cosine = binary.quality.retention, next(iter(binary.sign_agreement_at))
    sentence = (
        f"Binary codes keep {_share(kept)} of nDCG@10, "
        f"{binary.float_queries.retention.value:.1%} with float queries and "
        f"{binary.student.retention.value:.1%} with queries of a student at cosine {cosine}; "
        f"{signs}."
    )
    if kept.value >= BINARY_GOOD or "binary" not in figures.precisions:
        return INHERITABLE, sentence
    return (
        WITH_LOSSES,
        f"{sentence} Teachers whose bits hold keep {BINARY_GOOD:.0%} and more: this one's are "
        f"fragile.",
    )
