"""The pages of the explorer, laid out: a notebook of marimo, served by `lossflow explore`.

A cell runs again when what it reads has changed; pages that are not open do not run.
"""

import marimo  # pyright: ignore[reportMissingImports]

app = marimo.App(width="medium", app_title="lossflow explorer")


@app.cell
def _():
    import marimo as mo  # pyright: ignore[reportMissingImports]

    from lossflow.errors import LossflowError
    from lossflow.explore import mean_field, quadratic, regimes
    from lossflow.explore.pictures import framed, side_by_side
    from lossflow.problems.quadratic import QuadraticNetwork

    def attempt(page):
        """What a page shows, or why it shows nothing."""
        try:
            return page()
        except LossflowError as error:
            return mo.callout(str(error), kind="warn")

    def said(words):
        return mo.md("\n".join(f"- {sentence}" for sentence in words))

    return QuadraticNetwork, attempt, framed, mean_field, mo, quadratic, regimes, said, side_by_side


@app.cell
def _(mo):
    mo.md(
        "# lossflow explorer\n\nHow the loss of a large model falls: theory, and a small experiment on the same problem."
    )
    return


@app.cell
def _(mo):
    page = mo.ui.tabs({"Regimes": mo.md(""), "Mean field": mo.md(""), "Quadratic networks": mo.md("")})
    page  # noqa: B018  # pyright: ignore[reportUnusedExpression]  (what the cell shows)
    return (page,)


@app.cell
def _(mo, regimes):
    case = mo.ui.dropdown(list(regimes.CASES), value="order 2, one matrix", label="problem")
    return (case,)


@app.cell
def _(mo):
    dragged, drag = mo.state((1.0, -1.0))  # where the point was last put on the map; the sliders start there
    return drag, dragged


@app.cell
def _(case, mo, regimes):
    problem = regimes.CASES[case.value]
    p = mo.ui.slider(4, 64, 4, value=24, label="$p$", show_value=True, debounce=True)
    runs = mo.ui.slider(2, 16, 2, value=4, label="runs", show_value=True, debounce=True)
    return p, problem, runs


@app.cell
def _(dragged, mo, problem, regimes):
    _h, _v = regimes.nearest(problem, *dragged())
    _widest, _faintest = regimes.span_of(problem)
    _like = {"show_value": True, "debounce": True}
    h = mo.ui.slider(regimes.NARROWEST, _widest, regimes.GRID, value=_h, label="$h$, with $H = p^h$", **_like)
    v = mo.ui.slider(_faintest, regimes.TOP, regimes.GRID, value=_v, label=r"$v$, with $\sigma^2 = p^v$", **_like)
    return h, v


@app.cell
def _(case, h, mo, p, page, runs, v):
    mo.stop(page.value != "Regimes")
    mo.vstack([case, mo.hstack([h, v, p, runs], wrap=True, justify="start", gap=1.5)])
    return


@app.cell
def _(h, mo, page, problem, regimes, v):
    mo.stop(page.value != "Regimes")
    scalings = mo.ui.matplotlib(
        regimes.scaling_map(problem, h.value, v.value),
        value=regimes.handle(problem, h.value, v.value),
        debounce=True,
    )
    return (scalings,)


@app.cell
def _(attempt, framed, h, mo, problem, regimes, scalings, side_by_side, v):
    def _here():
        where = problem, h.value, v.value
        chart = framed(f"{scalings}", "map", "group", regimes.in_words(*where))
        return mo.vstack([mo.md(regimes.about(*where)), mo.Html(side_by_side(chart, regimes.polygon(*where)))])

    attempt(_here)
    return


@app.cell
def _(drag, h, problem, regimes, scalings, v):
    _here = h.value, v.value
    _there = regimes.chosen(problem, scalings.value, *_here)
    if _there != _here:
        drag(_there)
    return


@app.cell
def _(attempt, h, mo, p, page, problem, regimes, runs, said, side_by_side, v):
    mo.stop(page.value != "Regimes")

    def _there():
        there = regimes.loss_there(problem, p.value, h.value, v.value, runs.value)
        return mo.vstack([mo.Html(side_by_side(there.picture)), said(there.words)])

    attempt(_there)
    return


