"""What is exported, and what every target checks it against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from leafkit.core.errors import LeafkitError
from leafkit.exporters.web.search_page import SearchPage, no_documents
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.text_encoder import TextEncoder

# on which an export is compared with the model where the caller gives no texts: short and
# long, prose and code, several scripts
PROBES = (
    "invert a sparse matrix",
    "What is the difference between a list and a tuple?",
    "np.linalg.solve(a, b) raises LinAlgError: Singular matrix",
    "Compute the (multiplicative) inverse of a matrix. Given a square matrix a, return the matrix "
    "ainv satisfying a @ ainv = ainv @ a = eye(a.shape[0]).",
    "Wie lese ich eine Datei Zeile für Zeile?",
    "如何读取一个文件",
    "Как отсортировать словарь по значению?",
    "a",
)


def no_teacher() -> TextEncoder:
    """The teacher of a student that comes without one.

    Raises:
        LeafkitError: always.
    """
    raise LeafkitError(
        "the student came as a model folder alone, which does not say where its documents were cut",
        "export the folder of a finished run, or a pair",
    )


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A student on its way out, and its teacher where that is wanted.

    Attributes:
        encoder: the model, in float32, on the CPU, in evaluation mode.
        space: what leafkit.json says of the space that it lives in; see ``write_encoder``.
        name: of the model, in its card.
        license: an SPDX identifier in lower case, as the hub writes them; "" where the owner has
            named none.
        card: README.md in Markdown; "" has one made.
        probes: texts on which an export is compared with the model.
        teacher: gives the teacher as it embeds the documents, see ``document_model``; raises a
            LeafkitError where there is none that can be exported. Called by the targets that
            need it alone.
        base_model: id of the student's start model on the hub; "" where it has none.
        repository: of the hub, OWNER/NAME, that it will be published as; "" where that is not
            known.
        page: gives what a page that searches needs beside it; raises a LeafkitError where there
            are no documents. Called by the target "web" alone.
    """

    encoder: Encoder
    space: dict[str, Any] = field(default_factory=dict)
    name: str = "student"
    license: str = ""
    card: str = ""
    probes: Sequence[str] = PROBES
    teacher: Callable[[], TextEncoder] = no_teacher
    base_model: str = ""
    repository: str = ""
    page: Callable[[], SearchPage] = no_documents
