"""What requests for vectors have in common: texts, their role, the dimension, the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.server.bad_request import BadRequest
from leafkit.server.body import check_text, read_text, read_whole

# what OpenAI-like, Cohere's, Voyage's and vLLM's clients call the two roles
_ROLES = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "search_document": "document",
    "passage": "document",
}
# Cohere's words; it cuts at the end as models here do
_TRUNCATE_WORDS = {"END": True, "NONE": False}
_NO_TOKEN_IDS = (
    "{key} holds token ids, which are another model's: send text "
    "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


def model_names(name: str, *, has_teacher: bool = True) -> dict[str, str]:
    """Role of each model that a server answers for."""
    names = {name: "query", f"{name}:query": "query"}
    return names | ({f"{name}:document": "document"} if has_teacher else {})


def read_role(body: Mapping[str, Any], key: str, default: str, *, is_fixed: bool = False) -> str:
    """The role that a request names.

    Args:
        body: of the request.
        key: under which it may name one.
        default: where it names none.
        is_fixed: no other role is right, because the model's name says this one.

    Raises:
        BadRequest: it names none that there is, or contradicts the model's name.
    """
    value = body.get(key)
    if value is None:
        return default
    role = _ROLES.get(value) if isinstance(value, str) else None
    if role is None:
        raise BadRequest(f"{key} is not one of {', '.join(_ROLES)}", param=key)
    if is_fixed and role != default:
        raise BadRequest(
            f"{key} says {role}, and the model's name says {default}: leave one of them out",
            param=key,
        )
    return role


def refuse_without_teacher(role: str, param: str | None, *, has_teacher: bool) -> None:
    """Refuse what the teacher would have to embed where the server runs without it.

    Raises:
        BadRequest: it does.
    """
    if role == "document" and not has_teacher:
        raise BadRequest(
            "this server runs without the teacher (teacher=off) and embeds queries alone",
            param=param,
        )


def read_texts(body: Mapping[str, Any], key: str, max_inputs: int) -> list[str]:
    """One text or several.

    Raises:
        BadRequest: there is none, too many, or something else than text.
    """
    if key not in body:
        raise BadRequest(f"{key!r} is missing", param=key)
    value = body[key]
    if not isinstance(value, list):
        return [check_text(value, key)]
    if not value:
        raise BadRequest(f"{key} is an empty list", param=key)
    if isinstance(value[0], int | list) and not isinstance(value[0], bool):
        raise BadRequest(_NO_TOKEN_IDS.format(key=key), param=key)
    if len(value) > max_inputs:
        raise BadRequest(
            f"{key} has {len(value):,} texts; a request may have {max_inputs:,} "
            "(the server's setting max_inputs)",
            param=key,
        )
    return [check_text(text, f"{key}[{i}]") for i, text in enumerate(value)]


def read_dim(body: Mapping[str, Any], full_dim: int, mrl_dims: Sequence[int]) -> int:
    """The dimension that a request wants; the whole one where it names none.

    Raises:
        BadRequest: vectors of this pair were not trained to be cut there.
    """
    dim = read_whole(body, "dimensions", full_dim) or full_dim
    known = sorted({*mrl_dims, full_dim}, reverse=True)
    if dim not in known:
        told = ", ".join(map(str, known))
        raise BadRequest(
            f"dimensions={dim} is not one of {told}: "
            + (
                "the teacher's Matryoshka dimensions are these"
                if mrl_dims
                else "the teacher has no Matryoshka dimensions, so that its first ones are no "
                "vectors of their own"
            ),
            param="dimensions",
        )
    return dim


def read_truncate(body: Mapping[str, Any]) -> bool:
    """Whether texts beyond the model's limit may be cut; they may where nothing is said.

    Raises:
        BadRequest: it is neither true nor false, nor one of Cohere's words.
    """
    value = body.get("truncate")
    if value is None or isinstance(value, bool):
        return value is not False
    if not isinstance(value, str) or value not in _TRUNCATE_WORDS:
        raise BadRequest("truncate is not true, false, END or NONE", param="truncate")
    return _TRUNCATE_WORDS[value]


def read_choice(body: Mapping[str, Any], key: str, choices: Sequence[str], default: str) -> str:
    """One of some words.

    Raises:
        BadRequest: it is another.
    """
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or value not in choices:
        raise BadRequest(f"{key} is not one of {', '.join(choices)}", param=key)
    return value


def check_expected_space(body: Mapping[str, Any], space: str) -> None:
    """Refuse a request that counts on another space than the server's.

    Raises:
        BadRequest: status 409.
    """
    if body.get("expected_space") is None:
        return
    expected = read_text(body, "expected_space")
    if expected != space:
        raise BadRequest(
            f"vectors here live in the space {space}, not in {expected[:80]}: to compare the two "
            "means nothing",
            param="expected_space",
            status=409,
            code="space_mismatch",
        )
