"""Tokens painted with a number each: credit, advantage, probability. Plain HTML and CSS, so exported pages keep it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.plots import figure

_LOW, _HIGH = (
    (222, 143, 5),
    (1, 115, 178),
)  # orange to blue through white: told apart by all common colour visions
_CSS = """<style>
.wb-tokens{background:#fff;color:#1a1a1a;border:1px solid #ddd;border-radius:6px;padding:.6em .8em;max-width:60em;
 font:13px/1.5 system-ui,sans-serif}
.wb-tokens .row{display:flex;gap:.8em;padding:.3em 0;border-top:1px solid #eee;align-items:baseline}
.wb-tokens .row:first-of-type{border-top:0}
.wb-tokens .name{flex:0 0 9em;color:#555;font-variant-numeric:tabular-nums}
.wb-tokens .line{font:14px/2 ui-monospace,Menlo,DejaVu Sans Mono,monospace;white-space:pre-wrap}
.wb-tokens .t{position:relative;padding:.15em .14em;border-radius:3px;cursor:default;border-bottom:2px solid transparent}
.wb-tokens .t.pos{border-bottom:2px solid #01598a}.wb-tokens .t.neg{border-bottom:2px dotted #8a5200}
.wb-tokens .t.given{color:#767676}
.wb-tokens .t:focus{outline:2px solid #111;outline-offset:1px}
.wb-tokens .t:hover::after,.wb-tokens .t:focus::after{content:attr(data-tip);position:absolute;left:0;top:100%;z-index:9;
 background:#1a1a1a;color:#fff;font:12px/1.45 system-ui,sans-serif;white-space:pre;padding:.35em .6em;border-radius:4px}
.wb-tokens .key{display:flex;align-items:center;gap:.5em;color:#444;font-size:12px;padding-bottom:.4em}
.wb-tokens .bar{width:9em;height:.9em;border:1px solid #ccc;border-radius:2px;
 background:linear-gradient(90deg,rgb(222,143,5),#fff,rgb(1,115,178))}
.wb-tokens .bar.up{background:linear-gradient(90deg,#fff,rgb(1,115,178))}
</style>"""


def _shade(value: float, top: float) -> str:
    share = min(1.0, abs(value) / top) if top > 0 else 0.0
    end = _HIGH if value >= 0 else _LOW
    red, green, blue = (round(255 + (c - 255) * share * 0.75) for c in end)  # 0.75 keeps dark text readable
    return f"#{red:02x}{green:02x}{blue:02x}"


def _page(
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
    sampled = [
        [True if mask is None else bool(mask[b][t]) for t in range(len(row))] for b, row in enumerate(texts)
    ]
    shown = [float(value[b][t]) for b, row in enumerate(sampled) for t, mine in enumerate(row) if mine]
    if not np.all(np.isfinite(shown)):
        raise ValueError("value has entries that are not finite on sampled tokens")
    top = limit or max((abs(v) for v in shown), default=0.0) or 1.0
    lines = []
    for b, row in enumerate(texts):
        spans = []
        for t, text in enumerate(row):
            tips = [f"{label} {float(value[b][t]):+.3f}"] if sampled[b][t] else ["given, not sampled"]
            if logp is not None and sampled[b][t]:
                chance = float(np.exp(float(logp[b][t])))
                tips.append(f"log-prob {float(logp[b][t]):.3f} (probability {chance:.3f})")
            if details is not None and details[b][t]:
                tips.append(str(details[b][t]))
            kind = ("zero", "pos", "neg")[int(np.sign(float(value[b][t])))] if sampled[b][t] else "given"
            paint = f' style="background:{_shade(float(value[b][t]), top)}"' if sampled[b][t] else ""
            visible = html.escape(text.replace("\n", "⏎"), quote=True)
            tip = html.escape("\n".join(tips), quote=True)
            said = html.escape(f"{text}: " + ", ".join(tips).replace("\n", ", "), quote=True)
            spans.append(
                f'<span class="t {kind}" tabindex="0" role="note"{paint} data-tip="{tip}" aria-label="{said}">{visible}</span>'
            )
        name = html.escape(names[b] if names is not None else f"row {b}")
        lines.append(
            f'<div class="row"><span class="name">{name}</span><span class="line">{"".join(spans)}</span></div>'
        )
    signed = min(shown, default=-1.0) < 0
    low, high, bar = (f"−{top:.2g}", f"+{top:.2g}", "bar") if signed else ("0", f"{top:.2g}", "bar up")
    note = "solid line below: positive, dotted: negative; " if signed else ""
    key = (
        f'<div class="key"><span>{low}</span><span class="{bar}"></span><span>{high}</span>'
        f"<span>{html.escape(label)} ({note}grey: given, not sampled)</span></div>"
    )
    said = f"{html.escape(label)} of each token"
    return f'{_CSS}<div class="wb-tokens" role="group" aria-label="{said}">{key}{"".join(lines)}</div>'


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
    """Show rows of tokens, each painted by its number: orange below zero, white at zero, blue above.

    `texts[b][t]` is a token as text, `value[b][t]` its number, `mask[b][t]` whether the policy sampled it (others are
    grey), `logp[b][t]` its log-probability. Hover a token, or walk with Tab, for its numbers and for `details[b][t]`
    (your own lines). `limit` fixes the end of the colours, otherwise the largest absolute value. Outside a notebook the
    numbers are printed. Raises ValueError where lengths do not match.
    """
    page = _page(texts, value, mask, logp, names, details, label, limit)
    if not figure.in_kernel():
        for b, row in enumerate(texts):
            marks = (
                f"{t}({float(value[b][i]):+.2f})" if mask is None or mask[b][i] else t
                for i, t in enumerate(row)
            )
            print(f"{names[b] if names is not None else f'row {b}'}: " + " ".join(marks))
        return
    figure.emit(page)
