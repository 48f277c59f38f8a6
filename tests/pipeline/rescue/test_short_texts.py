"""Rescues of an index of which few or no queries can be made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from rescue_case import lost_vectors, recipe_of, write_index

from leafkit.config.load import load_recipe
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.rescue.pairs import read_pair_source
from leafkit.pipeline.rescue.rescue import run_rescue
from leafkit.pipeline.run import Run, open_run
from leafkit.results import Certificate

NUM_DOCUMENTS = 480


def rescued(home: Path, place: Path, folder: Path, *words: str) -> tuple[Run, Certificate | None]:
    with open_run(load_recipe(str(recipe_of(home, place)), words)) as run:
        return run_rescue(run, read_pair_source(f"vectors:{folder}"))


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Of products, say: two or three words, and no title."""
    pairs = [f"{verb} {thing}" for verb in tiny.VERBS for thing in tiny.THINGS]
    found = [*pairs, *(f"{pair} {tiny.MANNERS[0]}" for pair in pairs)][:NUM_DOCUMENTS]
    assert {len(text.split()) for text in found} == {2, 3}
    return found


@pytest.fixture(scope="module")
def vectors(home, names) -> np.ndarray:
    return lost_vectors(home, names)


@pytest.mark.slow
def test_an_index_of_names_is_trained_and_certified(home, names, vectors, tmp_path):
    folder = write_index(tmp_path / "old", names, vectors)
    run, certificate = rescued(home, tmp_path, folder)
    assert run.recipe.student.kind == "transformer"
    assert certificate is not None
    assert (certificate.num_held_out, certificate.num_queries) == (24, 24)
    assert (run.folder / "student" / "model.safetensors").is_file()


@pytest.mark.slow
def test_where_no_query_is_made_the_closed_form_is_the_student(
    home, names, vectors, tmp_path, capsys
):
    folder = write_index(tmp_path / "old", names, vectors)
    run, certificate = rescued(home, tmp_path, folder, "data.num_made_queries=0")
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "no query is made of the documents that train: nothing is trained" in shown
    assert run.recipe.student.kind == "instant"
    assert certificate is not None
    assert (run.folder / "student" / "model.safetensors").is_file()


@pytest.mark.slow
def test_where_nothing_can_be_asked_there_is_a_student_and_no_certificate(
    home, names, vectors, tmp_path, capsys
):
    folder = write_index(tmp_path / "old", names, vectors)
    rescued(home, tmp_path, folder, "student.kind=instant")
    certificate = tmp_path / "ck" / "mine" / "certificate"
    assert certificate.is_dir()
    # one title for all of them: it is the only query that can be made, and it trained everywhere
    write_index(folder, names, vectors, title="Annual report")
    capsys.readouterr()
    run, found = rescued(home, tmp_path, folder, "student.kind=instant")
    assert found is None
    assert not certificate.exists()
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "no certificate: no query can be made of the 24 held-out documents" in shown
    assert (run.folder / "student" / "model.safetensors").is_file()


@pytest.mark.slow
def test_fewer_dimensions_of_a_matryoshka_model_need_fewer_documents(
    home, names, vectors, tmp_path
):
    folder = write_index(tmp_path / "old", names, vectors)
    words = ("teacher.mrl_dims=[48,24]", "student.dim=24", "student.kind=instant")
    run, certificate = rescued(home, tmp_path, folder, *words)
    assert certificate is not None
    assert certificate.dim == 24
    assert load_pair(run.folder).search(names[5], k=3).num_documents == NUM_DOCUMENTS
