"""The plain text of the theory notes and docstrings as HTML: structure by indentation, formulas with raised and lowered signs.

The notes write mathematics as one types it, C_th(k,l) = E[theta_k theta_l^T]. Here x_i and x_{ij} become lowered, x^2
and x^{-1/2} raised, names of Greek letters letters (in the notes alone: in a docstring `alpha` is an argument). Nothing is
left out or put in another order: `words` gives back what stood there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
    "kappa": "κ", "lambda": "λ", "lam": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ",
    "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
LETTER = re.compile(rf"(?<![A-Za-z\\])({'|'.join(sorted(GREEK, key=len, reverse=True))})(?=2?(?![A-Za-z0-9]))")
BASE = r"(?:(?<![A-Za-z0-9_])[A-Za-z](?:\d|[*'])?|[Α-Ωα-ω][*']?|[)\]|}]|(?<![A-Za-z])(?:max|min|tr|lim|prod)|[∫∑])"
ARGUMENT = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
LOWERED = re.compile(rf"({BASE})_(?:{ARGUMENT}|([A-Za-z0-9*+]+(?:,[a-z0-9]\b)?))")
RAISED = re.compile(
    rf"((?:[A-Za-z0-9)\]|}}Α-Ωα-ω*'∫∑]|(?<=[a-z])[-+]|</sub>))\^(?:{ARGUMENT}|(\([^()]*\)|[-+]?[A-Za-zΑ-Ωα-ω0-9]+|\*))"
)
CODE = re.compile(r"`([^`]+)`")
BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
EMPHASIS = re.compile(r"(?<![\w*^{])\*([A-Za-z]{3,})\*(?!\w)")
SIGNS = {"int": "∫", "sum": "∑"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s,]*[./#][^)\s,]*)\)")
ITEM = re.compile(r"^(\s*)(?:[-*]\s+|(?=\d+\.\s))(.*)$")
Inline = Callable[[str], str]


def inline(text: str, note: bool = True) -> str:
    """One run of text as HTML: code, bold and formulas; of a note also links and Greek letters."""
    kept: list[str] = []

    def keep(made: str) -> str:
        kept.append(made)
        return f"\0{len(kept) - 1}\0"

    text = CODE.sub(lambda m: keep(f"<code>{html.escape(m[1], quote=False)}</code>"), text)
    if note:
        text = LINK.sub(lambda m: keep(f'<a href="{html.escape(m[2])}">{html.escape(m[1], quote=False)}</a>'), text)
    text = html.escape(text, quote=False)
    text = BOLD.sub(r"<strong>\1</strong>", text)
    text = EMPHASIS.sub(r"<em>\1</em>", text)
    if note:
        text = LETTER.sub(lambda m: GREEK[m[1]], text)
        text = re.sub(r"(?<=[α-ω])2(?![0-9])", "<sup>2</sup>", text)  # sigma2 is a variance
        text = text.replace("-&gt;", "→").replace("&lt;=", "≤").replace("&gt;=", "≥").replace("!=", "≠")
    text = re.sub(r"(?<![A-Za-z])(int|sum)(?=[_^])", lambda m: SIGNS[m[1]], text)
    for _ in range(3):  # signs on signs
        text = LOWERED.sub(lambda m: f"{m[1]}<sub>{m[2] if m[2] is not None else m[3]}</sub>", text)
        text = RAISED.sub(lambda m: f"{m[1]}<sup>{m[2] if m[2] is not None else m[3]}</sup>", text)
    for _ in range(3):
        text = re.sub(r"\0(\d+)\0", lambda m: kept[int(m[1])], text)
    return text


def words(made: str) -> str:
    """The letters and digits of HTML, and of a plain text that is escaped, without what `inline` adds or changes."""
    text = html.unescape(re.sub(r"<[^>]+>", "", made))
    for name, letter in (GREEK | SIGNS).items():
        text = text.replace(letter, name) if name != "lam" else text
    return re.sub(r"[^A-Za-z0-9]", "", text.replace("lambda", "lam"))


def blocks(text: str, say: Inline = inline, heading: Callable[[str, str], str] | None = None) -> str:
    """A text as HTML. heading(marks, title): how a heading is written; without it there are none."""
    lines, made, k = text.expandtabs(4).splitlines(), [], 0
    while k < len(lines):
        line = lines[k]
        if not line.strip():
            k += 1
        elif line.startswith("```"):
            end = next((j for j in range(k + 1, len(lines)) if lines[j].startswith("```")), len(lines))
            made.append(f"<pre><code>{html.escape(chr(10).join(lines[k + 1 : end]), quote=False)}</code></pre>")
            k = end + 1
        elif heading and (title := re.match(r"(#+) (.*)", line)):
            made.append(heading(title[1], title[2]))
            k += 1
        elif line.startswith("> "):
            end = _while(lines, k, lambda x: x.startswith(">"))
            made.append(f"<blockquote><p>{say(' '.join(x[1:].strip() for x in lines[k:end]))}</p></blockquote>")
            k = end
        elif line.lstrip().startswith("|"):
            end = _while(lines, k, lambda x: x.lstrip().startswith("|"))
            made.append(_table(lines[k:end], say))
            k = end
        elif ITEM.match(line) and _indent(line) < 4:
            end = _end_of_list(lines, k)
            made.append(_list(lines[k:end], say))
            k = end
        elif _indent(line) >= 2:
            end = _while(lines, k, lambda x: not x.strip() or _indent(x) >= 2)
            made.append(_formula(lines[k:end], say))
            k = end
        else:
            end = k + 1
            while end < len(lines) and not _starts_something(lines[end]):
                end += 1
            made.append(f"<p>{say(' '.join(x.strip() for x in lines[k:end]))}</p>")
            k = end
    return "\n".join(made)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _while(lines: Sequence[str], k: int, holds: Callable[[str], bool]) -> int:
    while k < len(lines) and holds(lines[k]):
        k += 1
    return k


def _starts_something(line: str) -> bool:
    other = line.startswith(("#", "> ", "```")) or line.lstrip().startswith("|") or bool(ITEM.match(line))
    return not line.strip() or other or _indent(line) >= 2


def _end_of_list(lines: Sequence[str], k: int) -> int:
    """A list goes on while lines are items or indented; a blank line ends it unless an item or an indented line follows."""
    while k < len(lines):
        if not lines[k].strip():
            after = next((x for x in lines[k:] if x.strip()), "")
            if not ITEM.match(after):
                return k
        elif not (ITEM.match(lines[k]) or _indent(lines[k]) >= 2):
            return k
        k += 1
    return k


def _list(lines: Sequence[str], say: Inline) -> str:
    margin = _indent(lines[0])
    items: list[list[str]] = []
    for line in lines:
        found = ITEM.match(line)
        if found and _indent(line) <= margin:
            items.append([found[2]])
        else:
            items[-1].append(line[margin + 2 :] if line.strip() else "")
    made = [f"<li>{_item(item, say)}</li>" for item in items]
    numbered = ' class="numbered"' if re.match(r"\s*\d", lines[0]) else ""  # the numbers stand in the text
    return f"<ul{numbered}>\n" + "\n".join(made) + "\n</ul>"


def _item(lines: Sequence[str], say: Inline) -> str:
    """An item: its text; lines that are indented further are formulas, lines that begin an item a list of their own."""
    made, text, k = [], [lines[0]], 1
    while k < len(lines):
        line = lines[k]
        if ITEM.match(line) and _indent(line) >= 0:
            end = k + 1
            while end < len(lines) and (ITEM.match(lines[end]) or _indent(lines[end]) >= _indent(line) + 2):
                end += 1
            made.append(say(" ".join(text)) + _list(lines[k:end], say))
            text, k = [], end
        elif _indent(line) >= 2:
            end = _while(lines, k, lambda x: _indent(x) >= 2)
            made.append(say(" ".join(text)) + _formula(lines[k:end], say))
            text, k = [], end
        else:
            text.append(line.strip())
            k += 1
    return "".join(made) + say(" ".join(x for x in text if x))


def _formula(lines: Sequence[str], say: Inline) -> str:
    """Lines of formulas, as they stand, each on its own."""
    kept = [x.rstrip() for x in lines]
    while kept and not kept[-1]:
        kept.pop()
    margin = min(_indent(x) for x in kept if x)
    return '<div class="formula">' + "\n".join(say(x[margin:]) for x in kept) + "</div>"


def _table(lines: Sequence[str], say: Inline) -> str:
    rows = [re.split(r"(?<!\\)\|", x.strip().removeprefix("|").removesuffix("|")) for x in lines]
    rows = [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]
    ruled = len(rows) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in rows[1])
    head = [rows[0]] if ruled else []
    body = rows[2:] if ruled else rows
    made = ["<table>"]
    made += [f"<thead><tr>{''.join(f'<th>{say(c)}</th>' for c in row)}</tr></thead>" for row in head]
    made += ["<tbody>", *(f"<tr>{''.join(f'<td>{say(c)}</td>' for c in row)}</tr>" for row in body), "</tbody></table>"]
    return "\n".join(made)
