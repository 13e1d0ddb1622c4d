"""The command line: what there is, exact series, experiments and sweeps from a file, figures, the report.

Wrong input is answered with one line on standard error and exit code 2; exit code 1 says that a figure failed or disagrees.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossflow.errors import InvalidInput, LossflowError, UnknownName, nearest

if TYPE_CHECKING:
    from lossflow.expansion.pareto import Exponent
    from lossflow.expansion.regimes import Placement, Regime
    from lossflow.expansion.series import LossSeries
    from lossflow.experiments import Experiment
    from lossflow.figures.figure import Extent, Outcome
    from lossflow.problem import AbstractProblem
    from lossflow.trajectory import Trajectory

app = typer.Typer(
    name="lossflow",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

# how a problem is told on the command line, the same in every command: see `_problem`
ProblemFile = Annotated[
    Path | None, typer.Option(help="A TOML description of the problem, as `problem.to_toml()` writes it.")
]
Order = Annotated[int | None, typer.Option(help="Order of the decomposed tensor (the paper's nu).  [default: 2]")]
Symmetric = Annotated[
    bool | None,
    typer.Option("--symmetric/--asymmetric", help="One matrix in every slot, or one for each.  [default: symmetric]"),
]
Target = Annotated[str | None, typer.Option(help="Target tensor: 'identity' or 'zero'.  [default: identity]")]
Scale = Annotated[
    str | None, typer.Option(help="Factor of the identity target, a rational number such as 3/2.  [default: 1]")
]

# "wrong command line" is a class of typer or of click, depending on the version of typer; both derive this one from it
_UsageError: Any = typer.BadParameter.__mro__[1]

INTERRUPTED = 130
LONGEST = 300  # digits, and powers of ten, of a number on the command line: what a float can hold
KINDS = (
    "problems",
    "targets",
    "losses",
    "labels",
    "penalties",
    "activations",
    "priors",
    "starts",
    "diagrams",
    "methods",
    "resummations",
    "dynamics",
    "questions",
    "verbs",
    "results",
    "to extend",
    "errors",
    "figures",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _replace_what_cannot_be_shown()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = app(
                list(sys.argv[1:] if arguments is None else arguments), prog_name="lossflow", standalone_mode=False
            )
        sys.stdout.flush()
    except LossflowError as error:
        return _refuse(str(error))
    except _UsageError as error:
        said = error.format_message().rstrip(".")
        return _refuse(f"{said}{'' if said.endswith('?') else ';'} `lossflow --help` says what there is")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _close_quietly()
        return 1
    if code == INTERRUPTED:
        typer.echo("lossflow: interrupted; finished work is kept", err=True)
    return code or 0


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """How the loss of a large model falls under gradient flow: exact series, limits, experiments."""
    if version:
        from lossflow import __version__

        typer.echo(f"lossflow {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_names(
    name: Annotated[
        str | None, typer.Argument(help="A public name, a figure, or a kind such as 'problems'; all by default.")
    ] = None,
) -> None:
    """Print what there is, or all about one name."""
    catalog = _catalog()
    if name is None:
        chosen: Mapping[str, Mapping[str, str]] = catalog
    elif name in catalog:
        chosen = {name: catalog[name]}
    else:
        typer.echo(_all_about(name, catalog))
        return
    for kind, entries in chosen.items():
        typer.echo(f"{kind}:")
        width = max(map(len, entries))
        for entry, line in entries.items():
            typer.echo(f"  {entry:{width}}  {line}")


@app.command()
def series(
    problem: ProblemFile = None,
    nu: Order = None,
    symmetric: Symmetric = None,
    target: Target = None,
    scale: Scale = None,
    to: Annotated[int, typer.Option(help="Highest derivative (the paper's s).")] = 3,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Evaluate exactly at these sizes: --at p=64 --at H=32 --at sigma2=1/64."
        ),
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, rational numbers as strings.")] = False,
) -> None:
    """Print the exact power series of the loss of a problem.

    Y_s = E[d^s L/dt^s] at t = 0 for s = 0, 1, ..., as polynomials in the sizes with rational coefficients.

    The problem is a CP decomposition given by --nu, --symmetric/--asymmetric and --target, or any problem in a file.
    """
    if latex and json:
        raise InvalidInput("--latex and --json are two forms of one answer; choose one")
    if to < 0:
        raise InvalidInput(f"--to must be a whole number >= 0, got {to}")
    described = _problem(problem, nu=nu, symmetric=symmetric, target=target, scale=scale)
    sizes = _sizes(at or [])

    from lossflow.expansion.series import expand

    if sizes:
        described.as_diagrams().require({name: float(value) for name, value in sizes.items()})
    answer = expand(described, to)
    values = answer.at(**sizes) if sizes else None
    if json:
        typer.echo(_as_json(described, answer, sizes, values))
    elif latex:
        typer.echo("\n".join(_as_latex(answer, values)))
    else:
        typer.echo("\n".join(_as_table(described, answer, values)))


@app.command()
def regimes(
    problem: ProblemFile = None,
    nu: Order = None,
    symmetric: Symmetric = None,
    target: Target = None,
    scale: Scale = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Where these sizes belong: --at p=64 --at H=4096 --at sigma2=1/1000."),
    ] = None,
    exponent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Where sizes that grow like L^VALUE belong: --exponent p=1 --exponent H=2.5 --exponent sigma2=-2.4.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the scaling regimes of a problem, and where given sizes belong.

    A regime is a set of scalings at which one set of monomials leads the series of the loss. Its time scale is the time in
    which the loss changes; the depth of sizes is the logarithm of the ratio of the leading to the neglected monomials.

    The problem is a CP decomposition given by --nu, --symmetric/--asymmetric and --target, or any problem in a file.
    """
    if at and exponent:
        raise InvalidInput("--at gives numbers and --exponent powers of L; choose one")
    described = _problem(problem, nu=nu, symmetric=symmetric, target=target, scale=scale)
    sizes = {name: float(value) for name, value in _sizes(at or []).items()}
    powers = _sizes(exponent or [], "--exponent")

    from lossflow.expansion.regimes import classify
    from lossflow.expansion.regimes import regimes as regimes_of

    placement = None
    if sizes:
        placement = classify(described, sizes=sizes)
    elif powers:
        placement = classify(described, exponents=powers)  # type: ignore[arg-type]  # fractions are kept exact
    found = regimes_of(described)
    if json:
        typer.echo(_regimes_as_json(described, found, placement))
    else:
        typer.echo("\n".join(_regimes_as_table(described, found, placement, sizes)))


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment in TOML; see `lossflow run --help`.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the files go, instead of [output].")] = None,
) -> None:
    """Answer one problem by several methods and compare the answers, as a file describes.

    [problem], [methods.NAME] and [dynamics] hold descriptions: a type and its fields, as `to_toml()` writes them; `lossflow list
    NAME` prints the fields of a type. [times] holds from, to, count and spacing, or values, or steps and every. [output] holds
    folder and observables. The first method is compared with the others.

    Writes DIR/NAME.nc for every method as soon as it has its answer, DIR/verdict.json, and a picture of every observable. A file
    that holds the answer already is not computed again. Exit code 1 if a verdict disagrees.
    """
    from dataclasses import replace

    from lossflow.experiments import answers, read_experiment, verdicts
    from lossflow.figures.figure import prepared

    experiment = read_experiment(file)
    if out is not None:
        experiment = replace(experiment, folder=out)
    folder = prepared(experiment.folder)
    typer.echo(f"{experiment.title or file.stem}: {experiment.problem!r}")
    found = []
    for answer in answers(experiment):
        found.append(answer)
        typer.echo(f"  {answer.name}: {answer.trajectory.method!r}")
        typer.echo(f"  {'written' if answer.computed else 'kept'}: {answer.path}")
        if not answer.trajectory.status:
            typer.echo(f"  {answer.trajectory.status.kind}: {answer.trajectory.status.reason}")
    compared = verdicts(experiment, found)
    for comparison in compared:
        for gap in comparison.gaps:
            typer.echo(f"  {'agree   ' if gap.agree else 'DISAGREE'}  {gap.verdict}")
    for path in _pictures(experiment, [answer.trajectory for answer in found], folder):
        typer.echo(f"  written: {path}")
    if not all(comparison.agree for comparison in compared):
        raise typer.Exit(1)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep in TOML; see `lossflow sweep --help`.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the files go, instead of [output].")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes, instead of those of [executor].")] = None,
) -> None:
    """Ask one question at every point of a grid, as a file describes.

    [problem] and [question] hold descriptions: a type and its fields, as `to_toml()` writes them. [grid] holds FIELD = [...] or
    FIELD = { from, to, count, spacing }, a field of a field as "init.scale". [executor] holds type ("processes" or
    "dask") and workers, or the address of a dask scheduler; [output] holds folder.

    Writes DIR/sweep.nc. Interrupted or killed, the same command goes on with what is done. A point that fails is data, with its
    message. Exit code 1 if no point has an answer.
    """
    from dataclasses import replace

    from lossflow.description import brief
    from lossflow.experiments import read_survey, survey
    from lossflow.figures.figure import prepared

    plan = read_survey(file)
    plan = replace(plan, folder=out or plan.folder, workers=workers or plan.workers)
    folder = prepared(plan.folder)
    typer.echo(f"{plan.title or file.stem}: {brief(plan.question)} of {plan.problem!r}")
    found = survey(plan)
    axes = ", ".join(f"{name} ({len(values)})" for name, values in plan.grid.items())
    typer.echo(f"  {found.status.size} points over {axes}")
    kinds = [str(kind) for kind in found.status.values.ravel()]
    for kind in sorted(set(kinds)):
        message = str(found.message.values.ravel()[kinds.index(kind)])
        typer.echo(f"  {kind}: {kinds.count(kind)}{'' if kind == 'complete' else f', the first: {message}'}")
    typer.echo(f"  written: {folder / 'sweep.nc'}")
    if set(kinds) == {"failed"}:
        raise typer.Exit(1)


