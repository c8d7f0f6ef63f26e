"""Rollouts turn by turn, each token painted with a number: credit, probability, entropy, ratio. Plain lists in.

Python writes the page, HTML and CSS that can be read as they are; rollouts.js makes it answer to keys and switches, in
JupyterLab as an anywidget, in an exported page and in a saved file as a script beside it.
"""

from __future__ import annotations

import hashlib
import html
import importlib.util
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from workbench.plots import figure
from workbench.plots.play import _HIDE

_KEYS = ("tokens", "mask", "turn", "group", "name", "verdict", "notes")
_CENTRE = {"ratio": 1.0}  # where the colours turn; 0 for everything else
_HERE = Path(__file__)


@cache
def _css() -> str:
    return f"<style>{_HERE.with_suffix('.css').read_text()}</style>"


@cache
def _widget_class() -> type:
    import anywidget
    import traitlets

    class Viewer(anywidget.AnyWidget):
        _esm = _HERE.with_suffix(".js")
        _css = _HERE.with_suffix(".css")
        page: Any = traitlets.Unicode().tag(sync=True)
        data: Any = traitlets.Dict().tag(sync=True)
        colour: Any = traitlets.Unicode().tag(sync=True)
        method: Any = traitlets.Unicode().tag(sync=True)

    return Viewer