@app.cell
def _(mean_field, mo):
    ratios = [0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0]
    delta = mo.ui.slider(steps=ratios, value=2.0, label=r"$\delta = n/d$", show_value=True, debounce=True)
    noise = mo.ui.slider(0.0, 1.0, 0.05, value=0.25, label=r"label noise", show_value=True, debounce=True)
    decay = mo.ui.slider(0.0, 1.0, 0.01, value=0.05, label=r"weight decay $\lambda$", show_value=True, debounce=True)
    loss = mo.ui.radio(list(mean_field.LOSSES), value="square", inline=True, label="loss")
    kind = mo.ui.radio(list(mean_field.KINDS), value="stochastic gradient flow", inline=True, label="dynamics")
    temperature = mo.ui.slider(0.0, 1.0, 0.05, value=0.3, label=r"temperature $\tau$", show_value=True, debounce=True)
    step = mo.ui.slider(0.05, 0.6, 0.05, value=0.2, label=r"step $\eta$", show_value=True, debounce=True)
    fractions = [0.05, 0.1, 0.2, 0.5, 1.0]
    batch = mo.ui.slider(steps=fractions, value=0.1, label="batch / samples", show_value=True, debounce=True)
    return batch, decay, delta, kind, loss, noise, step, temperature


@app.cell
def _(batch, decay, delta, kind, loss, mo, noise, page, step, temperature):
    mo.stop(page.value != "Mean field")
    _about = {
        "square": "Ridge regression, whose mean field is solved without sampling",
        "logistic": "Logistic regression on the signs of a teacher, whose mean field is sampled by a few paths",
    }[loss.value]
    _noise = [noise] if loss.value == "square" else []
    _own = {"stochastic gradient flow": [temperature], "SGD": [step, batch]}.get(kind.value, [])
    mo.vstack(
        [
            mo.md(f"{_about}; the experiment has $d = 100$."),
            loss,
            kind,
            mo.hstack([delta, *_noise, decay, *_own], wrap=True, justify="start", gap=1.5),
        ]
    )
    return


@app.cell
def _(attempt, batch, decay, delta, kind, loss, mean_field, mo, noise, page, said, side_by_side, step, temperature):
    mo.stop(page.value != "Mean field")

    def _curves():
        found = mean_field.curves(
            mean_field.regression(loss.value, delta.value, noise.value, decay.value),
            mean_field.dynamics_of(kind.value, temperature.value, step.value, batch.value),
        )
        return mo.vstack([mo.Html(side_by_side(*found.pictures)), said(found.words)])

    attempt(_curves)
    return


@app.cell
def _(mo):
    alpha = mo.ui.slider(0.04, 0.8, 0.02, value=0.3, label=r"$\alpha = n/d^2$", show_value=True, debounce=True)
    kappa = mo.ui.slider(0.1, 1.0, 0.05, value=0.5, label=r"width $\kappa$", show_value=True, debounce=True)
    kappa_star = mo.ui.slider(0.1, 1.0, 0.05, value=0.3, label=r"teacher $\kappa^*$", show_value=True, debounce=True)
    decays = [0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.5]
    shrink = mo.ui.slider(steps=decays, value=0.05, label=r"weight decay $\lambda$", show_value=True, debounce=True)
    noises = mo.ui.slider(0.0, 2.0, 0.1, value=0.0, label="label noise", show_value=True, debounce=True)
    measure = mo.ui.switch(label="with an experiment at d = 24")
    return alpha, kappa, kappa_star, measure, noises, shrink


@app.cell
def _(alpha, kappa, kappa_star, measure, mo, noises, page, shrink):
    mo.stop(page.value != "Quadratic networks")
    mo.vstack([mo.hstack([alpha, kappa, kappa_star, shrink, noises], wrap=True, justify="start", gap=1.5), measure])
    return


@app.cell
def _(
    QuadraticNetwork,
    alpha,
    attempt,
    kappa,
    kappa_star,
    measure,
    mo,
    noises,
    page,
    quadratic,
    said,
    shrink,
    side_by_side,
):
    mo.stop(page.value != "Quadratic networks")

    def _end():
        network = QuadraticNetwork(alpha.value, kappa.value, kappa_star.value, noises.value, shrink.value)
        found = quadratic.end_state(network, runs=2 if measure.value else 0)
        return mo.vstack([mo.Html(side_by_side(*found.pictures)), said(found.words)])

    attempt(_end)
    return


if __name__ == "__main__":
    app.run()
