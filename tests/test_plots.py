"""Figures keep their alt text, panels are cheap and stop, curves and trees draw what they are given."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from workbench import plots, stats
from workbench.plots import figure, tree


@pytest.fixture(autouse=True)
def _no_window(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot

    yield
    pyplot.close("all")


def _run(*sources):
    """Run code cells in a fresh kernel without a browser; the notebook with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


def _outputs(notebook, kind):
    found = [out.get("data", {}).get(kind, "") for cell in notebook.cells for out in cell.outputs]
    return [page for page in found if page]


@pytest.fixture
def path(monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def test_alt_text_survives_in_the_notebook_and_in_exported_html(path):
    nbconvert = pytest.importorskip("nbconvert")
    notebook = _run(
        "import matplotlib.pyplot as plt\nfrom workbench import plots\nplots.style()",
        "fig, ax = plt.subplots()\nax.plot([1, 2])\n"
        "plots.show(fig, 'A line from 1 to \"2\" & up', 'the <caption>')\nprint(plt.get_fignums())",
    )
    (page,) = _outputs(notebook, "text/html")
    assert 'alt="A line from 1 to &quot;2&quot; &amp; up"' in page and "the &lt;caption&gt;" in page
    assert _outputs(notebook, "image/png") == []  # drawn once, by us
    assert notebook.cells[1].outputs[-1].text == "[]\n"  # and closed
    exported, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    found = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attributes: (
        found.append(dict(attributes).get("alt")) if tag == "img" else None
    )
    reader.feed(exported)
    assert found == ['A line from 1 to "2" & up']


def test_show_needs_a_sentence_and_prints_it_in_a_terminal(capsys):
    from matplotlib import pyplot

    with pytest.raises(ValueError, match="in a sentence"):
        plots.show(pyplot.figure(), "plot")
    plots.show(pyplot.figure(), "An empty figure, to be honest.")
    assert capsys.readouterr().out == "[figure] An empty figure, to be honest.\n"


def test_colours_are_distinct_and_carry_a_second_cue():
    assert len(set(plots.COLORS)) == len(plots.MARKERS) == len(plots.DASHES) == len(plots.COLORS)
    pairs = {(str(d), m) for d, m in zip(plots.DASHES, plots.MARKERS, strict=True)}
    assert len(pairs) == len(plots.COLORS)


# ---- the live panel


def test_in_a_terminal_the_panel_prints_a_line_every_so_often(capsys):
    live = plots.LivePanel(("success", "loss"), every=2)
    for n in range(5):
        live.update(SimpleNamespace(step=10 * n, success=n / 4, loss=None))
    live.finish()
    expected = ["step 10: success 0.250", "step 30: success 0.750", "step 40: success 1.000"]
    assert capsys.readouterr().out.splitlines() == expected


def _endless(log):
    try:
        n = 0
        while True:
            n += 1
            yield {"success": n}
    finally:
        log.append("closed")


def test_watch_stops_cleanly_and_keeps_what_was_yielded():
    log, seen = [], []
    live, records = (
        plots.LivePanel(("success",), every=1000),
        _endless(log),
    )  # held here: closing it is watch's work
    for record in live.watch(records):
        seen.append(record["success"])
        if len(seen) == 3:
            live._hear(SimpleNamespace(send=lambda content: None), {"type": "stop"}, [])
    assert seen == [1, 2, 3] and live.stopped and log == ["closed"]
    assert [row["success"] for row in live.history] == [1, 2, 3]


def test_an_interrupt_counts_as_stop_and_a_break_closes_the_generator():
    def interrupted():
        yield {"success": 1}
        raise KeyboardInterrupt

    live = plots.LivePanel(("success",), every=1000)
    assert len(list(live.watch(interrupted()))) == 1 and live.stopped
    log = []
    watched = live.watch(_endless(log))
    next(watched)
    watched.close()
    assert log == ["closed"] and not live.stopped


def test_a_new_run_starts_the_panel_anew_and_odd_records_are_told_apart():
    live = plots.LivePanel(
        {"success": "success rate", "loss": "loss"}, limits={"loss": (0, 9)}, smooth=2, every=99
    )
    for step, success, loss in [(1, 0.0, float("nan")), (2, 0.5, 4.0)]:
        live.update({"step": step, "success": success, "loss": loss})
    assert live.history[0]["loss"] is None  # a gap, not a crash
    assert live.describe() == (
        "Training up to step 2: success rate from 0 to 0.25, loss from 4 to 4 (mean of the last 2)."
    )
    fig = live.figure()
    assert [ax.get_xlabel() for ax in fig.axes] == ["step", "step"] and fig.axes[1].get_ylim()[1] > 9
    live.update({"step": 2, "success": 1.0})
    assert len(live.history) == 3  # a second record of a step is not a new run
    live.update({"step": 1, "success": 1.0})
    assert len(live.history) == 1
    with pytest.raises(ValueError, match="none of"):
        live.update({"step": 2, "sucess": 1.0})
    with pytest.raises(ValueError, match="not among the metrics"):
        plots.LivePanel(("a",), limits={"b": (0, 1)})
    with pytest.raises(ValueError, match="must be names"):
        plots.LivePanel("success")


def test_in_a_kernel_an_update_is_cheap_and_a_picture_stays(path):
    """No browser: the panel opens, costs well under 5 ms of kernel time an update, and ends as a figure with alt."""
    notebook = _run(
        "import time\nfrom workbench import plots\nfrom workbench.plots import live as module\n"
        "module._PAUSE = 0.0  # send every update, the dear case\n"
        "live = plots.LivePanel(('success', 'reward', 'entropy'))\nlive.update({'success': 0, 'reward': 0, 'entropy': 0})\n"
        "cost = []\nfor n in range(300):\n"
        "    start = time.thread_time()\n"
        "    live.update({'success': n / 300, 'reward': -n, 'entropy': 1 / (n + 1)})\n"
        "    cost.append(1000 * (time.thread_time() - start))\n"
        "print(sum(cost) / len(cost))",
        "print(live._widget is None, len(live.history), live._hooked)",
    )
    assert float(notebook.cells[0].outputs[-1].text) < 2.0  # milliseconds; about 0.3 on a quiet machine
    assert notebook.cells[1].outputs[0].text == "True 301 False\n"
    (page,) = _outputs(notebook, "text/html")
    assert re.search(r'<img [^>]*alt="Training up to step 301: success from 0 to 0.99,', page)
    assert (
        _outputs(notebook, "application/vnd.jupyter.widget-view+json") == []
    )  # nothing that needs a live kernel


# ---- curves


def test_curves_draw_the_mean_the_band_and_the_number_of_seeds():
    data = {"grpo": np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [1.0, 2.0, 9.0]]), "one": np.ones((1, 3))}
    fig = plots.learning_curves(data, band="t", ylabel="reward", steps=[0, 10, 20])
    (ax,) = fig.axes
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["grpo (3 seeds)"].get_ydata() == pytest.approx([1, 2, 5])
    assert list(lines["one (1 seed)"].get_xdata()) == [0, 10, 20]
    band = ax.collections[0].get_paths()[0].vertices  # one band only: a single seed has none
    expected = stats.t_interval(data["grpo"].T)
    assert len(ax.collections) == 1 and band[:, 1].min() == pytest.approx(expected.low.min())
    assert ax.get_ylabel() == "reward" and ax.get_xlabel() == "training step"
    assert lines["grpo (3 seeds)"].get_linestyle() != lines["one (1 seed)"].get_linestyle()
    assert "3 seeds" in plots.describe_curves(data) and "one from 1 to 1" in plots.describe_curves(data)