class RolloutViewer:
    """Dialogues of one or several groups side by side, every token painted, and switches for what paints it.

    Args:
        dialogues: dicts with `tokens` (texts), and optionally `mask` (which of them the policy sampled; default all),
            `turn` (-1 on the prompt, j on turn j and on the reply to it; default 0), `group` (default 0), `name`, `verdict`
            and `notes` (one text a turn).
        colours: for each quantity its numbers [dialogue][token], None or NaN where there is nothing to paint; or, where it
            depends on the method, a dict from method to such numbers. "mask" is added by itself.
        colour, method: what is painted first (default: the first). columns: dialogues side by side.
        limits: where the colours of a quantity end; default: its largest distance from 0 (from 1 for "ratio").
    Raises:
        ValueError: for no dialogues, an unknown key, lengths that do not match, numbers that are infinite, and names that
            are not there; it says which.

    In a notebook the last line of a cell shows it; `show()` does so anywhere. Tab reaches the tokens, arrows walk over tokens
    and turns, Shift with an arrow to the neighbour, C changes what paints them and M the method. Exported pages keep it.
    """

    def __init__(
        self,
        dialogues: Sequence[Mapping[str, Any]],
        colours: Mapping[str, Any],
        *,
        colour: str | None = None,
        method: str | None = None,
        columns: int = 4,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        if not dialogues:
            raise ValueError("no dialogues to show: give at least one dict with 'tokens'")
        if columns < 1:
            raise ValueError(f"columns must be at least 1, not {columns!r}")
        self.dialogues = [_dialogue(number, given) for number, given in enumerate(dialogues)]
        self.methods: list[str] = []
        self.colours: dict[str, dict[str, list[list[float | None]]]] = {}
        for name, given in colours.items():
            by = given if isinstance(given, Mapping) else {"": given}
            self.colours[name] = {m: self._numbers(f"{name} of {m}" if m else name, rows) for m, rows in by.items()}
            self.methods += [m for m in by if m and m not in self.methods]
        self.colours.setdefault("mask", {"": [[float(m) for m in one["mask"]] for one in self.dialogues]})
        for name, by in self.colours.items():
            if "" not in by and set(by) != set(self.methods):
                raise ValueError(f"{name} has numbers for {sorted(by)}; other quantities name {sorted(self.methods)}")
        if unknown := set(limits or {}) - set(self.colours):
            raise ValueError(f"limits for {sorted(unknown)}; the quantities are {', '.join(self.colours)}")
        self.limits = {name: (limits or {}).get(name) or self._reach(name) for name in self.colours}
        self.columns = columns
        self.colour = _choice("colour", colour, list(self.colours))
        self.method = _choice("method", method, self.methods or [""])
        self._widget: Any = None

    def _numbers(self, name: str, rows: Any) -> list[list[float | None]]:
        if len(rows) != len(self.dialogues):
            raise ValueError(f"{name} must hold one row a dialogue, {len(self.dialogues)}, not {len(rows)}")
        found = []
        for number, (row, one) in enumerate(zip(rows, self.dialogues, strict=True)):
            wanted = len(one["tokens"])
            if len(row) < wanted:
                raise ValueError(f"{name} must hold one entry a token: row {number} has {len(row)} of {wanted}")
            values = [None if row[t] is None or math.isnan(float(row[t])) else float(row[t]) for t in range(wanted)]
            if any(v is not None and math.isinf(v) for v in values):
                raise ValueError(f"{name} has entries that are not finite in row {number}")
            found.append(values)
        return found

    def _reach(self, name: str) -> float:
        centre = _CENTRE.get(name, 0.0)
        shown = [abs(v - centre) for rows in self.colours[name].values() for row in rows for v in row if v is not None]
        return max(shown, default=0.0) or 1.0

    def _values(self, colour: str, method: str) -> list[list[float | None]]:
        by = self.colours[colour]
        return by.get(method) or by[""]

    def markup(self) -> str:
        """The page as it is first seen, without style or script."""
        return _markup(self.dialogues, self._values(self.colour, self.method), self._about(), self.columns)

    def _about(self) -> dict[str, Any]:
        low = high = False
        centre = _CENTRE.get(self.colour, 0.0)
        for rows in self.colours[self.colour].values():
            for v in (v for row in rows for v in row if v is not None):
                low, high = low or v < centre, high or v > centre
        label = self.colour + (f", {self.method}" if "" not in self.colours[self.colour] else "")
        return {"label": label, "centre": centre, "limit": self.limits[self.colour], "low": low, "high": high or not low}

    def data(self) -> dict[str, Any]:
        """What the script needs to paint again."""
        return {
            "colours": [
                {"name": name, "centre": _CENTRE.get(name, 0.0), "limit": self.limits[name], "by": by}
                for name, by in self.colours.items()
            ],
            "methods": self.methods,
            "columns": self.columns,
            "colour": self.colour,
            "method": self.method,
        }

    def page(self) -> str:
        """Style, page and script, to stand in any HTML."""
        data = json.dumps(self.data()).replace("<", "\\u003c")
        key = hashlib.sha256((self.markup() + data).encode()).hexdigest()[:12]
        script = _HERE.with_suffix(".js").read_text().split("export default")[0]
        start = f'for (const root of document.querySelectorAll(\'[data-key="{key}"]:not(.answers)\')) enhance(root, {data});'
        body = self.markup().replace('class="wb-rollouts"', f'class="wb-rollouts" data-key="{key}"', 1)
        return f"{_css()}{body}<script>(() => {{{script}\n{start}}})();</script>"

    def save(self, path: str | Path, title: str = "Rollouts") -> None:
        """Write a page that opens in any browser and needs nothing else."""
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        Path(path).write_text(f"{head}<body>{self.page()}</body></html>\n", encoding="utf-8")

    def text(self) -> str:
        """The dialogues in words, each turn with the mean of what paints it."""
        values, lines = self._values(self.colour, self.method), []
        for one, row in zip(self.dialogues, values, strict=True):
            lines.append(f"{one['name']}" + (f" ({one['verdict']})" if one["verdict"] else ""))
            for turn in sorted(set(one["turn"])):
                at = [t for t, j in enumerate(one["turn"]) if j == turn]
                said = "".join(one["tokens"][t] for t in at if one["mask"][t])
                given = "".join(one["tokens"][t] for t in at if not one["mask"][t])
                painted = [v for t in at if one["mask"][t] and (v := row[t]) is not None]
                number = f"  {self.colour} {sum(painted) / len(painted):+.2f}" if painted else ""
                lines += [f"  > {said}{number}"] if said else []
                lines += [f"    {given}"] if given else []
        return "\n".join(lines)

    def show(self) -> None:
        """Show it here; outside a notebook the dialogues are printed."""
        if not figure.in_kernel():
            print(self.text())
            return
        if importlib.util.find_spec("anywidget") is None:
            figure.emit(self.page())
            return
        from IPython.display import display

        self._widget = _widget_class()(
            page=self.markup(), data=self.data(), colour=self.colour, method=self.method
        )
        self._widget.observe(self._heard, names=["colour", "method"])
        display(self._widget)
        figure.emit(f'{_HIDE}<div class="workbench-still">{self.page()}</div>')

    def _heard(self, change: Any) -> None:
        self.colour, self.method = self._widget.colour, self._widget.method

    def _ipython_display_(self) -> None:
        self.show()

    @classmethod
    def of_transcripts(cls, records: Sequence[Mapping[str, Any]], *, columns: int = 4) -> RolloutViewer:
        """Of what `train` keeps of a step (`StepRecord.rollouts`) and a study of its runs: texts and credit by turns.

        A record has `turns`, dicts with `text` and optionally `reply`, `reward` and `advantage`, and optionally `prompt`,
        `outcome`, `stop`, `arm`, `seed`, `step`. A turn is one token here: the texts of its tokens were not kept.
        Raises ValueError where a record has no turns.
        """
        dialogues: list[dict[str, Any]] = []
        painted: dict[str, list[list[float | None]]] = {"advantage": [], "reward": []}
        groups: dict[tuple, int] = {}
        for number, record in enumerate(records):
            if "turns" not in record:
                raise ValueError(f"record {number} has no turns to show; it has {', '.join(record)}")
            place = tuple(record.get(name) for name in ("arm", "seed", "step", "prompt"))
            tokens, mask, turn = [str(record.get("prompt", ""))], [False], [-1]
            rows: dict[str, list[float | None]] = {name: [None] for name in painted}
            for j, said in enumerate(record["turns"]):
                reply = [said["reply"]] if said.get("reply") else []
                tokens += [said.get("text", ""), *reply]
                mask += [True, *(False for _ in reply)]
                turn += [j] * (1 + len(reply))
                for name, row in rows.items():
                    row += [said.get(name), *(None for _ in reply)]
            where = [f"{k} {record[k]}" for k in ("arm", "seed", "step") if record.get(k) is not None]
            outcome = f"outcome {record['outcome']:g}" if "outcome" in record else ""
            dialogues.append({
                "tokens": tokens, "mask": mask, "turn": turn, "group": groups.setdefault(place, len(groups)),
                "name": f"rollout {record.get('row', number)}",
                "verdict": ", ".join(part for part in (outcome, str(record.get("stop", "")), *where) if part),
            })  # fmt: skip
            for name, row in rows.items():
                painted[name].append(row)
        kept = {name: rows for name, rows in painted.items() if any(v is not None for row in rows for v in row)}
        return cls(dialogues, kept, columns=columns)


def tokens(
    texts: Sequence[Sequence[str]],
    value: Any,
    *,
    mask: Any = None,
    logp: Any = None,
    names: Sequence[str] | None = None,
    details: Sequence[Sequence[str]] | None = None,
    label: str = "advantage",
    limit: float | None = None,
) -> None:
    """Show rows of tokens, each painted by its number: orange below zero, no colour at zero, blue above.

    The short form of `RolloutViewer`, without switches. `texts[b][t]` is a token as text, `value[b][t]` its number,
    `mask[b][t]` whether the policy sampled it (others are grey), `logp[b][t]` its log-probability. Hover a token, or walk
    with Tab, for its numbers and for `details[b][t]` (your own lines). `limit` fixes the end of the colours, otherwise the
    largest absolute value. Outside a notebook the numbers are printed. Raises ValueError where lengths do not match.
    """
    page = _rows(texts, value, mask, logp, names, details, label, limit)
    if not figure.in_kernel():
        for b, row in enumerate(texts):
            marks = (f"{t}({float(value[b][i]):+.2f})" if mask is None or mask[b][i] else t for i, t in enumerate(row))
            print(f"{names[b] if names is not None else f'row {b}'}: " + " ".join(marks))
        return
    figure.emit(page)


def _rows(
    texts: Sequence[Sequence[str]],
    value: Any,
    mask: Any,
    logp: Any,
    names: Sequence[str] | None,
    details: Sequence[Sequence[str]] | None,
    label: str,
    limit: float | None,
) -> str:
    rows = len(texts)
    for name, field in (("value", value), ("mask", mask), ("logp", logp), ("details", details)):
        if field is not None and (
            len(field) != rows or any(len(f) < len(t) for f, t in zip(field, texts, strict=True))
        ):
            raise ValueError(
                f"{name} must hold one entry a token of every row, {rows} rows of {[len(t) for t in texts]}"
            )
    if names is not None and len(names) != rows:
        raise ValueError(f"names must hold one entry a row, {rows}, not {len(names)}")
    sampled = [[True if mask is None else bool(mask[b][t]) for t in range(len(row))] for b, row in enumerate(texts)]
    shown = [float(value[b][t]) for b, row in enumerate(sampled) for t, mine in enumerate(row) if mine]
    if not all(map(math.isfinite, shown)):
        raise ValueError("value has entries that are not finite on sampled tokens")
    top = limit or max(map(abs, shown), default=0.0) or 1.0
    lines = []
    for b, row in enumerate(texts):
        spans = []
        for t, text in enumerate(row):
            tips = [f"{label} {float(value[b][t]):+.3f}"] if sampled[b][t] else ["given, not sampled"]
            if logp is not None and sampled[b][t]:
                chance = math.exp(float(logp[b][t]))
                tips.append(f"log-prob {float(logp[b][t]):.3f} (probability {chance:.3f})")
            if details is not None and details[b][t]:
                tips.append(str(details[b][t]))
            number = float(value[b][t]) if sampled[b][t] else None
            spans.append(_span(text, number, 0.0, top, sampled[b][t], tips))
        name = html.escape(names[b] if names is not None else f"row {b}")
        lines.append(f'<div class="row"><span class="name">{name}</span><span class="line">{"".join(spans)}</span></div>')
    low = min(shown, default=-1.0) < 0
    key = _key({"label": label, "centre": 0.0, "limit": top, "low": low, "high": True})
    said = f"{html.escape(label, quote=True)} of each token"
    return f'{_css()}<div class="wb-rollouts" role="group" aria-label="{said}">{key}{"".join(lines)}</div>'


# Pieces of the page; rollouts.js paints as `_span` and `_key` do.


def _dialogue(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(given) - set(_KEYS):
        raise ValueError(f"dialogue {number} has the unknown key {sorted(unknown)}; the keys are {', '.join(_KEYS)}")
    if not len(given.get("tokens", ())):
        raise ValueError(f"dialogue {number} has no tokens")
    texts = [str(text) for text in given["tokens"]]
    one: dict[str, Any] = {
        "tokens": texts,
        "mask": [bool(m) for m in given.get("mask", [True] * len(texts))],
        "turn": [int(j) for j in given.get("turn", [0] * len(texts))],
        "group": given.get("group", 0),
        "name": str(given.get("name", f"rollout {number}")),
        "verdict": str(given.get("verdict", "")),
        "notes": [str(note) for note in given.get("notes", ())],
    }
    for name in ("mask", "turn"):
        if len(one[name]) != len(texts):
            raise ValueError(f"dialogue {number} has {len(texts)} tokens but {len(one[name])} entries in {name}")
    return one


def _choice(name: str, chosen: str | None, among: list[str]) -> str:
    if chosen is not None and chosen not in among:
        raise ValueError(f"{name} must be one of {', '.join(among)}, not {chosen!r}")
    return chosen if chosen is not None else among[0]


def _span(
    text: str, value: float | None, centre: float, limit: float, sampled: bool, tips: Sequence[str], at: str = ""
) -> str:
    kinds, paint = ["t"] if sampled else ["t", "given"], ""
    if value is not None:
        kinds.append(("zero", "pos", "neg")[(value > centre) - (value < centre)])
        paint = f' style="--share:{min(1.0, abs(value - centre) / limit):.3f}"'
    if re.fullmatch(r"</?[^<>]+>", text):
        kinds.append("tag")
    visible = html.escape(text.replace("\n", "⏎").replace(" ", "\u00a0"), quote=True)
    tip = html.escape("\n".join(tips), quote=True)
    said = html.escape(f"{text}: " + ", ".join(tips).replace("\n", ", "), quote=True)
    return (
        f'<span class="{" ".join(kinds)}" tabindex="0" role="note"{paint}{at} data-tip="{tip}" aria-label="{said}">'
        f"{visible}</span>"
    )


def _key(about: Mapping[str, Any]) -> str:
    centre, limit = about["centre"], about["limit"]
    low = _number(centre - limit if about["low"] else centre, _signed(about))
    high = _number(centre + limit if about["high"] else centre, _signed(about))
    both = about["low"] and about["high"]
    kind = "" if both else " down" if about["low"] else " up"
    note = "solid line below: above the middle, dotted: below it; " if both else ""
    return (
        f'<div class="key"><span class="from">{low}</span><span class="bar{kind}"></span><span class="to">{high}</span>'
        f'<span class="label">{html.escape(about["label"])}</span>'
        f'<span class="hint">({note}grey: given, not sampled)</span></div>'
    )


def _signed(about: Mapping[str, Any]) -> bool:
    return bool(about["low"] and about["high"] and about["centre"] == 0)


def _number(value: float, signed: bool) -> str:
    return f"{value:{'+' if signed else ''}.3g}".replace("-", "−")


def _markup(
    dialogues: Sequence[Mapping[str, Any]], values: Sequence[Sequence[float | None]], about: Mapping[str, Any], columns: int
) -> str:
    sections = []
    for group in dict.fromkeys(one["group"] for one in dialogues):
        rows = [b for b, one in enumerate(dialogues) if one["group"] == group]
        turns = max(max(dialogues[b]["turn"]) for b in rows) + 1
        prompts = {"".join(t for t, j in zip(dialogues[b]["tokens"], dialogues[b]["turn"], strict=True) if j < 0) for b in rows}
        shared = len(prompts) == 1
        prompt = f'<div class="prompt">{html.escape(prompts.pop())}</div>' if shared and prompts != {""} else ""
        shown = [_column(b, dialogues[b], values[b], about, turns, shared) for b in rows]
        sections.append(
            f'<section class="group" data-group="{html.escape(str(group), quote=True)}">{prompt}'
            f'<div class="grid" style="--columns:{min(columns, len(rows))};--turns:{turns}">{"".join(shown)}</div></section>'
        )
    label = f"{len(dialogues)} rollouts, tokens painted by {html.escape(about['label'], quote=True)}"
    return (
        f'<div class="wb-rollouts" role="group" aria-label="{label}">'
        f'<div class="switches"></div>{_key(about)}{"".join(sections)}<div class="details" role="status" aria-live="polite">'
        "</div></div>"
    )


def _column(
    b: int, one: Mapping[str, Any], values: Sequence[float | None], about: Mapping[str, Any], turns: int, shared: bool
) -> str:
    blocks = []
    for j in range(-1, turns):
        at = [t for t, turn in enumerate(one["turn"]) if turn == j]
        if j < 0 and (shared or not at):
            continue
        said: list[str] = []
        given: list[str] = []
        mean = [v for t in at if one["mask"][t] and (v := values[t]) is not None]
        for t in at:
            value = values[t]
            number = "not painted" if value is None else f"{about['label']} {value:+.3f}"
            tips = [number] if one["mask"][t] else ["given, not sampled", *([number] if value is not None else [])]
            span = _span(one["tokens"][t], value, about["centre"], about["limit"], one["mask"][t], tips, f' data-t="{t}"')
            (said if one["mask"][t] else given).append(span)
        badge = f'<span class="badge">{_number(sum(mean) / len(mean), _signed(about)) if mean else ""}</span>'
        note = one["notes"][j] if 0 <= j < len(one["notes"]) else ""
        head = f'<div class="head"><span>turn {j + 1}</span>{badge}</div>' if j >= 0 and at else ""
        blocks.append(
            f'<div class="turn" data-turn="{j}">{head}<div class="said">{"".join(said)}</div>'
            + (f'<div class="reply">{"".join(given)}</div>' if given else "")
            + (f'<div class="note">{html.escape(note)}</div>' if note else "")
            + "</div>"
        )
    name, verdict = html.escape(one["name"]), html.escape(one["verdict"])
    return (
        f'<article class="dialogue" data-row="{b}" aria-label="{name} {verdict}"><header><b>{name}</b> <span>{verdict}</span>'
        f"</header>{''.join(blocks)}</article>"
    )