@app.command()
def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Figures; `lossflow list figures` prints them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every figure.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="Sizes that take seconds, or those of the publication.")
    ] = True,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("figures"),
) -> None:
    """Make figures, with a verdict for every curve.

    Writes each picture as PNG and PDF and the verdicts as JSON. A figure that fails does not stop the others, and after an
    interruption those that were made are kept. Several figures end with a table of all verdicts, DIR/verdicts.txt. Exit code 1 if
    a figure fails or disagrees.
    """
    from dataclasses import replace

    from lossflow.checkpoint import write_atomically
    from lossflow.figures.figure import prepared, write
    from lossflow.figures.registry import MODULES, find
    from lossflow.progress import progress
    from lossflow.report import Section, attempt, table

    if everything == bool(names):
        raise InvalidInput("reproduce takes either NAME... or --all; `lossflow list figures` prints the names")
    extent: Extent = "quick" if quick else "full"
    chosen = [find(name) for name in (MODULES if everything else dict.fromkeys(names or []))]
    folder = prepared(out)
    sections: list[Section] = []
    try:
        with progress(len(chosen), "figures") as bar:
            for figure in chosen:
                if figure.beyond and extent == "full":
                    typer.echo(f"{figure.name} --full leaves out {figure.beyond}")
                section = attempt(figure, extent)
                lines = [f"{figure.name}: {figure.title}"]
                if section.outcome is None:
                    lines.append(f"  failed: {section.failure}")
                else:
                    files = write(figure, extent, section.outcome, folder)
                    lines += [*_verdict_lines(section.outcome), f"  written: {', '.join(map(str, files))}"]
                    section = replace(section, outcome=replace(section.outcome, pictures=()))  # they take memory
                typer.echo("\n".join(lines))
                sections.append(section)
                if len(chosen) > 1:
                    write_atomically(folder / "verdicts.txt", "\n".join([*table(sections), ""]).encode())
                bar.update(1)
    finally:
        if len(chosen) > 1 and sections:
            typer.echo("\n".join(["", *table(sections)]))
    if not all(section.agrees for section in sections):
        raise typer.Exit(1)