def test_curves_take_a_frame_and_the_interquartile_mean():
    pandas = pytest.importorskip("pandas")
    values = np.array([[0.0, 0], [1, 1], [2, 2], [100, 100]])
    rows = [(s, t, "a", values[s, t]) for s in range(4) for t in range(2)]
    frame = pandas.DataFrame(rows, columns=["seed", "step", "arm", "success"])
    fig = plots.learning_curves(frame, statistic="iqm", runs=True)
    assert fig.axes[0].lines[-1].get_ydata() == pytest.approx([1.5, 1.5])
    with pytest.raises(ValueError, match=r"lacks the columns \['reward'\]"):
        plots.learning_curves(frame, value="reward")
    with pytest.raises(ValueError, match="not finite"):
        plots.learning_curves({"a": [[1.0, np.nan]]})
    with pytest.raises(ValueError, match=r"\[seeds, steps\]"):
        plots.learning_curves({"a": [1.0, 2.0]})


# ---- the tree

EDGES = [
    ("root", None, ()),
    ("a", "root", ("ratio",)),
    ("b", "root", ("ratio", "unit")),
    ("a1", "a", ("unit",)),
    ("a2", "a", ()),
]


def test_the_tree_puts_children_right_of_their_parent_and_nobody_on_another():
    place = tree._layout(tree._graph(EDGES))
    assert {node: depth for node, (depth, _) in place.items()} == {
        "root": 0,
        "a": 1,
        "b": 1,
        "a1": 2,
        "a2": 2,
    }
    assert len(set(place.values())) == len(place)
    assert place["a"][1] == (place["a1"][1] + place["a2"][1]) / 2
    drawn = [text.get_text() for text in plots.family_tree(EDGES, title="A family").axes[0].texts]
    assert sorted(drawn) == sorted(
        ["root", "a", "b", "a1", "a2", "ratio", "ratio", "unit", "unit", "A family"]
    )
    assert plots.describe_tree(EDGES).startswith(
        "A family tree of 5 methods, starting from root: a from root by ratio;"
    )


