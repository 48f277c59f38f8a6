"""What is exported, and what every target checks it against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from leafkit.models.encoder_protocol import Encoder

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


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A student on its way out.

    Attributes:
        encoder: the model, in float32, on the CPU, in evaluation mode.
        space: what leafkit.json says of the space that it lives in; see ``write_encoder``.
        name: of the model, in its card.
        license: an SPDX identifier in lower case, as the hub writes them; "" where the owner has
            named none.
        card: README.md in Markdown; "" has one made.
        probes: texts on which an export is compared with the model.
    """

    encoder: Encoder
    space: dict[str, Any] = field(default_factory=dict)
    name: str = "student"
    license: str = ""
    card: str = ""
    probes: Sequence[str] = PROBES
