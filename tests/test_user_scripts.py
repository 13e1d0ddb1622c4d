"""What users write runs: the promised functions of api/user_scripts.py, each up to a public name that is still to come."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

import lossflow
from lossflow.public import HOMES

PATH = Path(__file__).parent / "api" / "user_scripts.py"
SCRIPTS = ast.parse(PATH.read_text(encoding="utf-8"))
USES = {node.name: node for node in SCRIPTS.body if isinstance(node, ast.FunctionDef) and node.name.startswith("u")}
COMPLETE = (
    "u2_which_regime_am_i_in",
    "u3_limit_against_experiment",
    "u4_free_evolution_in_its_natural_time",
    "u5_ascent_that_blows_up",
    "u8_end_states_over_a_grid",
    "u11_three_roads_to_one_curve",
    "u12_a_phase_diagram_on_any_executor",
    "u13_save_and_load",
    "u14_descriptions_are_keys",
)
MINUTES = (
    "u1_a_network_of_my_own",
    "u6_sgd_on_my_own_data",
    "u7_committee_with_a_teacher",
    "u9_grokking",
    "u10_quadratic_network_with_three_end_states",
)


def possible(use: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of a use before the first that mentions a public name that does not exist yet."""
    statements = []
    for statement in use.body:
        names = {
            node.attr
            for node in ast.walk(statement)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lf"
        }
        if not names <= set(HOMES):
            break
        statements.append(statement)
    return statements


def run(use: ast.FunctionDef, statements: list[ast.stmt]) -> Any:
    """What the use returns when only `statements` are run, with the imports and constants of the file around it."""
    around = [node for node in SCRIPTS.body if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign))]
    shortened = ast.FunctionDef(use.name, use.args, statements, [])
    module = ast.fix_missing_locations(ast.Module([*around, ast.copy_location(shortened, use)], []))
    names: dict[str, Any] = {"__name__": "user_scripts"}
    exec(compile(module, str(PATH), "exec"), names)
    return names[use.name]()


@pytest.mark.parametrize("name", COMPLETE)
def test_a_use_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(USES[name], possible(USES[name]))


def test_every_use_whose_names_all_exist_is_run() -> None:
    ready = {name for name, use in USES.items() if possible(use) == use.body}
    assert ready == set(USES) == {*COMPLETE, *MINUTES}


@pytest.mark.slow
@pytest.mark.filterwarnings("default:order 6 is expected to take about:RuntimeWarning")  # u1 announces its 12 GiB
@pytest.mark.parametrize("name", MINUTES)
def test_a_long_use_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(USES[name], USES[name].body)


def test_the_expansion_of_ones_own_network() -> None:
    """u1 without its last line, whose sixth order takes minutes."""
    use = USES["u1_a_network_of_my_own"]
    assert "order=6" in ast.unparse(use.body[-1])
    run(use, use.body[:-1])


def test_the_end_states_of_the_uses_that_take_minutes() -> None:
    """The parts of u9 and u10 that ask for end states."""
    grokking = lossflow.DiagonalLinear(
        delta=0.5,
        prior=lossflow.RademacherSparse(density=0.1),
        noise_variance=0.01,
        init=lossflow.SymmetricInit(10.0),
        weight_decay=0.01,
    )
    assert lossflow.stationary(grokking).values["loss"] == pytest.approx(7.67724635665e-05 / 2, rel=1e-6)
    network = lossflow.QuadraticNetwork(
        alpha=0.11, kappa=0.0749, kappa_star=0.0239, noise_variance=5.3895, weight_decay=1.588e-4
    )
    assert len(lossflow.stationary(network).branches) == 3
    assert lossflow.learning_curve(network, "alpha", [0.05, 0.3, 0.6]).sizes["alpha"] == 3


def test_a_use_is_cut_where_a_name_is_missing() -> None:
    use = ast.parse("def u():\n    x = 1\n    lf.no_such_name(x)\n    return 2").body[0]
    assert isinstance(use, ast.FunctionDef)
    assert [ast.unparse(statement) for statement in possible(use)] == ["x = 1"]
    assert run(use, possible(use)) is None
    assert os.path.exists(PATH)
    assert not hasattr(lossflow, "no_such_name")