@app.command()
def report(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where index.html goes.")] = Path("report"),
) -> None:
    """Write a page that compares theory and experiment.

    DIR/index.html shows a fixed quick selection of figures and needs no other file. Exit code 1 if a figure fails
    or disagrees; the page then says so in its place.
    """
    from lossflow.report import SELECTION, build

    summary = build(out, SELECTION)
    typer.echo("\n".join(summary.lines))
    if not summary.agree:
        raise typer.Exit(1)


@app.command()
def explore(
    port: Annotated[int, typer.Option(help="Where the pages are served, on this machine alone.")] = 2718,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
) -> None:
    """Open pages with sliders in a browser: regimes, mean field, quadratic networks. Needs the extra [explore]."""
    from lossflow.explore.server import serve

    raise typer.Exit(serve(port, browser))


def _problem(
    path: Path | None, *, nu: int | None, symmetric: bool | None, target: str | None, scale: str | None
) -> AbstractProblem:
    from lossflow.problem import AbstractProblem

    if path is not None:
        given = {"--nu": nu, "--symmetric": symmetric, "--target": target, "--scale": scale}
        extra = [option for option, value in given.items() if value is not None]
        if extra:
            raise InvalidInput(f"--problem describes the whole problem; leave out {', '.join(extra)}")
        from lossflow.checkpoint import read

        try:
            text = read(path).decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not a text file; a problem is described in TOML") from None
        try:
            return AbstractProblem.from_toml(text)
        except LossflowError as error:
            if "\n[problem]\n" in f"\n{text}\n":
                raise InvalidInput(
                    f"{path} describes more than a problem; write its table [problem] alone, without that heading"
                ) from None
            raise InvalidInput(f"{path}: {error}") from None

    from lossflow.problems.cp import CPDecomposition
    from lossflow.problems.targets import Identity, Zero

    match target or "identity":
        case "identity":
            aim = Identity() if scale is None else Identity(scale)  # type: ignore[arg-type]  # coerced, or refused
        case "zero":
            if scale is not None:
                raise InvalidInput("--scale is a factor of the identity target; leave it out with --target zero")
            aim = Zero()
        case unknown:
            raise UnknownName(f"no target is called {unknown!r}; {nearest(unknown, ['identity', 'zero'])}")
    return CPDecomposition(order=2 if nu is None else nu, symmetric=symmetric is not False, target=aim)


