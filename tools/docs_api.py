"""The reference: one page for each kind of public name, made of signatures and docstrings; one page for the figures.

Everything comes from the code: the public table, the signatures, the docstrings, the registry of figures, the sources of
the tests that the errata name. Names of the library in a docstring lead to their own place, sections of the theory notes
and keys of papers to theirs.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from docs_plain import blocks, inline

ROOT = Path(__file__).resolve().parent.parent
CITATION = re.compile(
    r"(docs/theory/)?\b(\w+)\.md\b((?:,? sections? | and |, | to )[AB\d][\d.]*(?:(?:,| and| to) [AB\d][\d.]*)*)?"
)
KEY = re.compile(r"\[([A-Z]+\d\dv\d)\]")


@cache
def catalog() -> Mapping[str, Mapping[str, Any]]:
    """kind -> name -> the thing, of everything public, by the kinds of `lossflow list`."""
    import lossflow
    from lossflow import cli
    from lossflow.public import HOMES

    found: dict[str, dict[str, Any]] = {kind: {} for kind in cli.KINDS if kind != "figures"}
    for name in HOMES:
        thing = getattr(lossflow, name)
        found[cli._kind(name, thing)][name] = thing
    return {kind: things for kind, things in found.items() if things}


@cache
def places() -> Mapping[str, str]:
    """name -> "page.md#anchor" in the reference."""
    return {name: f"{page(kind)}#{name}" for kind, things in catalog().items() for name in things}


def page(kind: str) -> str:
    return f"{kind.replace(' ', '_')}.md"


def index() -> str:
    lines = ["# Reference", ""]
    lines += [
        "Every public name, by kind; `lossflow list` prints the same. What holds for all of them: times are those of "
    ]
    lines += [
        "du/dt = -dL/du for the loss as written, and of du/dt = -d * d(loss + penalty)/du for models of data in d "
    ]
    lines += [
        "dimensions; arrays are float64; values are uncentered and unrounded; `uncertainty` is one standard error of the "
    ]
    lines += [
        "total error. Misuse raises `InvalidInput`, `UnknownField`, `UnknownName` or `NotSpoken`, whose message says what "
    ]
    lines += ["came, what was expected and what to do; a flow that ends is a `status`, never a silent number.", ""]
    for kind, things in catalog().items():
        lines += [f"## {kind.capitalize()}", "", "| name | |", "|---|---|"]
        for name, thing in things.items():
            first = (thing.__doc__ or "").strip().partition("\n")[0]
            lines.append(f"| [`{name}`]({page(kind)}#{name}) | {_cell(inline(first, note=False))} |")
        lines.append("")
    return "\n".join(lines)


def reference(kind: str) -> str:
    lines = [f"# {kind.capitalize()}", ""]
    for name, thing in catalog()[kind].items():
        lines += [f"## {name} {{ #{name} }}", "", *_entry(name, thing), ""]
    return "\n".join(lines)


def _entry(name: str, thing: Any) -> Iterator[str]:
    from lossflow.public import HOMES

    yield f'<pre class="signature"><code>{html.escape(_call(name, thing), quote=False)}</code></pre>'
    yield ""
    yield f'<div class="docstring">\n{linked(inspect.cleandoc(thing.__doc__ or ""))}\n</div>'
    yield ""
    if isinstance(thing, type):
        yield from _members(name, thing)
    yield f'<p class="home">{_family(thing)}module <code>{HOMES[name]}</code></p>'


def _members(name: str, cls: type) -> Iterator[str]:
    for member, attribute in vars(cls).items():
        function = getattr(attribute, "__func__", getattr(attribute, "fget", attribute))
        if member.startswith("_") or member == "check" or not inspect.isfunction(function) or not function.__doc__:
            continue
        call = member if isinstance(attribute, property) else _call(member, function)
        yield '<div class="member" markdown="0">'
        yield f'<pre class="signature"><code>{name}.{html.escape(call, quote=False)}</code></pre>'
        yield f"{linked(inspect.cleandoc(function.__doc__))}\n</div>"
        yield ""


def _family(thing: Any) -> str:
    if not isinstance(thing, type):
        return "function, "
    bases = [base.__name__ for base in thing.__bases__ if base.__name__ in places()]
    return f"a {', '.join(_to(base) for base in bases)}, " if bases else "class, "


def _to(name: str) -> str:
    return f'<a href="{places()[name]}"><code>{name}</code></a>'


def _call(name: str, thing: Any) -> str:
    """The call with its types, on one line where it fits: `solve(problem: AbstractProblem, ...) -> Trajectory`."""
    if isinstance(thing, type) and not dataclasses.is_dataclass(thing):
        return name
    # calls of descriptions are inspected by their __init__: their metaclass takes any
    signature = inspect.signature(thing.__init__ if isinstance(thing, type) else thing)
    given = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    returns = "" if isinstance(thing, type) or signature.return_annotation is inspect.Signature.empty else " -> "
    returns += _type(signature.return_annotation) if returns else ""
    arguments, starred = [], False
    for p in given:
        if p.kind is p.KEYWORD_ONLY and not starred:
            arguments.append("*")
            starred = True
        mark = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = "" if p.default is p.empty else f" = {_default(p.default)}"
        arguments.append(f"{mark}{p.name}{': ' + _type(p.annotation) if p.annotation is not p.empty else ''}{default}")
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= 96:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.strip("'\"")


def _default(value: Any) -> str:
    return "..." if "<factory>" in repr(value) or " at 0x" in repr(value) else repr(value)


def linked(text: str, up: str = "../") -> str:
    """A docstring as HTML with its references as links. up: the way from the page to docs/."""

    def say(line: str) -> str:
        made = inline(line, note=False)
        made = KEY.sub(rf'[<a href="{up}references.md#\1">\1</a>]', CITATION.sub(lambda m: _theory(m, up), made))
        return re.sub(r"<code>(?:lf\.|lossflow\.)?([A-Za-z]\w*)(\([^<]*\))?</code>", _code, made)

    # an argument, what is raised and the source begin lines of their own
    text = re.sub(r"\n(?=(?:Raises|Returns|docs/theory|[a-z_]\w*(?:, \w+)*: ))", "\n\n", text)
    return blocks(text, say)


def _code(match: re.Match[str]) -> str:
    name = match[1]
    return f'<a href="{places()[name]}">{match[0]}</a>' if name in places() else match[0]


def _theory(match: re.Match[str], up: str) -> str:
    note = match[2]
    if not (ROOT / "docs" / "theory" / f"{note}.md").exists():
        return match[0]
    shown, sections = f"{match[1] or ''}{note}.md", match[3] or ""
    made = f'<a href="{up}theory/{note}.md">{shown}</a>'
    known = section_names(note)

    def section(m: re.Match[str]) -> str:
        number = m[0].rstrip(".")
        tail = m[0][len(number) :]
        return f'<a href="{up}theory/{note}.md#{anchor(number)}">{number}</a>{tail}' if number in known else m[0]

    return made + re.sub(r"(?<![\w.])[AB\d][\d.]*", section, sections)


@cache
def section_names(note: str) -> frozenset[str]:
    text = (ROOT / "docs" / "theory" / f"{note}.md").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^#+ ([\w.]+?)\.? ", text, re.MULTILINE))


def anchor(section: str) -> str:
    return f"section-{section.replace('.', '-')}"


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("[", "&#91;")


def figures() -> str:
    """What can be made again, with the claim of each figure."""
    from lossflow.figures.registry import MODULES, find

    lines = ["# Figures", ""]
    lines += ["Each compares theory and experiment, or two theories, and ends in a verdict with numbers: "]
    lines += [
        "`lossflow reproduce NAME` makes the quick one in seconds to a minute, `--full` the one of the published size.",
        "",
    ]
    for name in MODULES:
        figure = find(name)
        sources = ", ".join(f"[{key}](references.md#{key})" for key in figure.sources)
        lines += [f"## {name} {{ #{name} }}", "", f"**{figure.title}**", "", _escaped(figure.claim), ""]
        lines += [f"    lossflow reproduce {name} --quick", "", f"Sources: {sources}", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return re.sub(r"([*_<|])", r"\\\1", text)


def references() -> str:
    """The bibliography as a page."""
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    lines = [
        "# References",
        "",
        "Keys carry the version that was read, for numbers of equations move between versions.",
        "",
    ]
    for entry in re.finditer(r"@\w+\{(\w+),\n(.*?)\n\}", text, re.DOTALL):
        field = dict(re.findall(r"(\w+)\s*=\s*\{(.*?)\},?\s*(?=\n|$)", entry[2]))
        where = f"[arXiv:{field['eprint']}](https://arxiv.org/abs/{field['eprint']})" if "eprint" in field else ""
        where = ", ".join(filter(None, [field.get("journal", ""), where, field.get("doi", "")]))
        who = field.get("author", "").replace(" and ", ", ")
        lines += [
            f"## {entry[1]} {{ #{entry[1]} }}",
            "",
            f"{who}, *{field['title']}*, {where}, {field.get('year', '')}.",
            "",
        ]
    return "\n".join(lines)


def tests() -> str:
    """The source of every test that docs/errata.md names."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "errata.md").read_text(encoding="utf-8"))
    lines = ["# Tests of the errata", "", "Each shows by a computation of its own what a correction says.", ""]
    for path, name in dict.fromkeys(named):
        source = (ROOT / path).read_text(encoding="utf-8")
        found = re.search(rf"^(?:@[^\n]*\n)*def {name}\(.*?(?=^\S|\Z)", source, re.DOTALL | re.MULTILINE)
        assert found, f"{path} has no {name}"
        lines += [f"## {name} {{ #{name} }}", "", f"In `{path}`:", "", "```python", found[0].rstrip(), "```", ""]
    return "\n".join(lines)
