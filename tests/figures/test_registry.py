"""Every figure can be found, says what it claims, and writes what it found in a form that machines read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas

import lossflow as lf
from lossflow.figures import registry
from lossflow.figures.figure import SOURCES, Figure, Outcome, Picture, Verdict, as_json, encode, write

FOLDER = Path(registry.__file__).parent
VERDICT = Verdict("a curve", 0.01, 1.5, (0.0, 1.0), True, "they agree")
KEYS = {"curve", "largest_relative_gap", "largest_deviation", "valid_times", "agree", "sentence"}


def canvas() -> Canvas:
    made = Canvas(figsize=(2, 2))
    made.add_subplot().plot([0, 1], label="line")
    return made


def figure(**changes: object) -> Figure:
    given = {"quick": {"size": 4}, "full": {"size": 8, "ratios": ("1/2", "2")}, "draw": lambda **_: None}
    return Figure("name", "Title", "Claim.", ("YGG26v2",), **{**given, **changes})  # type: ignore[arg-type]


def test_every_file_is_a_figure_and_every_figure_a_file() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "figure", "registry"}
    assert {module.rpartition(".")[2] for module in registry.MODULES.values()} == files


@pytest.mark.parametrize("name", registry.MODULES)
def test_a_figure_says_what_it_is(name: str) -> None:
    found = registry.find(name)
    assert found.name == name
    assert found.title
    assert found.claim.endswith(".")
    assert found.sources
    assert set(found.sources) <= set(SOURCES)
    assert found.quick.keys() == found.full.keys()
    assert found.quick != found.full


def test_sources_are_those_of_the_bibliography() -> None:
    bibliography = (Path(__file__).parents[2] / "docs" / "references.bib").read_text(encoding="utf-8")
    for key, text in SOURCES.items():
        assert key in bibliography
        assert text.rpartition("arXiv:")[2].partition("v")[0] in bibliography


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(lf.UnknownName, match="no figure is called 'matrices'; did you mean 'matrix'"):
        registry.find("matrices")


def test_an_outcome_agrees_when_all_verdicts_do() -> None:
    picture = Picture("only", canvas(), "words")
    badly = Verdict("b", 0.5, 20.0, None, False, "no")
    assert Outcome((picture,), (VERDICT, VERDICT)).agree
    assert not Outcome((picture,), (VERDICT, badly)).agree


def test_files_of_one_and_of_several_pictures(tmp_path: Path) -> None:
    one = Outcome((Picture("only", canvas(), "words"),), (VERDICT,))
    assert [path.name for path in write(figure(), "quick", one, tmp_path)] == ["name.png", "name.pdf", "name.json"]
    two = Outcome((Picture("a", canvas(), "words"), Picture("b", canvas(), "words")), (VERDICT,))
    names = [path.name for path in write(figure(), "full", two, tmp_path / "two")]
    assert names == ["name-a.png", "name-a.pdf", "name-b.png", "name-b.pdf", "name.json"]
    assert all((tmp_path / "two" / name).stat().st_size > 0 for name in names)


def test_verdicts_for_machines() -> None:
    exact = Verdict("exact", None, None, None, True, "equal")
    data = json.loads(as_json(figure(), "full", Outcome((), (VERDICT, exact))))
    assert data["figure"] == "name"
    assert data["extent"] == "full"
    assert data["parameters"] == {"size": 8, "ratios": ["1/2", "2"]}
    assert data["agree"] is True
    assert [set(verdict) for verdict in data["verdicts"]] == [KEYS, KEYS]
    assert data["verdicts"][0]["valid_times"] == [0.0, 1.0]
    assert data["verdicts"][1]["largest_deviation"] is None


@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_same_picture_is_the_same_file(format: str, start: bytes) -> None:
    first, second = (encode(canvas(), format) for _ in range(2))  # type: ignore[arg-type]
    assert first.startswith(start)
    assert first == second


def test_parameters_reach_the_drawing() -> None:
    seen = []
    made = figure(draw=lambda **parameters: seen.append(parameters))
    made.make("full")
    made.make()
    assert seen == [{"size": 8, "ratios": ("1/2", "2")}, {"size": 4}]