def _sizes(pairs: Sequence[str], option: str = "--at") -> dict[str, Fraction]:
    sizes: dict[str, Fraction] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            raise InvalidInput(f"{option} needs NAME=VALUE, such as {option} p=64, got {pair!r}")
        if name in sizes:
            raise InvalidInput(f"{option} names {name!r} twice")
        sizes[name] = _rational(f"{option} {name}", text)
    return sizes


def _rational(what: str, text: str) -> Fraction:
    digits, _, exponent = text.lower().partition("e")
    try:
        if len(digits) > LONGEST or abs(int(exponent or "0")) > LONGEST:  # exact arithmetic would not come to an end
            raise ValueError
        value = Fraction(text)
        float(value)
        return value
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InvalidInput(f"{what} needs a number such as 64, 1/64 or 0.5, got {text[:40]!r}") from None


def _as_json(
    problem: AbstractProblem, answer: LossSeries, sizes: Mapping[str, Fraction], values: Sequence[Fraction] | None
) -> str:
    """Coefficients under their exponents, "1,2,2" for p H^2 sigma2^2 where the variables are p, H, sigma2."""
    import json

    data: dict[str, Any] = {
        "problem": problem.to_plain(),
        "variables": list(answer.variables),
        "assumptions": list(answer.assumptions),
        "coefficients": [
            {",".join(map(str, exponent)): str(c) for group in _groups(answer, y) for exponent, c in group}
            for y in answer.coefficients
        ],
    }
    if values is not None:
        data["at"] = {name: str(value) for name, value in sizes.items()}
        data["values"] = [str(value) for value in values]
    return json.dumps(data, indent=2)


