"""The rollout viewer: what it paints, what it refuses, and what a browser makes of it, with and without its script."""

from __future__ import annotations

import importlib.util
import math
import re
import shutil

import numpy as np
import pytest
import torch

from workbench import models, objective, plots, recipes
from workbench.batch import Batch, Dialogue, Segment, Stop
from workbench.plots import RolloutViewer, figure, rollouts

TOKENS = ["<U>", "1+1=", "<A>", "<T>", "1+1", "</T>", "<R>", "2", "</R>", "2"]
DIALOGUE = {
    "tokens": TOKENS,
    "mask": [0, 0, 0, 1, 1, 1, 0, 0, 0, 1],
    "turn": [-1, -1, -1, 0, 0, 0, 0, 0, 0, 1],
    "verdict": "right",
    "notes": ["", "the answer"],
}


def painted(value):
    """One number on what was sampled."""
    return [value if mine else None for mine in DIALOGUE["mask"]]


def viewer(**changes) -> RolloutViewer:
    dialogues = [{**DIALOGUE, "name": f"rollout {n}"} for n in range(1, 4)]
    by = {"grpo": [painted(v) for v in (1.0, 0.0, -1.0)], "gtpo": [painted(v) for v in (-2.0, 0.5, -0.5)]}
    entropy = [[0.25 * t for t in range(10)]] * 3
    return RolloutViewer(dialogues, {"advantage": by, "entropy": entropy}, **{"columns": 2, **changes})


# What the page says


def kinds(page: str) -> list[str]:
    return re.findall(r'<span class="(t(?: [^"]*)?)"', page)


def test_the_page_paints_what_was_sampled_and_leaves_the_rest_grey():
    page = viewer().markup()
    first = kinds(page)[:7]
    assert first == ["t pos tag", "t pos", "t pos tag", "t given tag", "t given", "t given tag", "t pos"]
    assert len(kinds(page)) == 3 * 7  # the prompt they share stands above them once
    assert page.count('class="prompt"') == 1 and "&lt;U&gt;1+1=&lt;A&gt;" in page
    assert "the answer" in page and "rollout 3" in page and ">+1<" in page and ">−1<" in page
    assert re.findall(r"--share:([\d.]+)", page)[:1] == ["0.500"]  # both methods share one scale, whose end is 2
    assert "http" not in page and "<script" not in page


def test_a_saved_page_needs_nothing_else_and_no_text_can_leave_its_place(tmp_path):
    nasty = {"tokens": ["</script><b>", 'say "a" & b']}
    RolloutViewer([nasty], {"advantage": [[1.0, 2.0]]}).save(tmp_path / "page.html", title="<i>")
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script>") == 1 and "<b>" not in page.replace("<b>rollout 0</b>", "") and "<i>" not in page
    assert not re.search(r"(src|href)=", page) and "http" not in page.replace("http://www.w3.org", "")


def test_the_numbers_handed_to_the_script_are_those_given():
    data = viewer(colour="entropy", method="gtpo", limits={"advantage": 3}).data()
    assert [colour["name"] for colour in data["colours"]] == ["advantage", "entropy", "mask"]
    assert data["methods"] == ["grpo", "gtpo"] and (data["colour"], data["method"]) == ("entropy", "gtpo")
    advantage, entropy, mask = data["colours"]
    assert advantage["by"]["gtpo"][0] == painted(-2.0) and advantage["limit"] == 3
    assert entropy["limit"] == 2.25 and mask["by"][""][0] == [float(m) for m in DIALOGUE["mask"]]
    ratio = RolloutViewer([{"tokens": ["a", "b"]}], {"ratio": [[0.5, math.nan]]})
    assert ratio.data()["colours"][0] | {"by": 0} == {"name": "ratio", "centre": 1.0, "limit": 0.5, "by": 0}
    assert kinds(ratio.markup()) == ["t neg", "t"]  # a ratio below 1 is on the orange side; nan is not painted


