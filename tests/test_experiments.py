"""Experiments and sweeps from a file: the tables are the descriptions, nothing is computed twice, and mistakes have places."""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.catalog import CASES, METHODS

import lossflow as lf
from lossflow.experiments import answers, read_experiment, read_survey, survey, verdicts

EXAMPLES = Path(__file__).parent.parent / "examples"
PROBLEM = '[problem]\ntype = "CPDecomposition"\norder = 2\n'
LIMIT = '[methods.theory]\ntype = "Limit"\nsizes = { p = 8, H = 6, sigma2 = 0.1 }\n'
RUNS = '[methods.runs]\ntype = "Simulation"\nsizes = { p = 8, H = 6, sigma2 = 0.1 }\nruns = 3\n'
TIMES = "[times]\nto = 0.5\ncount = 6\n"
NETWORK = '[problem]\ntype = "QuadraticNetwork"\nalpha = 0.3\nkappa = 0.4\nkappa_star = 0.3\nweight_decay = 0.01\n'
STATIONARY = '[question]\ntype = "Stationary"\n'


def written(tmp_path: Path, *tables: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text("\n".join([*tables, f'[output]\nfolder = "{tmp_path.as_posix()}/out"\n']))
    return path


def below(description: lf.Description, place: str) -> str:
    """A description as the table [place]."""
    return f"[{place}]\n" + re.sub(r"^\[", f"[{place}.", description.to_toml(), flags=re.M)


@pytest.mark.parametrize("name", CASES)
def test_tables_are_descriptions(name: str, tmp_path: Path) -> None:
    """Every problem of the library with every method that it understands, and every dynamics."""
    case = CASES[name]
    methods = {key: make(case.sizes) for key, make in METHODS.items()}
    methods = {key: method for key, method in methods.items() if method.language in case.problem.languages}
    every = [
        lf.GradientFlow(),
        lf.GradientDescent(0.5),
        lf.StochasticGradientFlow(0.5, 0.5),
        lf.PoissonSGD(0.5, 0.25),
        lf.SGD(0.5, 0.25, "persistent", 3.0),
    ]
    for dynamics in every:
        tables = [below(method, f"methods.{key}") for key, method in methods.items()]
        times = "[times]\nvalues = [0, 0.5, 1]\n"
        path = written(tmp_path, below(case.problem, "problem"), *tables, below(dynamics, "dynamics"), times)
        found = read_experiment(path)
        assert found.problem == case.problem
        assert found.methods == methods
        assert found.dynamics == dynamics
        assert found.times.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("table", "times"),
    [
        ("times = [0, 1, 4]", [0.0, 1.0, 4.0]),
        ("[times]\nvalues = [0.5]", [0.5]),
        ("[times]\nto = 1\ncount = 5", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("[times]\nfrom = 0\nto = -1\ncount = 3", [0.0, -0.5, -1.0]),
        ('[times]\nfrom = 0.1\nto = 10\ncount = 3\nspacing = "logarithmic"', [0.1, 1.0, 10.0]),
        ("[times]\nsteps = 6\nevery = 4", [0.0, 1.0, 1.5]),
    ],
)
def test_times(table: str, times: list[float], tmp_path: Path) -> None:
    dynamics = '[dynamics]\ntype = "GradientDescent"\nstep = 0.25\n'
    parts = [PROBLEM, LIMIT, dynamics, table] if table.startswith("[") else [table, PROBLEM, LIMIT, dynamics]
    assert read_experiment(written(tmp_path, *parts)).times == pytest.approx(times, rel=1e-15)


def test_an_experiment_is_answered_once(tmp_path: Path) -> None:
    path = written(tmp_path, 'title = "Mine"', PROBLEM, LIMIT, RUNS, TIMES)
    experiment = read_experiment(path)
    first = list(answers(experiment))
    assert [(answer.name, answer.computed) for answer in first] == [("theory", True), ("runs", True)]
    for answer in first:
        direct = lf.solve(lf.CPDecomposition(2), answer.trajectory.method, np.linspace(0, 0.5, 6))
        assert answer.trajectory.identical(direct)
        assert lf.load(answer.path).identical(direct)
    (compared,) = verdicts(experiment, first)
    assert compared.verdict == lf.compare(*(answer.trajectory for answer in first)).verdict
    data = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert data["title"] == "Mine"
    assert data["verdicts"][0] == {
        "observable": "loss",
        "agree": compared.agree,
        "sentences": compared.verdict.split("\n"),
    }
    assert lf.AbstractMethod.from_plain(data["methods"]["theory"]) == first[0].trajectory.method
    again = list(answers(read_experiment(path)))
    assert not any(answer.computed for answer in again)
    assert all(a.trajectory.identical(b.trajectory) for a, b in zip(first, again, strict=True))
    changed = read_experiment(written(tmp_path, PROBLEM, LIMIT, RUNS.replace("3", "4"), TIMES))
    assert [answer.computed for answer in answers(changed)] == [False, True]
    later = read_experiment(written(tmp_path, PROBLEM, LIMIT, RUNS.replace("3", "4"), TIMES.replace("0.5", "0.6")))
    assert [answer.computed for answer in answers(later)] == [True, True]


def test_files_in_the_way_are_not_believed_and_not_replaced(tmp_path: Path) -> None:
    experiment = read_experiment(written(tmp_path, PROBLEM, LIMIT, TIMES))
    (answer,) = answers(experiment)
    assert verdicts(experiment, [answer]) == ()
    whole = answer.path.read_bytes()
    answer.path.write_bytes(whole[:-100])
    with pytest.raises(lf.CorruptedFile, match=r"theory\.nc is damaged"):
        list(answers(experiment))
    assert answer.path.read_bytes() == whole[:-100]
    lf.save(lf.Zero(), answer.path)
    with pytest.raises(lf.StorageError, match=r"holds Zero\(\), no answer of an experiment; move it away"):
        list(answers(experiment))
    assert lf.load(answer.path) == lf.Zero()


def test_a_sweep_is_that_of_the_library(tmp_path: Path) -> None:
    grid = '[grid]\nalpha = { from = 0.1, to = 1, count = 3 }\nweight_decay = ["0+", 0.5]\n'
    plan = read_survey(written(tmp_path, NETWORK, grid, STATIONARY, "[executor]\nworkers = 1\n"))
    network = lf.QuadraticNetwork(alpha=0.3, kappa=0.4, kappa_star=0.3, weight_decay=0.01)
    expected = lf.sweep(network, {"alpha": np.linspace(0.1, 1, 3), "weight_decay": ["0+", 0.5]}, lf.Stationary())
    assert survey(plan).identical(expected)
    assert (tmp_path / "out" / "sweep.nc").exists()


def test_a_grid_reaches_into_descriptions(tmp_path: Path) -> None:
    text = (
        '[problem]\ntype = "DiagonalLinear"\ndelta = 0.5\nprior = { type = "RademacherSparse", density = 0.1 }\n'
        "noise_variance = 0.01\n",
        '[grid]\ninit.scale = [0.1, 1]\nprior.density = { from = 0.1, to = 0.3, count = 2 }\n"method.seed" = [4]\n'
        '[question]\ntype = "Solve"\nmethod = { type = "MeanField" }\ntimes = { to = 1, count = 3 }\n',
    )
    plan = read_survey(written(tmp_path, *text))
    assert plan.grid == {"init.scale": (0.1, 1), "prior.density": (0.1, 0.3), "method.seed": (4,)}
    assert plan.question == lf.Solve(lf.MeanField(), (0.0, 0.5, 1.0))
    whole = read_survey(
        written(tmp_path, text[0], '[grid]\ninit = [{ type = "SymmetricInit", scale = "0+" }]\n', STATIONARY)
    )
    assert whole.grid == {"init": (lf.SymmetricInit("0+"),)}


DASK = '[executor]\ntype = "dask"\nworkers = 2\n'


def test_without_dask_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    plan = read_survey(written(tmp_path, NETWORK, "[grid]\nalpha = [0.1]\n", STATIONARY, DASK))
    with pytest.raises(lf.InvalidInput, match=r'pip install "lossflow\[cluster\]"'):
        survey(plan)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_sweep_through_dask_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    grid = "[grid]\nalpha = { from = 0.1, to = 1, count = 20 }\n"
    (tmp_path / "local").mkdir()
    local = survey(read_survey(written(tmp_path / "local", NETWORK, grid, STATIONARY)))
    assert survey(read_survey(written(tmp_path, NETWORK, grid, STATIONARY, DASK))).identical(local)


WRONG_EXPERIMENTS = {
    "no TOML": ("problem = ", "not a TOML document: Invalid value"),
    "a table that is not there": (PROBLEM + "[methds.a]\n", "the file has no 'methds'; did you mean 'methods'"),
    "no problem": (LIMIT + TIMES, r"\[problem\] is missing.*CPDecomposition"),
    "no type": ("[problem]\norder = 2\n" + LIMIT + TIMES, r"\[problem\] needs a type, such as"),
    "a problem that is not there": (
        PROBLEM.replace("CPD", "CDP") + LIMIT + TIMES,
        r"\[problem\] no description is called 'CDPecomposition'; did you mean 'CPDecomposition'",
    ),
    "a problem that is a method": (
        PROBLEM.replace("CPDecomposition", "Limit").replace("order = 2", "sizes = {}") + LIMIT + TIMES,
        r"\[problem\] must be an AbstractProblem, got Limit",
    ),
    "a field that is not there": (
        PROBLEM + "ordr = 3\n" + LIMIT + TIMES,
        r"\[problem\] CPDecomposition has no field 'ordr'; did you mean 'order'",
    ),
    "a value of the wrong kind": (
        PROBLEM.replace("= 2", '= "two"') + LIMIT + TIMES,
        r"\[problem\] CPDecomposition.order must be a whole number, got 'two'",
    ),
    "a value out of range": (PROBLEM.replace("= 2", "= 1") + LIMIT + TIMES, r"\[problem\].*order must be at least 2"),
    "a field inside a field": (
        PROBLEM + '[problem.target]\ntype = "Identity"\nscal = 2\n' + LIMIT + TIMES,
        r"\[problem.target\] Identity has no field 'scal'; did you mean 'scale'",
    ),
    "a table without its type": (
        PROBLEM + "[problem.target]\nscale = 2\n" + LIMIT + TIMES,
        r"\[problem\] CPDecomposition.target must be an AbstractTarget, got {'scale': 2}; there is: .*Identity",
    ),
    "no fraction": (
        PROBLEM + 'target = { type = "Identity", scale = { type = "Fraction", value = "1/0" } }\n' + LIMIT + TIMES,
        r"\[problem.target\] the value of a Fraction must be a rational number such as .*, got '1/0'",
    ),
    "no method": (PROBLEM + TIMES, r"\[methods\] is missing"),
    "methods without names": (
        PROBLEM + LIMIT.replace("methods.theory", "methods") + TIMES,
        r"\[methods\] holds tables by name",
    ),
    "both forms": (
        PROBLEM + LIMIT + LIMIT.replace("methods.theory", "method") + TIMES,
        r"\[method\] is one method and \[methods.NAME\] several",
    ),
    "a method that is no name of a file": (
        PROBLEM + LIMIT.replace("theory", '"../theory"') + TIMES,
        "cannot be the name of a file",
    ),
    "a method in the place of the verdict": (
        PROBLEM + LIMIT.replace("theory", "verdict") + TIMES,
        "cannot be the name",
    ),
    "a size that makes no sense": (
        PROBLEM + LIMIT.replace("8", '"many"') + TIMES,
        r"\[methods.theory\] size 'p' must be a number, got 'many'",
    ),
    "a method that does not understand": (
        PROBLEM + '[methods.field]\ntype = "MeanField"\n' + TIMES,
        r"\[methods.field\] .* has no process.*Methods that apply: ",
    ),
    "no times": (PROBLEM + LIMIT, r"\[times\] is missing"),
    "times that are not there": (PROBLEM + LIMIT + "[times]\ntill = 1\n", r"\[times\] has no 'till'; .*"),
    "times that go back": (PROBLEM + LIMIT + "[times]\nvalues = [0, 1, 0.5]\n", r"\[times\].*strictly monotone"),
    "no end": (PROBLEM + LIMIT + "[times]\ncount = 3\n", r"\[times\] needs 'to'"),
    "no length": (PROBLEM + LIMIT + "[times]\nfrom = 1\nto = 1\ncount = 3\n", r"\[times\] from and to must differ"),
    "endless": (PROBLEM + LIMIT + "[times]\nto = inf\ncount = 3\n", r"\[times\] to must be finite"),
    "too many times": (PROBLEM + LIMIT + "[times]\nto = 1\ncount = 1e12\n", r"\[times\] count must be .* 1000000"),
    "logarithms of zero": (
        PROBLEM + LIMIT + TIMES + 'spacing = "logarithmic"\n',
        r"\[times\] logarithmic spacing needs .* got 0.0",
    ),
    "a spacing": (PROBLEM + LIMIT + TIMES + 'spacing = "linaer"\n', r"\[times\] spacing.*did you mean 'linear'"),
    "times twice": (PROBLEM + LIMIT + TIMES + "values = [1]\n", r"\[times\] values and to are two ways"),
    "steps of a flow": (PROBLEM + LIMIT + "[times]\nsteps = 3\n", r"\[times\] steps: GradientFlow runs in continuous"),
    "a folder": (
        PROBLEM + LIMIT + TIMES + "[output]\nfoldr = 'x'\n",
        r"\[output\] has no 'foldr'; did you mean 'folder'",
    ),
    "no observable": (PROBLEM + LIMIT + TIMES + "[output]\nobservables = []\n", r"\[output\] observables is empty"),
    "an observable": (PROBLEM + LIMIT + TIMES + "[output]\nobservables = 'loss'\n", "observables must be a sequence"),
}


@pytest.mark.parametrize("name", WRONG_EXPERIMENTS)
def test_wrong_experiments_are_answered_with_their_place(name: str, tmp_path: Path) -> None:
    text, message = WRONG_EXPERIMENTS[name]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(lf.LossflowError, match=message) as caught:
        read_experiment(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


GRID = "[grid]\nalpha = [0.1]\n"
WRONG_SURVEYS = {
    "no grid": (NETWORK + STATIONARY, r"\[grid\] names no field"),
    "a number": (NETWORK + STATIONARY + "[grid]\nalpha = 0.1\n", r"\[grid.alpha\] must be a list"),
    "a range": (NETWORK + STATIONARY + "[grid.alpha]\nfrom = 0\ncount = 2\n", r"\[grid.alpha\] needs 'to'"),
    "no question": (NETWORK + GRID, r"\[question\] is missing: .*Stationary"),
    "a question that is a method": (
        NETWORK + GRID + '[question]\ntype = "MeanField"\n',
        r"\[question\] must be an AbstractQuestion, got MeanField",
    ),
    "times of a question": (
        NETWORK + GRID + '[question]\ntype = "Solve"\nmethod = { type = "MeanField" }\ntimes = { to = 1 }\n',
        r"\[question.times\] needs 'count'",
    ),
    "no method": (NETWORK + GRID + '[question]\ntype = "Solve"\ntimes = [1]\n', r"\[question\] Solve needs 'method'"),
    "an executor": (NETWORK + GRID + STATIONARY + '[executor]\ntype = "dusk"\n', "did you mean 'dask'"),
    "no workers": (
        NETWORK + GRID + STATIONARY + "[executor]\nworkers = 0\n",
        r"\[executor\] workers must be .* from 1",
    ),
    "an address of nothing": (NETWORK + GRID + STATIONARY + '[executor]\naddress = "x"\n', "write type = .dask."),
}


@pytest.mark.parametrize("name", WRONG_SURVEYS)
def test_wrong_sweeps_are_answered_with_their_place(name: str, tmp_path: Path) -> None:
    text, message = WRONG_SURVEYS[name]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(lf.LossflowError, match=message) as caught:
        read_survey(path)
    assert str(path) in str(caught.value)


def test_a_field_that_is_not_there_is_answered_by_the_sweep(tmp_path: Path) -> None:
    plan = read_survey(written(tmp_path, NETWORK, "[grid]\nalhpa = [0.1]\n", STATIONARY))
    with pytest.raises(lf.UnknownField, match="did you mean 'alpha'"):
        survey(plan)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_whatever_is_written_is_answered(file: Path, tmp_path: Path) -> None:
    """Three hundred files with a few characters lost, doubled or changed: a plan or a message with the name of the file."""
    text = file.read_text()
    read = read_survey if file.stem.endswith("_sweep") else read_experiment
    read(file)
    random = np.random.default_rng(zlib.crc32(file.name.encode()))
    path = tmp_path / "mine.toml"
    refused = 0
    for _ in range(300):
        letters = list(text)
        for _ in range(random.integers(1, 4)):
            k = int(random.integers(text.index("[problem]"), len(text)))
            letters[k] = str(random.choice(["", letters[k] * 2, *'"[]{}=.,-0/x\n']))
        path.write_text("".join(letters))
        try:
            read(path)
        except lf.LossflowError as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert refused > 100
