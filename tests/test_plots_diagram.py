"""Diagrams: what is drawn, what is said of it, and the editor, in Python and in a browser."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from matplotlib import pyplot
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from workbench import plots
from workbench.plots import diagram as room
from workbench.plots import figure

DIRECTED = [("Z", "X"), ("Z", "Y"), ("X", "Y"), ("L", "X"), ("L", "W")]
PAIRS = [("W", "Y")]
DRAWN = {"order": ("Z", "W", "X", "Y"), "hidden": ["L"], "actions": ["X"], "outcome": "Y"}


def follow(directed, bidirected):
    """Refuses a circle, as a real answer would; good while L does not reach Y."""
    if ("Y", "X") in directed:
        raise ValueError("the arrows go round in a circle: X -> Y -> X")
    good = ("L", "Y") not in directed
    return plots.DiagramAnswer(good, "fine" if good else "not imitable", "why", () if good else [("X", "L"), ("L", "Y")], ["Z"])


def edited(**more) -> plots.DiagramEditor:
    return plots.DiagramEditor(DIRECTED, PAIRS, answer=follow, **DRAWN, **more)


def test_every_variable_and_arrow_is_drawn_and_hidden_causes_are_dashed():
    fig = plots.causal_diagram(DIRECTED, PAIRS, **DRAWN, looks_at=["Z"], path=[("X", "L"), ("L", "W"), ("W", "Y")])
    (ax,) = fig.axes
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == 6 and sum(arrow.get_linestyle() != "-" for arrow in arrows) == 1
    (hidden,) = (p for p in ax.patches if isinstance(p, Circle) and p.get_linestyle() not in ("-", "solid"))
    assert hidden.center == pytest.approx((1.5, 1.1))  # L, above the middle of W and X
    assert {text.get_text() for text in ax.texts} == {"Z", "W", "X", "Y", "L"}
    bold = [arrow for arrow in arrows if arrow.get_linewidth() > 2]
    assert len(bold) == 3  # the open path
    assert sum(isinstance(patch, Rectangle) for patch in ax.patches) == 1  # the action
    assert sum(isinstance(patch, Circle) for patch in ax.patches) == 5  # four others, and the outcome's second ring
    pyplot.close(fig)


def test_arrows_pass_around_what_stands_between_and_end_outside_of_circles():
    place = {"A": (0.0, 0.0), "B": (1.0, 0.0), "C": (2.0, 0.0)}
    assert room._bend(place, "A", "B", two_headed=False) == 0
    assert room._bend(place, "A", "C", two_headed=False) < 0 < room._bend(place, "A", "C", two_headed=True)
    x, y = room._towards((0.0, 0.0), (0.6, 0.8))
    assert (x**2 + y**2) ** 0.5 == pytest.approx(1.3 * room._RADIUS) and y / x == pytest.approx(4 / 3)


def test_what_cannot_be_placed_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown name 'Q'"):
        plots.causal_diagram([("Z", "Q")], order=("Z", "Y"))
    with pytest.raises(ValueError, match="names a variable twice"):
        plots.causal_diagram([], order=("Z", "Z"))


def test_the_description_names_every_arrow():
    said = plots.describe_diagram(DIRECTED, PAIRS, hidden=["L"], path="X <- L -> W")
    assert said == (
        "A causal diagram with Z to X, Z to Y, X to Y, L to X, L to W; hidden causes of W and Y; L not seen; "
        "the open path X <- L -> W in bold."
    )
    assert "no arrows" in plots.describe_diagram([])


def test_the_editor_keeps_what_is_answered_and_takes_back_what_is_refused():
    editor = edited()
    worse = editor.change([*DIRECTED, ("L", "Y")], PAIRS)
    assert not worse.good and editor.directed[-1] == ("L", "Y") and editor.answer is worse
    refused = editor.change([*DIRECTED, ("Y", "X")], PAIRS)
    assert "go round in a circle" in refused.text and ("Y", "X") not in editor.directed and editor.answer is worse
    with pytest.raises(ValueError, match="circle"):
        plots.DiagramEditor([("Y", "X"), ("X", "Y")], answer=follow, **DRAWN)


def test_without_a_kernel_the_editor_is_a_figure_in_words(capsys):
    edited().show()
    said = capsys.readouterr().out
    assert said.startswith("[figure] A causal diagram with Z to X") and said.rstrip().endswith("fine why")


def test_in_a_notebook_the_editor_answers_changes_from_the_browser_and_leaves_a_still(monkeypatch):
    monkeypatch.setattr(figure, "in_kernel", lambda: True)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    editor = edited()
    with figure.caught() as pages:
        editor.show()
    assert "workbench-still" in pages[0] and 'alt="A causal diagram with Z to X' in pages[0]
    (widget,) = shown
    sent = []
    monkeypatch.setattr(widget, "send_state", lambda key=None: sent.append(key))
    widget.directed = [*map(list, DIRECTED), ["L", "Y"]]
    assert widget.answer["text"] == "not imitable" and widget.answer["path"] == [["X", "L"], ["L", "Y"]]
    widget.directed = [*map(list, DIRECTED), ["L", "Y"], ["Y", "X"]]
    assert "That cannot be" in widget.answer["text"] and ["Y", "X"] not in widget.directed
    assert ["directed", "bidirected"] in sent  # the browser hears that the change was taken back


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGE = """<!doctype html><meta charset="utf-8"><style>%s</style><div id="here" style="width:640px"></div>
<script type="module">
%s
const state = %s, hear = {};
window.saved = [];
const model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; },
  save_changes: () => {
    window.saved.push([JSON.stringify(state.directed), JSON.stringify(state.bidirected)]);
    for (const names of Object.keys(hear)) if (names.includes("directed")) hear[names]();
  },
  on: (names, act) => { hear[names] = act; },
};
render({ model, el: document.getElementById("here") });
window.ready = true;
</script>"""


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright"
)
def test_in_a_browser_arrows_come_and_go_by_mouse_and_by_keyboard(tmp_path):
    from playwright.sync_api import sync_playwright

    script = Path(room.__file__).with_suffix(".js").read_text().replace("export default", "const unused =")
    editor = edited()
    nodes = [
        {"name": name, "x": x, "y": y, "hidden": name == "L", "action": name == "X", "outcome": name == "Y"}
        for name, (x, y) in editor.at.items()
    ]
    state = {"nodes": nodes, "directed": DIRECTED, "bidirected": PAIRS, "answer": room._plain(editor.answer)}
    style = Path(room.__file__).with_suffix(".css").read_text()
    (tmp_path / "page.html").write_text(PAGE % (style, script, json.dumps(state)))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function("window.ready")

        def saved() -> list:
            return [json.loads(text) for text in page.evaluate("window.saved[window.saved.length - 1]")]

        def middle(name: str) -> tuple[float, float]:
            box = page.locator(f'[data-name="{name}"]').bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        page.mouse.move(*middle("L"))
        page.mouse.down()
        page.mouse.move(*middle("Y"), steps=4)
        page.mouse.up()
        assert saved()[0][-1] == ["L", "Y"]  # dragged in
        page.get_by_label("hidden cause of two").check()
        page.locator('[data-name="X"]').focus()
        page.keyboard.press("Enter")
        assert "From X" in page.locator(".help").inner_text()
        page.locator('[data-name="Y"]').focus()
        page.keyboard.press("Enter")
        assert saved()[1] == [["W", "Y"], ["X", "Y"]]  # by keyboard
        page.locator('[data-key="bidirected W Y"]').focus()
        page.keyboard.press("Delete")
        assert saved()[1] == [["X", "Y"]]
        page.locator('[data-key="directed Z X"] .line').dispatch_event("click")
        assert ["Z", "X"] not in saved()[0]
        page.mouse.click(*middle("W"))  # two clicks do what a drag does
        page.mouse.click(*middle("Z"))
        assert saved()[1] == [["X", "Y"], ["W", "Z"]]
        page.get_by_role("button", name="Start again").click()
        assert saved() == [[list(p) for p in DIRECTED], [list(p) for p in PAIRS]]
        page.screenshot(path=str(tmp_path / "editor.png"))
        assert errors == [] and "fine" in page.locator(".answer").inner_text()
        browser.close()