def test_forty_methods_do_not_overlap():
    edges = [("m0", None, ())] + [
        (f"m{i}", f"m{(i - 1) // 3}", ("advantage", "surrogate")) for i in range(1, 40)
    ]
    fig = plots.family_tree(edges)
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    crossing = [
        (i, j)
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].shrunk(0.9, 0.7).overlaps(boxes[j].shrunk(0.9, 0.7))
    ]
    assert len(boxes) == 40 + 78 and crossing == []
    page = fig.axes[0].get_window_extent()
    assert all(page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1) for box in boxes)


def test_a_tree_that_is_none_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        plots.family_tree([("a", "b", ()), ("b", "a", ())])
    with pytest.raises(ValueError, match="one parent"):
        plots.family_tree([("a", "x", ()), ("a", "y", ())])


# ---- tokens


def test_importing_the_room_is_cheap():
    import subprocess
    import sys

    code = "import sys, workbench.plots; print([m for m in ('torch', 'anywidget', 'IPython') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not figure.in_kernel()


def test_a_figure_with_sliders_leaves_a_still_for_exported_pages(path):
    notebook = _run(
        "import matplotlib.pyplot as plt\nfrom workbench import plots\n"
        "def draw(k, log):\n"
        "    fig, ax = plt.subplots()\n"
        "    plots.show(fig, f'Nothing drawn {k} times, log {log}.')\n"
        "plots.play(draw, k=(2, 6), log=False)"
    )
    (page,) = _outputs(notebook, "text/html")
    assert 'alt="Nothing drawn 4 times, log False."' in page and "controls: k, log" in page
    assert len(_outputs(notebook, "application/vnd.jupyter.widget-view+json")) == 1
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    (shown,) = [state["state"]["outputs"] for state in states if state["model_name"] == "OutputModel"]
    assert [sorted(out["data"]) for out in shown] == [
        ["text/html", "text/plain"]
    ]  # drawn once in the live one
    nbconvert = pytest.importorskip("nbconvert")
    exported, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert "Nothing drawn 4 times" in exported and not re.search(
        r'class="[^"]*jp-LabShell', exported
    )  # so it is seen


def test_play_without_a_kernel_draws_once_and_refuses_what_is_no_control():
    seen = []
    plots.play(lambda k, kind: seen.append((k, kind)), k=(0, 10, 2), kind=["a", "b"])
    assert seen == [(4, "a")]
    with pytest.raises(ValueError, match="no control can be made of k"):
        plots.play(lambda k: None, k=object())