@pytest.mark.parametrize(
    ("dialogues", "colours", "settings", "said"),
    [
        ([], {}, {}, "no dialogues"),
        ([{"tokens": []}], {}, {}, "dialogue 0 has no tokens"),
        ([{"tokens": ["a"], "masks": [1]}], {}, {}, "unknown key.*masks.*the keys are tokens, mask"),
        ([{"tokens": ["a"], "turn": [0, 0]}], {}, {}, "1 tokens but 2 entries in turn"),
        ([{"tokens": ["a"]}], {"advantage": []}, {}, "one row a dialogue, 1, not 0"),
        ([{"tokens": ["a", "b"]}], {"advantage": {"grpo": [[1]]}}, {}, "advantage of grpo.*row 0 has 1 of 2"),
        ([{"tokens": ["a"]}], {"advantage": [[math.inf]]}, {}, "not finite in row 0"),
        ([{"tokens": ["a"]}], {"a": {"x": [[1]], "y": [[1]]}, "b": {"x": [[1]]}}, {}, "b has numbers for"),
        ([{"tokens": ["a"]}], {}, {"colour": "credit"}, "colour must be one of mask, not 'credit'"),
        ([{"tokens": ["a"]}], {"a": {"x": [[1]]}}, {"method": "y"}, "method must be one of x, not 'y'"),
        ([{"tokens": ["a"]}], {}, {"columns": 0}, "columns must be at least 1"),
        ([{"tokens": ["a"]}], {}, {"limits": {"b": 1}}, "limits for"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(dialogues, colours, settings, said):
    with pytest.raises(ValueError, match=said):
        RolloutViewer(dialogues, colours, **settings)


def test_without_a_kernel_the_dialogues_are_printed(capsys):
    viewer(method="gtpo").show()
    said = capsys.readouterr().out.splitlines()
    assert said[:5] == [
        "rollout 1 (right)", "    <U>1+1=<A>", "  > <T>1+1</T>  advantage -2.00", "    <R>2</R>", "  > 2  advantage -2.00",
    ]  # fmt: skip


def test_in_a_notebook_there_is_a_widget_and_a_still_for_exported_pages(monkeypatch):
    monkeypatch.setattr(figure, "in_kernel", lambda: True)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    made = viewer()
    with figure.caught() as pages:
        made.show()
    (widget,) = shown
    assert "workbench-still" in pages[0] and kinds(pages[0]) == kinds(widget.page)
    widget.method = "gtpo"  # as the browser does
    assert made.method == "gtpo" and "-2.000" in made.markup()


def test_transcripts_of_a_run_are_shown_turn_by_turn():
    turns = [
        {"text": "<T>1</T>", "reply": "<R>!</R>", "reward": -0.1, "advantage": -0.5},
        {"text": "2", "reward": 1.0, "advantage": 0.7},
    ]
    record = {"step": 3, "row": 0, "prompt": "1+1=", "turns": turns, "outcome": 1.0, "stop": "DONE", "arm": "gtpo"}
    made = RolloutViewer.of_transcripts([record, {**record, "step": 4}])
    assert made.dialogues[0]["tokens"] == ["1+1=", "<T>1</T>", "<R>!</R>", "2"] and made.dialogues[1]["group"] == 1
    assert made.data()["colours"][0]["by"][""][0] == [None, -0.5, None, 0.7]
    assert made.dialogues[0]["verdict"] == "outcome 1, DONE, arm gtpo, step 3"
    plain = RolloutViewer.of_transcripts([{"turns": [{"text": "2"}]}])
    assert [c["name"] for c in plain.data()["colours"]] == ["mask"]
    with pytest.raises(ValueError, match="record 0 has no turns to show; it has step, pulls"):
        RolloutViewer.of_transcripts([{"step": 1, "pulls": 3}])


def test_the_rollouts_of_a_study_open_in_the_viewer(monkeypatch, capsys):
    from workbench.study import Rollouts

    turns = [{"text": "<T>1</T>", "reply": "<R>1</R>", "advantage": 0.5}, {"text": "1", "advantage": 1.0}]
    found = Rollouts([{"step": 1, "row": row, "prompt": "1=", "turns": turns, "outcome": 1.0} for row in range(9)])
    found.view(1)
    assert "> <T>1</T>" in capsys.readouterr().out  # without a notebook in print
    monkeypatch.setattr(figure, "in_kernel", lambda: True)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    with figure.caught():
        found.view()
        Rollouts([{"arm": "ucb", "pulls": 3}]).view()  # nothing to paint: print
    assert [len(widget.data["colours"][0]["by"][""]) for widget in shown] == [8]
    assert "arm ucb, pulls 3" in capsys.readouterr().out


# Rows of tokens


def test_tokens_are_painted_by_sign_and_size_and_read_aloud():
    page = rollouts._rows(
        [["<A>", "4", "\n"]], [[0, 1.0, -2.0]], [[0, 1, 1]], [[0, -0.5, -1.0]], ["try 1"], None, "credit", None
    )
    assert kinds(page) == ["t given tag", "t pos", "t neg"] and re.findall(r"--share:([\d.]+)", page) == ["0.500", "1.000"]
    assert 'tabindex="0"' in page and "credit +1.000" in page and "probability 0.607" in page
    assert "&lt;A&gt;" in page and "⏎" in page and "<script" not in page and "http" not in page


def test_tokens_outside_a_notebook_and_with_wrong_lengths(capsys):
    plots.tokens([["1", "+"], ["2"]], [[0.5, 0], [-1.0]], mask=[[1, 0], [1]])
    assert capsys.readouterr().out == "row 0: 1(+0.50) +\nrow 1: 2(-1.00)\n"
    with pytest.raises(ValueError, match="value must hold one entry a token"):
        plots.tokens([["1", "+"]], [[0.5]])
    with pytest.raises(ValueError, match="not finite"):
        plots.tokens([["1"]], [[np.nan]])
    with pytest.raises(ValueError, match="one entry a row, 1, not 2"):
        plots.tokens([["1"]], [[1.0]], names=["a", "b"])


def test_numbers_that_are_never_negative_get_a_legend_from_zero():
    def page(value):
        return rollouts._rows([["a", "b"]], [value], None, None, None, None, "probability", 1).split("</style>")[1]

    assert ">0</span>" in page([0.2, 0.9]) and "dotted" not in page([0.2, 0.9])
    assert ">−1</span>" in page([-0.2, 0.9]) and "dotted: below" in page([-0.2, 0.9])


# From a batch and recipes


def batch() -> tuple[Batch, object]:
    """The four dialogues of the chapter: right; right with a bad call; wrong without a tool; wrong."""
    tokenizer = models.make_tokenizer()
    said = [(["1", "2"], [0, 0], 1), (["1", "22", "3"], [0, -1, 0], 1), (["1", "2"], [-1, 0], 0), (["1", "2", "3"], [0, 0, 0], 0)]
    dialogues = []
    for turns, rewards, outcome in said:
        one = Dialogue(models.prompt_ids(tokenizer, "?"), 0, outcome=float(outcome), stop=Stop.DONE)
        one.rewards = [float(r) for r in rewards]
        for j, text in enumerate(turns):
            ids = models.encode(tokenizer, text)
            one.segments.append(Segment(ids, [-0.5] * len(ids)))
            if j < len(turns) - 1:
                one.segments.append(Segment(models.reply_ids(tokenizer, "!")))
        dialogues.append(one)
    return Batch.from_dialogues(dialogues), tokenizer


def test_credit_of_several_recipes_is_what_prepare_says():
    rows, tokenizer = batch()
    exact = recipes.gtpo.but("exact", reward=(objective.outcome(), objective.turn_penalty()),
                             advantage=objective.turn_returns(floor=0.0, eps=1e-6, ddof=0))  # fmt: skip
    given = {"logp": rows.logp_old + 0.1, "entropy": torch.ones(rows.tokens.shape)}
    made = recipes.credit_view(rows, tokenizer, [recipes.grpo, exact], **given)
    data = {colour["name"]: colour["by"] for colour in made.data()["colours"]}
    assert list(data) == ["advantage", "reward of the turn", "log-probability", "ratio", "entropy", "mask"]
    second = [v for v in data["advantage"]["exact"][1] if v is not None]
    # returns .72, .8, 1 among those of turns with the same number, by hand; "22" is two tokens of one turn
    assert second == pytest.approx([0.780, 0.768, 0.768, 1.000], abs=1e-3)
    assert [v for v in data["reward of the turn"]["exact"][1] if v is not None] == pytest.approx([0, -0.1, -0.1, 1])
    assert data["advantage"]["grpo"][1][:3] == [None, None, None]  # <U> ? <A>
    assert data["advantage"]["grpo"][1][3] == pytest.approx(0.8659, abs=1e-3)
    assert data["ratio"][""][0][3] == pytest.approx(math.exp(0.1), rel=1e-5)
    assert [one["name"] for one in made.dialogues] == [f"rollout {n}" for n in (1, 2, 3, 4)]
    assert made.dialogues[1]["verdict"] == "right" and made.dialogues[1]["notes"] == ["", "bad turn", ""]
    with pytest.raises(ValueError, match="different names"):
        recipes.credit_view(rows, tokenizer, [recipes.grpo, recipes.grpo])
    with pytest.raises(ValueError, match="different names"):
        recipes.credit_view(rows, tokenizer, [])


def test_a_rollout_of_two_rows_is_two_columns_of_one_name():
    rows, tokenizer = batch()
    later = rows.turn + (rows.turn >= 0) * torch.tensor([0, 2, 0, 0])[:, None]  # B goes on where A stopped
    same = ("tokens", "mask", "group", "logp_old", "stop", "length", "prompt_length", "origin")
    split = Batch(**{
        **{name: getattr(rows, name) for name in same}, "turn": later,
        "rewards": torch.zeros(4, 5), "outcome": rows.outcome, "rollout": torch.tensor([0, 0, 1, 2]),
    })  # fmt: skip
    made = recipes.credit_view(split, tokenizer, [recipes.grpo])
    assert [one["name"] for one in made.dialogues] == ["rollout 1, row 1", "rollout 1, row 2", "rollout 2", "rollout 3"]
    assert made.dialogues[1]["turn"][3] == 2 and "turn 5" in made.markup()


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((c) => c / 255);
  };
  const light = (color) => rgb(color).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = getComputedStyle(document.querySelector(".wb-rollouts")).backgroundColor;
  return Math.min(...[...document.querySelectorAll(".t, .hint, .note, .help, button:enabled, header span")].map((e) => {
    const own = getComputedStyle(e).backgroundColor;
    const [a, b] = [light(getComputedStyle(e).color), light(own === "rgba(0, 0, 0, 0)" ? paper : own)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}"""


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright"
)
def test_in_a_browser_keys_and_switches_move_the_credit_and_every_token_can_be_read(tmp_path):
    from playwright.sync_api import sync_playwright

    viewer().save(tmp_path / "page.html")
    address = (tmp_path / "page.html").as_uri()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 600})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)

        def label() -> str:
            return page.evaluate("document.activeElement.getAttribute('aria-label')")

        def focused(name: str) -> str:
            return page.evaluate(f"document.activeElement.closest('.{name}').querySelector('header, .head').textContent")

        def credit(row: int) -> str:
            return page.locator(f'.dialogue[data-row="{row}"] .badge').first.inner_text()

        assert page.locator(".dialogue:visible").count() == 2 and credit(0) == "+1"
        assert page.locator('.t[tabindex="0"]').count() == 1  # one stop for Tab, not one a token
        page.locator('.t[tabindex="0"]').focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.hasAttribute('data-lm-suppress-shortcuts')")  # no key is JupyterLab's
        assert label() == "1+1: advantage, grpo +1"
        page.keyboard.press("m")
        assert label() == "1+1: advantage, gtpo −2" and credit(0) == "−2"
        assert "neg" in page.evaluate("document.activeElement.className")
        said = page.locator(".details").inner_text()
        assert "grpo +1" in said and "gtpo −2" in said and "sampled, turn 1 of rollout 1" in said
        page.keyboard.press("ArrowDown")
        assert "turn 2" in focused("turn")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")  # out of what was shown: the window moves along
        assert "rollout 3" in focused("dialogue") and "turn 2" in focused("turn")
        assert "rollouts 2–3 of 3" in page.locator(".switches").inner_text()
        page.keyboard.press("Home")
        page.keyboard.press("c")
        assert label() == "<T>: entropy 0.75" and page.get_by_role("button", name="gtpo").is_disabled()
        page.get_by_role("button", name="mask").click()
        assert page.locator(".key .label").inner_text() == "mask"
        page.get_by_role("button", name="1", exact=True).click()
        assert page.locator(".dialogue:visible").count() == 1
        page.get_by_role("button", name="later rollouts").click()
        assert page.get_by_role("button", name="later rollouts").is_disabled()
        page.get_by_role("button", name="advantage").click()
        assert page.evaluate(CONTRAST) > 4.5
        page.evaluate("document.body.dataset.jpThemeLight = 'false'")
        assert page.evaluate(CONTRAST) > 4.5
        page.screenshot(path=str(tmp_path / "dark.png"))
        still = browser.new_context(java_script_enabled=False).new_page()
        still.goto(address)  # an exported page whose reader allows no scripts
        assert still.locator(".dialogue:visible").count() == 3 and still.locator(".switches:visible").count() == 0
        browser.close()
    assert errors == []