def _as_table(problem: AbstractProblem, answer: LossSeries, values: Sequence[Fraction] | None) -> Iterator[str]:
    """One paragraph for each Y_s, one line for each power of the variances, the value at the sizes at the end."""
    yield f"{problem!r}"
    yield f"Y_s = E[d^s L/dt^s] at t = 0 in {', '.join(answer.variables)}"
    if answer.assumptions:
        yield f"for {', '.join(answer.assumptions)}"
    for s, y in enumerate(answer.coefficients):
        head = f"Y_{s} = "
        yield ""
        yield from _wrapped(head, [[_term(answer, *term) for term in group] for group in _groups(answer, y)])
        if values is not None:
            exact, number = str(values[s]), f"{float(values[s]):.12g}"
            yield f"{'= ':>{len(head)}}{exact}{'' if exact == number else f' = {number}'}"


def _wrapped(head: str, groups: Sequence[Sequence[str]]) -> Iterator[str]:
    """Every group on lines of its own, as many terms on a line as fit the terminal, `head` before the first."""
    from shutil import get_terminal_size

    width = max(get_terminal_size((110, 24)).columns - 1, 40)
    if not groups:
        yield f"{head}0"
    for place, (first, *others) in enumerate(groups):
        line = " " * len(head) + first if place else head + first.removeprefix("+ ").replace("- ", "-")
        for term in others:
            if len(line) + 1 + len(term) > width:
                yield line
                line = " " * len(head) + term
            else:
                line += " " + term
        yield line


def _term(answer: LossSeries, exponent: Sequence[int], coefficient: Fraction) -> str:
    powers = [name + (f"^{e}" if e != 1 else "") for name, e in zip(answer.variables, exponent, strict=True) if e]
    size = abs(coefficient)
    factors = powers if size == 1 and powers else [str(size), *powers]
    return f"{'-' if coefficient < 0 else '+'} {' '.join(factors)}"


def _as_latex(answer: LossSeries, values: Sequence[Fraction] | None) -> Iterator[str]:
    yield r"\begin{align*}"
    for s, y in enumerate(answer.coefficients):
        lines = ["".join(_latex_term(answer, *term) for term in group) for group in _groups(answer, y)] or ["0"]
        lines[0] = lines[0].removeprefix("+")
        if values is not None:
            lines.append(f"= {_latex_number(values[s])}")
        last = s == answer.order
        yield f"Y_{{{s}}} &= " + " \\\\\n&\\quad ".join(lines) + ("" if last else r" \\")
    yield r"\end{align*}"


def _latex_term(answer: LossSeries, exponent: Sequence[int], coefficient: Fraction) -> str:
    powers = " ".join(_latex_power(name, e) for name, e in zip(answer.variables, exponent, strict=True) if e)
    size = abs(coefficient)
    number = "" if size == 1 and powers else _latex_number(size)
    return f"{'-' if coefficient < 0 else '+'}{number}{' ' if number and powers else ''}{powers}"


