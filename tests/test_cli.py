"""The command line: every command, and every wrong input answered with one line and exit code 2."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas

import lossflow as lf
from lossflow.checkpoint import cache_folder
from lossflow.cli import KINDS, main
from lossflow.figures import registry
from lossflow.figures.figure import Figure, Outcome, Picture, Verdict
from lossflow.figures.registry import MODULES
from lossflow.public import HOMES

EXAMPLES = Path(__file__).parent.parent / "examples"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("series", "--to", "2")` -> exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return command


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell runs it."""
    command = [sys.executable, "-m", "lossflow", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload]


def refused(result: tuple[int, str, str], message: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that matches."""
    code, out, err = result
    assert code == 2
    assert out == ""
    assert re.fullmatch(r"lossflow: [^\n]+\n", err), err
    assert re.search(message, err), err


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"lossflow {lf.__version__}\n", "")


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert run() == (0, out, "")
    for command in ("list", "series", "regimes", "run", "sweep", "reproduce", "report"):
        assert re.search(rf"^  {command} ", out, re.M)
        assert run(command, "--help")[0] == 0


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from lossflow.cli import main; main(['--help']); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'scipy', 'sympy', 'matplotlib', 'rich', 'flint'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_list_shows_every_name_once_with_a_line(run: Run) -> None:
    code, out, err = run("list")
    assert (code, err) == (0, "")
    entries = re.findall(r"^  (\S+)\s+(\S.*)$", out, re.M)
    assert sorted(name for name, _ in entries) == sorted([*HOMES, *MODULES])
    assert [line[:-1] for line in out.splitlines() if not line.startswith(" ")] == list(KINDS)


def test_list_sorts_names_by_kind(run: Run) -> None:
    for kind, members in {
        "problems": {
            "CPDecomposition",
            "PolynomialProblem",
            "GeneralizedLinear",
            "Softmax",
            "TwoLayer",
            "DiagonalLinear",
            "QuadraticNetwork",
        },
        "targets": {"Zero", "Identity", "Spiked", "Constant", "ModularAddition", "RandomTeacher"},
        "losses": {"Square", "Huber", "Logistic", "SmoothHinge", "PhaseRetrieval"},
        "labels": {
            "LinearLabels",
            "SquaredLabels",
            "SignLabels",
            "LogitLabels",
            "NoiseLabels",
            "CubicNoiseLabels",
        },
        "priors": {"RademacherSparse", "BernoulliGaussian", "GaussianPrior", "PositiveSparse", "AtomicPrior"},
        "starts": {"SymmetricInit", "NonNegativeInit", "GeneralInit"},
        "methods": {"Series", "Limit", "Simulation", "MeanField", "Online"},
        "resummations": {"Taylor", "Pade", "BorelPade", "ConformalBorel"},
        "dynamics": {"GradientFlow", "GradientDescent", "StochasticGradientFlow", "PoissonSGD", "SGD"},
        "questions": {"Solve", "Stationary"},
        "verbs": {
            "solve",
            "expand",
            "resum",
            "regimes",
            "classify",
            "stationary",
            "learning_curve",
            "sweep",
            "thresholds",
            "quartic_threshold",
            "bayes_optimal",
            "nuclear_norm",
            "compare",
            "diagnose",
            "save",
            "load",
        },
        "results": {
            "Trajectory",
            "EndState",
            "Status",
            "LossSeries",
            "Recurrence",
            "Comparison",
            "Regime",
            "Placement",
            "TimeScale",
            "Resummed",
            "Thresholds",
            "Spectrum",
            "Design",
        },
        "figures": set(MODULES),
    }.items():
        out = run("list", kind)[1]
        assert set(re.findall(r"^  (\S+)", out, re.M)) == members, kind


def test_list_of_one_name_prints_its_docstring_and_call(run: Run) -> None:
    code, out, _ = run("list", "Simulation")
    assert code == 0
    assert out.startswith("lossflow.Simulation(sizes, runs=8, seed=0, ")
    assert (lf.Simulation.__doc__ or "").strip().splitlines()[-1].strip() in out
    code, out, _ = run("list", "matrix")
    assert code == 0
    assert out.startswith("figure matrix: ")
    assert "p = (128, 256, 512)" in out


@pytest.mark.parametrize(
    ("word", "answer"), [("Simulaton", "'Simulation'"), ("matrx", "'matrix'"), ("problms", "'problems'")]
)
def test_list_of_an_unknown_name_is_answered_with_the_nearest(run: Run, word: str, answer: str) -> None:
    refused(run("list", word), f"did you mean {answer}")


def test_series_as_json_is_the_series(run: Run) -> None:
    code, out, err = run("series", "--nu", "3", "--asymmetric", "--to", "2", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    problem = lf.CPDecomposition(order=3, symmetric=False)
    expected = lf.expand(problem, 2)
    assert lf.AbstractProblem.from_plain(data["problem"]) == problem
    assert tuple(data["variables"]) == expected.variables
    assert tuple(data["assumptions"]) == expected.assumptions
    got = [{tuple(map(int, key.split(","))): Fraction(c) for key, c in y.items()} for y in data["coefficients"]]
    assert got == [dict(y) for y in expected.coefficients]


def test_series_at_sizes_is_exact(run: Run) -> None:
    sizes = {"p": Fraction(64), "H": Fraction(32), "sigma2": Fraction(1, 64)}
    at = [argument for name, value in sizes.items() for argument in ("--at", f"{name}={value}")]
    expected = lf.expand(lf.CPDecomposition(), 3).at(**sizes)
    data = json.loads(run("series", "--json", *at)[1])
    assert [Fraction(value) for value in data["values"]] == list(expected)
    assert {name: Fraction(value) for name, value in data["at"].items()} == sizes
    out = run("series", *at)[1]
    for value in expected:
        assert f"= {value}" in out


def test_series_as_a_table_is_the_series(run: Run) -> None:
    """The printed polynomial, evaluated as Python evaluates it, has the exact value."""
    code, out, _ = run("series", "--to", "2")
    assert code == 0
    assert all(len(line) <= 100 for line in out.splitlines())
    sizes = {"p": Fraction(3), "H": Fraction(2), "sigma2": Fraction(1, 5)}
    expected = lf.expand(lf.CPDecomposition(), 2).at(**sizes)
    paragraphs = re.split(r"^Y_\d = ", out, flags=re.M)[1:]
    for text, value in zip(paragraphs, expected, strict=True):
        program = re.sub(r"(\w) (?=[a-zA-Z])", r"\1 * ", " ".join(text.split())).replace("^", "**")
        program = re.sub(r"\b(\d+)/(\d+)", r"Fraction(\1, \2)", program)
        assert eval(program, {"Fraction": Fraction, **sizes}) == value


def test_series_as_latex_is_the_series(run: Run) -> None:
    """The LaTeX, read term by term, gives the same coefficients."""
    code, out, _ = run("series", "--to", "2", "--latex")
    assert code == 0
    body = out.removeprefix("\\begin{align*}\n").removesuffix("\\end{align*}\n")
    derivatives = re.split(r"Y_\{\d\} &= ", body)[1:]
    series = lf.expand(lf.CPDecomposition(), 2)
    for text, expected in zip(derivatives, series.coefficients, strict=True):
        found = {}
        for sign, number, powers in re.findall(
            r"([+-]?)\s*(\\tfrac\{\d+\}\{\d+\}|\d+)?\s*((?:[pH](?:\^\{\d+\})?|\\sigma\^\{\d+\}|\s)+)",
            re.sub(r"\\\\|&\\quad", " ", text),
        ):
            power = {name: int(e or 1) for name, e in re.findall(r"(p|H|\\sigma)(?:\^\{(\d+)\})?", powers)}
            exponent = (power.get("p", 0), power.get("H", 0), power.get("\\sigma", 0) // 2)
            size = Fraction(*map(int, re.findall(r"\d+", number))) if number else Fraction(1)
            found[exponent] = -size if sign == "-" else size
        assert found == dict(expected)


def test_series_of_a_described_problem(run: Run, tmp_path: Path) -> None:
    w, x = lf.Tensor("w", ("H", "p")), lf.Tensor("x", ("p",), variance=1, learned=False)
    problem = lf.PolynomialProblem(lf.diagram(w("k", "i"), x("i"), w("k", "j"), x("j")) * lf.size("H", -1))
    (tmp_path / "network.toml").write_text(problem.to_toml())
    code, out, _ = run("series", "--problem", str(tmp_path / "network.toml"), "--to", "1", "--json")
    assert code == 0
    expected = lf.expand(problem, 1)
    got = json.loads(out)["coefficients"]
    assert [{tuple(map(int, key.split(","))): Fraction(c) for key, c in y.items()} for y in got] == [
        dict(y) for y in expected.coefficients
    ]
    assert any(exponent[expected.variables.index("H")] < 0 for exponent in expected.coefficients[1])


@pytest.mark.parametrize("form", ["--latex", "--json", None])
def test_series_of_free_evolution_and_scaled_identity(run: Run, form: str | None) -> None:
    forms = [form] if form else []
    assert run("series", "--target", "zero", *forms)[0] == 0
    assert run("series", "--scale", "1/2", *forms)[0] == 0
    assert run("series", "--scale", "1/2", *forms)[1] != run("series", *forms)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nu", "1"], "order must be at least 2, got 1"),
        (["--nu", "200000"], "order must be at most 100, got 200000"),
        (["--nu", "two"], "'--nu'"),
        (["--to", "-1"], ">= 0, got -1"),
        (["--target", "identiy"], "did you mean 'identity'"),
        (["--scale", "much"], "rational number"),
        (["--scale", "2", "--target", "zero"], "leave it out"),
        (["--latex", "--json"], "choose one"),
        (["--problem", "no-such-file.toml"], "no-such-file.toml: No such file"),
        (["--problem", "x.toml", "--nu", "3"], "leave out --nu"),
        (["--at", "p"], "NAME=VALUE"),
        (["--at", "p=many"], "needs a number"),
        (["--at", "p=1/0"], "needs a number"),
        (["--at", "p=1e999999999"], "needs a number"),
        (["--at", "p=8", "--at", "p=9"], "twice"),
        (["--at", "p=8"], "missing 'H', 'sigma2'"),
        (["--at", "P=8"], "did you mean 'p'"),
        (["--at", "p=-8", "--at", "H=2", "--at", "sigma2=1"], "size 'p' must be a finite number >= 0"),
        (["--at", "p=8.5", "--at", "H=2", "--at", "sigma2=1"], "whole number >= 1"),
        (["--at", "p=8", "--at", "H=0", "--at", "sigma2=1"], "whole number >= 1"),
        (["--at", "p=8", "--at", "H=2", "--at", "sigma2=-1"], "'sigma2' must be a finite number >= 0"),
        (["--ta", "3"], "No such option"),
    ],
)
def test_series_refuses(run: Run, arguments: list[str], message: str) -> None:
    refused(run("series", *arguments), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"type = ", "not a TOML document"),
        (b'type = "CPDecompositon"', "did you mean 'CPDecomposition'"),
        (b'type = "CPDecomposition"\nordr = 3', "did you mean 'order'"),
        (b'type = "Zero"', "expected an? AbstractProblem"),
        (b"order = 3", "expected an? AbstractProblem"),
        (b'[problem]\ntype = "CPDecomposition"\n', r"more than a problem; write its table \[problem\] alone"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_wrong_problem_file_is_refused_with_its_name(run: Run, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "problem.toml"
    path.write_bytes(content)
    result = run("series", "--problem", str(path))
    refused(result, message)
    assert "problem.toml" in result[2]


def test_a_corrupted_cache_is_not_believed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSFLOW_CACHE", str(tmp_path))
    fresh = run("series")
    assert run("series") == fresh
    (path,) = (file for file in cache_folder().rglob("*") if file.is_file())
    whole = path.read_bytes()
    for damaged in (whole.replace(b"2", b"3", 1), whole[:-1], b""):
        path.write_bytes(damaged)
        refused(run("series"), re.escape(str(path)))
        assert path.read_bytes() == damaged
    path.unlink()
    assert run("series") == fresh


def test_commands_are_spelled_with_help(run: Run) -> None:
    refused(run("seris"), r"'series'\? `lossflow --help`")
    refused(run("reproduce"), "NAME")
    refused(run("report", "--into", "x"), "No such option")


def test_figures_are_checked_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    refused(run("reproduce", "diagrams", "matrx", "--out", str(tmp_path)), "did you mean 'matrix'")
    assert not list(tmp_path.iterdir())


def drawing(agree: bool) -> Figure:
    """A figure that takes no time, under a name that the library has."""

    def draw(height: float) -> Outcome:
        canvas = Canvas(figsize=(2, 2))
        canvas.add_subplot().plot([0, height])
        verdict = Verdict("the line", 0.01, 1.5, (0.0, 1.0), agree, "as the theory has it" if agree else "far off")
        return Outcome((Picture("line", canvas, "A line."),), (verdict,))

    figure = Figure("diagrams", "A line", "It rises.", ("YGG26v2",), {"height": 1.0}, {"height": 2.0}, draw)
    return replace(figure, beyond="a height of 3, which takes a ladder")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """What the command line finds by name; the report, imported before, keeps the real figures whatever test runs first."""
    importlib.import_module("lossflow.report")
    found = {"diagrams": drawing(agree=True)}
    monkeypatch.setattr(registry, "find", found.__getitem__)
    return found


def test_reproduce_writes_pictures_and_verdicts(run: Run, figures: dict[str, Figure], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    code, out, err = run("reproduce", "diagrams", "diagrams", "--full", "--out", str(folder))
    assert (code, err) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["diagrams.json", "diagrams.pdf", "diagrams.png"]
    assert (folder / "diagrams.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "diagrams.pdf").read_bytes().startswith(b"%PDF")
    data = json.loads((folder / "diagrams.json").read_text())
    assert data["agree"] is True
    assert (data["extent"], data["parameters"]) == ("full", {"height": 2.0})
    assert out.count("  agree     the line: as the theory has it\n") == 1
    assert out.startswith("diagrams --full leaves out a height of 3, which takes a ladder\n")
    code, out, err = run("reproduce", "diagrams", "--out", str(folder))
    assert (code, "leaves out" in out) == (0, False)
    assert json.loads((folder / "diagrams.json").read_text())["extent"] == "quick"


def test_reproduce_all_goes_on_when_a_figure_fails(
    run: Run, figures: dict[str, Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> Outcome:
        raise ZeroDivisionError("nothing to divide by")

    good = figures["diagrams"]
    figures["matrix"] = replace(good, name="matrix", draw=broken)
    figures["committee"] = replace(drawing(agree=False), name="committee")
    figures["kernels"] = replace(good, name="kernels")
    monkeypatch.setattr(registry, "MODULES", dict.fromkeys(("diagrams", "matrix", "committee", "kernels"), ""))
    code, out, err = run("reproduce", "--all", "--out", str(tmp_path))
    assert (code, err) == (1, "")
    assert "  failed: ZeroDivisionError: nothing to divide by\n" in out
    table = (tmp_path / "verdicts.txt").read_text()
    assert out.endswith("\n" + table)
    lines = [line.split() for line in table.splitlines()]
    assert [line[:2] for line in lines[1:-1]] == [
        ["agree", "diagrams"],
        ["failed", "matrix"],
        ["DISAGREE", "committee"],
        ["agree", "kernels"],
    ]
    assert lines[1][2:7] == ["1", "of", "1", "0.01", "1.5"]
    assert lines[-1][:5] == ["2", "of", "4", "figures", "agree,"]
    assert {path.stem for path in tmp_path.glob("*.json")} == {"diagrams", "committee", "kernels"}


def test_reproduce_takes_names_or_all(run: Run) -> None:
    refused(run("reproduce", "matrix", "--all"), "either NAME... or --all")


def test_a_figure_that_disagrees_says_so(run: Run, figures: dict[str, Figure], tmp_path: Path) -> None:
    figures["diagrams"] = drawing(agree=False)
    code, out, _ = run("reproduce", "diagrams", "--out", str(tmp_path))
    assert code == 1
    assert "  DISAGREE  the line: far off\n" in out
    assert json.loads((tmp_path / "diagrams.json").read_text())["agree"] is False


def test_no_space_left_loses_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # file-size limits exist on POSIX only
    picture = tmp_path / "diagrams.png"
    picture.write_bytes(b"what was there before")
    done = process(
        "reproduce",
        "diagrams",
        "--out",
        str(tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
    )
    refused((done.returncode, done.stdout, done.stderr), r"diagrams\.png: no space left")
    assert picture.read_bytes() == b"what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["diagrams.png"]


@pytest.mark.parametrize("command", [["reproduce", "diagrams"], ["report"]])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_made(
    run: Run, figures: dict[str, Figure], tmp_path: Path, command: list[str]
) -> None:
    def made(**_: object) -> Outcome:
        raise AssertionError("the figure was made first")

    figures["diagrams"] = replace(figures["diagrams"], draw=made)
    (tmp_path / "file").write_text("in the way")
    refused(run(*command, "--out", str(tmp_path / "file")), "cannot write to .*file: File exists; choose another")
    refused(run(*command, "--out", str(tmp_path / "file" / "below")), "Not a directory; choose another")
    assert (tmp_path / "file").read_text() == "in the way"


def test_an_interruption_says_that_finished_work_is_kept(run: Run, figures: dict[str, Figure], tmp_path: Path) -> None:
    def interrupted(**_: object) -> Outcome:
        raise KeyboardInterrupt

    figures["matrix"] = replace(figures["diagrams"], name="matrix", draw=interrupted)
    code, out, err = run("reproduce", "diagrams", "matrix", "--out", str(tmp_path))
    assert code == 130
    assert err.strip() == "lossflow: interrupted; finished work is kept"
    assert "diagrams.json" in out
    assert out.splitlines()[-1].startswith("1 of 1 figures agree")
    assert (tmp_path / "diagrams.json").exists()
    assert "diagrams" in (tmp_path / "verdicts.txt").read_text()


def test_a_reader_that_leaves_is_no_error() -> None:
    """`lossflow list | head -1`: no traceback and nothing on standard error."""
    command = f"{sys.executable} -m lossflow list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == "problems:\n"
    assert done.stderr == ""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        gone = subprocess.run(
            [sys.executable, "-m", "lossflow", "--help"], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert gone.stderr == b""
    assert gone.returncode == 1


def test_python_m_lossflow_is_the_command() -> None:
    done = process("series", "--to", "0")
    assert done.returncode == 0
    assert "Y_0 = 1/2 p" in done.stdout
    wrong = process("series", "--nu", "1")
    refused((wrong.returncode, wrong.stdout, wrong.stderr), "at least 2")


def test_report_writes_the_page(
    run: Run, figures: dict[str, Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossflow.report.SELECTION", ("diagrams",))
    monkeypatch.setattr("lossflow.report.find", figures.__getitem__)
    code, out, err = run("report", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    assert f"written: {tmp_path / 'index.html'}" in out
    assert "It rises." in (tmp_path / "index.html").read_text()
    figures["diagrams"] = drawing(agree=False)
    assert run("report", "--out", str(tmp_path))[0] == 1


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_run(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^\w+ agrees with ", done.stdout, re.M)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_in_toml_run(file: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = "sweep" if file.stem.endswith("_sweep") else "run"
    assert file.read_text().startswith(f"# lossflow {command} examples/{file.name}\n")
    code, out, err = run(command, str(file))
    assert (code, err) == (0, "")
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 1
    if command == "run":
        assert re.search(r"^  agree     \w+.* agrees with ", out, re.M)
        assert list(folders[0].glob("*.png"))
    else:
        assert re.search(r"^  complete: \d+$", out, re.M)
        assert "failed" not in out


def test_a_run_is_answered_once_and_its_exit_code_tells(run: Run, tmp_path: Path) -> None:
    """One run of a small problem is far from the limit, once its scatter is not known."""
    example = (EXAMPLES / "limit_against_experiment.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(example.replace("p = 64, H = 32", "p = 8, H = 4").replace("runs = 32", "runs = 4000"))
    arguments = ("run", str(path), "--out", str(tmp_path / "out"))
    first = run(*arguments)
    again = run(*arguments)
    assert first[0] == again[0]
    assert first[1].replace("written: ", "kept: ").replace("kept: " + str(tmp_path / "out" / "loss.png"), "") == again[
        1
    ].replace("written: " + str(tmp_path / "out" / "loss.png"), "")
    data = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert data["agree"] == (first[0] == 0)
    assert ("DISAGREE" in first[1]) == (first[0] == 1)


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("run", b"[problm]", "the file has no 'problm'; did you mean 'problem'"),
        ("sweep", b"[grdi]", "the file has no 'grdi'; did you mean 'grid'"),
        ("run", b"\xff\xfe\x00", "not a text file"),
        ("run", None, "No such file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(
    run: Run, tmp_path: Path, command: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    result = run(command, str(path))
    refused(result, message)
    assert "mine.toml" in result[2]
    assert list(tmp_path.iterdir()) == [path][: content is not None]


def test_a_sweep_without_any_answer_fails(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[problem]\ntype = "CPDecomposition"\n[grid]\norder = [2]\n[question]\ntype = "Stationary"\n'
        f'[output]\nfolder = "{(tmp_path / "out").as_posix()}"\n'
    )
    code, out, _ = run("sweep", str(path), "--workers", "1")
    assert code == 1
    assert "failed: 1, the first: NotSpoken: no engine knows the end state" in out


def test_regimes_lists_all_and_marks_where_sizes_belong(run: Run) -> None:
    arguments = ("--nu", "3", "--asymmetric", "--at", "p=64", "--at", "H=4096", "--at", "sigma2=1/1000")
    code, out, err = run("regimes", *arguments)
    assert (code, err) == (0, "")
    problem, sizes = lf.CPDecomposition(3, False), {"p": 64.0, "H": 4096.0, "sigma2": 0.001}
    for regime in lf.regimes(problem):
        mark = "*" if regime.name == "D-E" else " "
        assert f"\n{mark} {regime.name}: {regime.condition}\n" in out
        assert f"time scale {regime.time_scale} = {regime.time_scale.at(sizes):.6g}\n" in out
        assert f"learning {regime.learning}, meaning: {regime.meaning}\n" in out
    depth = lf.classify(problem, sizes=sizes).depth
    assert out.endswith(f"D-E at depth {depth:.6g}, the logarithm of the ratio to what is neglected\n")


def test_regimes_by_powers_are_exact(run: Run) -> None:
    """0.2 is twice 0.1 on the command line too, so that a wall is met."""
    arguments = ("--nu", "3", "--asymmetric", "--exponent", "p=0.1", "--exponent", "H=0.2", "--exponent", "sigma2=-0.7")
    data = json.loads(run("regimes", "--json", *arguments)[1])
    assert data["placement"] == {"regime": "D-E", "depth": pytest.approx(1.7)}
    problem = lf.AbstractProblem.from_plain(data["problem"])
    assert [row["name"] for row in data["regimes"]] == [regime.name for regime in lf.regimes(problem)]
    assert data["regimes"][0]["time_scale"] == "1 / (p^2 sigma2^2)"
    assert data["regimes"][0]["vertices"] == [[11, 1, 11]]


def test_regimes_of_odd_orders_say_where_there_is_no_time_scale(run: Run) -> None:
    code, out, _ = run("regimes", "--nu", "3", "--at", "p=1000", "--at", "H=30000", "--at", "sigma2=1")
    assert code == 0
    assert "time scale none\n" in out
    assert "no single time scale" in out


def test_regimes_of_a_problem_in_a_file(run: Run, tmp_path: Path) -> None:
    v = lf.Tensor("v", ("p",), variance="s2", mean="m")
    path = tmp_path / "mine.toml"
    path.write_text(lf.PolynomialProblem(Fraction(1, 2) * lf.diagram(v("i"), v("j"))).to_toml())
    code, out, _ = run("regimes", "--problem", str(path))
    assert code == 0
    assert "A-B: p m^2 ~ s2\n" in out
    assert "observed to order 4" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--at", "p=2", "--exponent", "p=2"), "choose one"),
        (("--at", "p=2"), "missing for H, sigma2"),
        (("--at", "p=2", "--at", "p=3"), "--at names 'p' twice"),
        (("--exponent", "p"), "--exponent needs NAME=VALUE"),
        (("--exponent", "p=one"), "--exponent p needs a number"),
        (("--exponent", "p=-1", "--exponent", "H=1", "--exponent", "sigma2=1"), "must be >= 0"),
        (("--at", "p=2", "--at", "H=2.5", "--at", "sigma2=1"), "whole number"),
        (("--at", "p=2", "--at", "H=2", "--at", "sigma2=0"), "must be > 0"),
        (("--nu", "1"), "at least 2"),
        (("--target", "identy"), "did you mean 'identity'"),
    ],
)
def test_regimes_of_nonsense_are_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    refused(run("regimes", *arguments), message)