def _latex_number(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return rf"{'-' if value < 0 else ''}\tfrac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _latex_power(name: str, power: int) -> str:
    if name == "sigma2":
        return rf"\sigma^{{{2 * power}}}"
    base = name if len(name) == 1 else rf"\mathit{{{name}}}".replace("_", r"\_")
    return base if power == 1 else f"{base}^{{{power}}}"


def _groups(answer: LossSeries, y: Mapping[Exponent, Fraction]) -> list[list[tuple[Exponent, Fraction]]]:
    """Terms by rising powers of the variances and, within each, leading ones first."""
    parameters = [place for place, name in enumerate(answer.variables) if name in answer.parameters]
    sizes = [place for place in range(len(answer.variables)) if place not in parameters]
    groups: dict[Exponent, list[tuple[Exponent, Fraction]]] = {}
    for exponent, coefficient in y.items():
        groups.setdefault(tuple(exponent[place] for place in parameters), []).append((exponent, coefficient))

    def rank(term: tuple[Exponent, Fraction]) -> tuple[int, ...]:
        powers = [term[0][place] for place in sizes]
        return (-sum(powers), *(-power for power in powers))

    return [sorted(groups[key], key=rank) for key in sorted(groups)]


def _regimes_as_table(
    problem: AbstractProblem, found: Sequence[Regime], placement: Placement | None, sizes: Mapping[str, float]
) -> Iterator[str]:
    """Three lines for each regime, the one that sizes belong to marked, and at the end how deep inside they are."""
    yield f"{problem!r}"
    for regime in found:
        here = placement is not None and placement.regime == regime
        yield ""
        yield f"{'*' if here else ' '} {regime.name}: {regime.condition}"
        time = _time_of(regime, sizes)
        yield f"    time scale {regime.time_scale}{'' if time is None else f' = {time:.6g}'}"
        yield f"    parameterization {regime.parameterization}, learning {regime.learning}, meaning: {regime.meaning}"
    if placement is not None:
        ratio = "the logarithm of the ratio to what is neglected" if sizes else "the power of L in that ratio"
        yield ""
        yield f"{placement.regime.name} at depth {placement.depth:.6g}, {ratio}"


def _regimes_as_json(problem: AbstractProblem, found: Sequence[Regime], placement: Placement | None) -> str:
    import json

    rows = [
        {
            "name": regime.name,
            "condition": regime.condition,
            "time_scale": str(regime.time_scale),
            "parameterization": regime.parameterization,
            "learning": regime.learning,
            "meaning": regime.meaning,
            "vertices": [list(vertex) for vertex in regime.vertices],
        }
        for regime in found
    ]
    data: dict[str, Any] = {"problem": problem.to_plain(), "regimes": rows}
    if placement is not None:
        data["placement"] = {"regime": placement.regime.name, "depth": placement.depth}
    return json.dumps(data, indent=2)


def _time_of(regime: Regime, sizes: Mapping[str, float]) -> float | None:
    from lossflow.errors import NotSpoken

    try:
        return regime.time_scale.at(sizes) if sizes else None
    except NotSpoken:  # no single time scale: the meaning says why
        return None


def _pictures(experiment: Experiment, found: Sequence[Trajectory], folder: Path) -> Iterator[Path]:
    """A picture of every observable: the curves, and what is between them where there are several."""
    from lossflow.checkpoint import write_atomically
    from lossflow.figures.figure import encode
    from lossflow.plot import draw_comparison, draw_trajectories

    for name in experiment.observables:
        alone = len(found) == 1
        canvas = (
            draw_trajectories(*found, observable=name).figure if alone else draw_comparison(*found, observable=name)
        )
        stem = "-".join("".join(c if c.isalnum() or c == "_" else " " for c in name).split())  # "overlap[0, 1]"
        path = folder / f"{stem}.png"
        write_atomically(path, encode(canvas, "png"))  # type: ignore[arg-type]  # a figure, not a part of one
        yield path


def _verdict_lines(outcome: Outcome) -> Iterator[str]:
    for verdict in outcome.verdicts:
        yield f"  {'agree   ' if verdict.agree else 'DISAGREE'}  {verdict.curve}: {verdict.sentence}"


def _catalog() -> dict[str, dict[str, str]]:
    """kind -> name -> first line of the docstring, of everything public and every figure."""
    import lossflow as lf
    from lossflow.figures.registry import MODULES, find
    from lossflow.public import HOMES

    catalog: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for name in HOMES:
        thing = getattr(lf, name)
        catalog[_kind(name, thing)][name] = (thing.__doc__ or "").strip().partition("\n")[0]
    catalog["figures"] = {name: find(name).title for name in MODULES}
    return {kind: entries for kind, entries in catalog.items() if entries}


def _kind(name: str, thing: Any) -> str:
    import lossflow as lf

    if not isinstance(thing, type):
        return "diagrams" if thing.__module__.startswith("lossflow.diagrams") else "verbs"
    families = {
        "errors": lf.LossflowError,
        "problems": lf.AbstractProblem,
        "targets": lf.AbstractTarget,
        "losses": lf.AbstractLoss,
        "labels": lf.AbstractLabels,
        "penalties": lf.AbstractPenalty,
        "activations": lf.AbstractActivation,
        "priors": lf.AbstractPrior,
        "starts": lf.AbstractInit,
        "methods": lf.AbstractMethod,
        "dynamics": lf.AbstractDynamics,
        "questions": lf.AbstractQuestion,
        "resummations": lf.Resummation,
    }
    if thing in families.values() and thing is not lf.LossflowError:
        return "to extend"
    for kind, family in families.items():
        if issubclass(thing, family):
            return kind
    if thing.__module__.startswith("lossflow.diagrams"):
        return "diagrams"
    return "to extend" if thing.__module__ == "lossflow.description" else "results"


def _all_about(name: str, catalog: Mapping[str, Mapping[str, str]]) -> str:
    """Kind, signature and docstring of a public name; claim and parameters of a figure."""
    from inspect import cleandoc

    import lossflow as lf
    from lossflow.figures.registry import MODULES, find
    from lossflow.public import HOMES

    if name in MODULES:
        figure = find(name)
        lines = [f"figure {name}: {figure.title}", "", figure.claim, ""]
        for extent in ("quick", "full"):
            lines.append(f"--{extent}")
            lines += [f"  {key} = {value}" for key, value in figure.parameters(extent).items()]
        return "\n".join([*lines, f"sources: {', '.join(figure.sources)}"])
    if name not in HOMES:
        known = [*catalog, *(entry for entries in catalog.values() for entry in entries)]
        raise UnknownName(f"there is no {name!r}; {nearest(name, known)}")
    thing = getattr(lf, name)
    kind = next(kind for kind, entries in catalog.items() if name in entries)
    call = "" if kind in ("errors", "to extend") else _call(thing)
    return f"lossflow.{name}{call}\n({kind}, {HOMES[name]})\n\n{cleandoc(thing.__doc__ or '')}"


def _call(thing: Any) -> str:
    """The arguments of a class or function, without their types: "(sizes, order, resummation=Taylor())"."""
    from inspect import Signature, signature

    parameters = signature(thing.__init__ if isinstance(thing, type) else thing).parameters.values()
    bare = [parameter.replace(annotation=Signature.empty) for parameter in parameters if parameter.name != "self"]
    return str(Signature(bare))


def _refuse(message: str) -> int:
    typer.echo(f"lossflow: {' '.join(message.split())}", err=True)
    return 2


def _show_warning(message: Warning | str, *_: object) -> None:
    typer.echo(f"lossflow: warning: {' '.join(str(message).split())}", err=True)


def _replace_what_cannot_be_shown() -> None:
    """Docstrings hold letters that an ASCII terminal lacks; that is no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _close_quietly() -> None:
    """The reader has gone away: nothing more can be written, not even while the interpreter shuts down."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
