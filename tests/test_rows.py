"""Several rows a rollout: how an episode is laid out in rows changes nothing that is counted per episode."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from workbench import objective as o
from workbench import recipes, seeding
from workbench.batch import Batch, Dialogue, Origin, Segment, Stop

RULED_BY_ROWS = ("flow_grpo",)  # what it computes is defined over rows


def dialogues(seed=0, rollouts=12) -> list[Dialogue]:
    """Three groups of episodes of one to four turns, with replies, of all kinds of ends."""
    rng = seeding.generator(seed, "rows")
    made = []
    for number in range(rollouts):
        turns = [rng.integers(1, 9, rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 5))]
        segments = []
        for ids in turns:
            segments += [Segment(ids, [-0.5 - 0.01 * i for i in ids]), Segment([9] * int(rng.integers(1, 3)))]
        stop = Stop(int(rng.choice([0, 0, 0, 0, 0, 0, 1, 2, 3])))
        outcome = float(rng.random() < 0.6) if stop is Stop.DONE else 0.0
        rewards = [-float(rng.random() < 0.15) for _ in turns]
        made.append(Dialogue([1, 2, 3], number % 3, segments[:-1], rewards, outcome, stop, rollout=number))
    return made


def cut(dialogue: Dialogue, at: list[int]) -> list[Dialogue]:
    """The same episode in rows: the turns in `at` start a new one, whose prompt is everything before them."""
    rows, prompt, begun = [], list(dialogue.prompt), 0
    for start, end in zip([0, *at], [*at, dialogue.turns]):
        mine = dialogue.segments[2 * start : 2 * end - 1]
        rows.append(Dialogue(
            list(prompt), dialogue.group, mine, dialogue.rewards[start:end], dialogue.outcome, dialogue.stop,
            rollout=dialogue.rollout, first_turn=start,
        ))  # fmt: skip
        prompt += [i for segment in dialogue.segments[begun : 2 * end] for i in segment.ids]
        begun = 2 * end
    return rows


def whole_and_cut(seed=0) -> tuple[Batch, Batch]:
    rng = seeding.generator(seed, "cuts")
    rows = dialogues(seed)
    pieces = [cut(d, [j for j in range(1, d.turns) if rng.random() < 0.6]) for d in rows]
    whole, batch = Batch.from_dialogues(rows), Batch.from_dialogues([row for piece in pieces for row in piece])
    several = batch.rollout.bincount() > 1
    assert 1 < whole.outcome[several].sum() < several.sum() - 1  # else there is little that could go wrong
    return whole, batch


def given(batch: Batch, recipe) -> dict:
    """What the recipe needs, the same number at the same sampled token however the rows are cut."""
    made = {}
    for name in o.needs(recipe) & {"entropy", "values", "reference", "answer", "implicit"}:
        numbers = torch.from_numpy(seeding.generator(1, name).normal(size=int(batch.mask.sum()))).float()
        value = torch.zeros(batch.tokens.shape)
        value[batch.mask] = -numbers.abs() if name in ("reference", "answer") else numbers
        made["logp_ref" if name == "reference" else name] = value
    return made


# ---- the record -------------------------------------------------------------------------------------------------------


def test_every_row_is_its_own_rollout_unless_said_otherwise():
    batch = Batch.from_dialogues([Dialogue([1], 0, [Segment([2], [-0.1])], [0.0]) for _ in range(3)])
    assert batch.rollout.tolist() == [0, 1, 2] and batch.rollouts == 3 and batch.first_rows.tolist() == [0, 1, 2]


def test_rollouts_are_numbered_in_order_of_appearance():
    _, batch = whole_and_cut()
    again = batch.replace(rollout=100 - 7 * batch.rollout)
    assert torch.equal(again.rollout, batch.rollout) and batch.rollouts == 12
    back = batch.select(torch.arange(len(batch)).flip(0))
    assert back.rollout[0] == 0 and torch.equal(back.rollout.diff() >= 0, torch.ones(len(batch) - 1, dtype=torch.bool))
    assert torch.equal(back.outcome[back.first_rows], batch.outcome[batch.first_rows].flip(0))


def test_rows_of_different_batches_are_different_rollouts():
    whole, batch = whole_and_cut()
    for renumber in (True, False):
        both = Batch.concatenate([batch, whole, batch], renumber=renumber)
        assert both.rollouts == 36 and torch.equal(both.rollout[: len(batch)], batch.rollout)
    parts = batch.split()
    assert sum(part.rollouts for part in parts) == 12 and len(parts) == 3


def test_a_batch_saved_before_there_were_rollouts_still_loads(tmp_path):
    whole, batch = whole_and_cut()
    fields = {name: value for name, value in vars(whole).items() if name != "rollout"}
    save_file(fields, str(tmp_path / "old.safetensors"))
    assert Batch.load(tmp_path / "old.safetensors").rollout.tolist() == list(range(12))
    batch.save(tmp_path / "new.safetensors")
    assert torch.equal(Batch.load(tmp_path / "new.safetensors").rollout, batch.rollout)
    save_file({"rollout": whole.rollout}, str(tmp_path / "bad.safetensors"))
    with pytest.raises(ValueError, match="not the fields of a Batch"):
        Batch.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("name, value", [("group", 9), ("outcome", 0.25), ("stop", Stop.ERROR), ("origin", Origin.EXPERT)])
def test_rows_of_a_rollout_share_what_belongs_to_the_episode(name, value):
    _, batch = whole_and_cut()
    row = int((batch.rollout.diff() == 0).nonzero()[0]) + 1
    changed = getattr(batch, name).clone()
    changed[row] = value
    with pytest.raises(ValueError, match=rf"{name} at row {row} .* differs from that of another row of its rollout"):
        batch.replace(**{name: changed})


def test_a_turn_is_sampled_in_one_row():
    first = Dialogue([1], 0, [Segment([2], [-0.1])], [0.0], rollout=0)
    with pytest.raises(ValueError, match=r"turn 0 of rollout 0 \(row 0\) is sampled in several rows: number the turns through"):
        Batch.from_dialogues([first, first])
    alone = Batch.from_dialogues([first])
    with pytest.raises(ValueError, match="turn 0 of rollout 0"):
        alone.select([0, 0])
    with pytest.raises(ValueError, match=r"rollout has shape \(2,\)"):
        alone.replace(rollout=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"Batch.rollout must be torch.int64"):
        alone.replace(rollout=torch.zeros(1))


def test_turns_keep_their_numbers_in_later_rows():
    dialogue = next(d for d in dialogues() if d.turns == 4)
    batch = Batch.from_dialogues(cut(dialogue, [1, 3]))
    assert batch.turns.tolist() == [1, 2, 1]
    assert [sorted(set(row[row >= 0].tolist())) for row in batch.turn] == [[0], [1, 2], [3]]
    assert torch.equal(batch.of_rollouts(batch.rewards)[0], torch.tensor(dialogue.rewards))


def test_end_to_end_and_back():
    whole, batch = whole_and_cut()
    shuffled = batch.select(torch.from_numpy(seeding.generator(0, "shuffle").permutation(len(batch))))
    for one in (whole, batch, shuffled):
        joined = one.end_to_end(one.tokens)
        assert torch.equal(one.row_by_row(joined), one.tokens)
        sampled = [row[mask].tolist() for row, mask in zip(joined, one.end_to_end(one.mask))]
        first = [int(number) for number in one.rollout.unique()]
        assert first == list(range(12)) and len(sampled) == 12
        assert sorted(map(str, sampled)) == sorted(str(row[mask].tolist()) for row, mask in zip(whole.tokens, whole.mask))


# ---- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in recipes.names() if name not in RULED_BY_ROWS])
@pytest.mark.parametrize("seed", [0, 1])
def test_cutting_a_rollout_into_rows_changes_no_advantage_and_no_weight(name, seed):
    recipe, (whole, rows) = recipes.get(name), whole_and_cut(seed)
    assert len(rows) > len(whole)
    a, b = (o.prepare(recipe, batch, **given(batch, recipe)) for batch in (whole, rows))
    for what in ("rewards", "advantage", "weight", "coefficient"):
        left, right = getattr(a, what)[whole.mask], getattr(b, what)[rows.mask]
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14, msg=f"{name}: {what}")
    assert a.advantage.abs().sum() > 0 and o.dead(a) == o.dead(b)
    torch.testing.assert_close(  # whichever groups a minibatch takes
        a.select(whole.group < 2).coefficient.sum(), b.select(rows.group < 2).coefficient.sum(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"reward": o.gated_outcome()}, {"reward": (o.outcome(), o.soft_overlong(limit=8, cache=4))},
        {"reward": (o.outcome(), o.turn_penalty(), o.similarity())}, {"select": o.drop_dead()}, {"select": o.drop_overlong()},
        {"select": o.drop_truncated()}, {"select": o.drop_void()}, {"advantage": o.turn_returns(pool="flat")},
        {"advantage": o.turn_returns(pool="r0")}, {"advantage": o.token_returns(0.9)}, {"aggregate": o.token_sum(norm=3.0)},
        {"advantage": o.episode_advantage("batch_loo", "centred_batch")}, {"aggregate": o.token_mean()},
        {"advantage": o.gae(0.9, 0.8), "regulariser": o.value_loss()},
    ],
)  # fmt: skip
def test_nor_does_it_change_the_loss_and_its_gradient(changes):
    recipe, (whole, rows) = recipes.grpo.but("changed", **changes), whole_and_cut()
    found = []
    for batch in (whole, rows):
        drift = torch.from_numpy(seeding.generator(2, "drift").normal(size=int(batch.mask.sum()))) * 0.3
        logp = batch.logp_old.double()
        logp[batch.mask] += drift
        logp.requires_grad_()
        extra = given(batch, recipe)
        value, _ = o.loss(recipe, o.prepare(recipe, batch, **extra), logp, values=extra.get("values"))
        found.append((value.detach(), torch.autograd.grad(value, logp)[0][batch.mask]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)
    assert found[0][1].abs().max() > 0


def test_the_order_of_the_rows_does_not_matter():
    _, rows = whole_and_cut()
    order = torch.from_numpy(seeding.generator(3, "order").permutation(len(rows)))
    for name in ("grpo", "gtpo", "reinforce_pp", "rloo", "supo"):
        recipe = recipes.get(name)
        a, b = o.prepare(recipe, rows), o.prepare(recipe, rows.select(order))
        for what in ("advantage", "coefficient"):
            torch.testing.assert_close(getattr(a, what)[order], getattr(b, what), rtol=1e-12, atol=1e-14)


def test_resampling_keeps_whole_rollouts():
    whole, rows = whole_and_cut()
    for spread in ("outcome", "reward"):
        part = o.resample(spread=spread)
        one, several = (part(batch, o.rewards(recipes.gtpo, batch)) for batch in (whole, rows))
        assert torch.equal(one[rows.rollout], several)
    flat = rows.replace(outcome=torch.ones(len(rows)))
    assert not o.resample()(flat, o.outcome()(flat)).any()


def test_an_error_leaves_out_all_rows_of_its_rollout():
    whole, rows = whole_and_cut()
    broken = rows.replace(stop=torch.where(rows.rollout == 4, int(Stop.ERROR), rows.stop))
    prepared = o.prepare(recipes.grpo, broken)
    without = o.prepare(recipes.grpo, rows.select(rows.rollout != 4))
    assert not prepared.advantage[rows.rollout == 4].any() and not prepared.mask[rows.rollout == 4].any()
    torch.testing.assert_close(prepared.advantage[prepared.mask], without.advantage[without.mask])


def test_the_context_may_cost_something():
    rows = [[1, 2, 3], [1] * 9]
    batch = Batch.from_dialogues([
        Dialogue(prompt, 0, [Segment([5], [-0.1])], [0.0], rollout=0, first_turn=number) for number, prompt in enumerate(rows)
    ] + [Dialogue([1, 2], 0, [Segment([5], [-0.1])], [0.0], rollout=1)])  # fmt: skip
    for budget, expected in ((9, [[0, 0], [0, -0.25], [0, 0]]), (10, [[0, 0]] * 3), (2, [[0, 0], [0, -0.25], [-0.25, 0]])):
        assert o.context_cost(budget, 0.25)(batch).tolist() == expected


# ---- a row a turn -----------------------------------------------------------------------------------------------------


def test_one_row_a_turn():
    whole, rows = whole_and_cut()
    for batch in (whole, rows):
        laid = o.one_row_a_turn()(batch)
        assert len(laid) == int(batch.turns.sum()) and (laid.turns == 1).all() and laid.rollouts == 12
        assert torch.equal(laid.tokens[laid.mask], batch.tokens[batch.mask])
        assert torch.equal(laid.turn[laid.mask], batch.turn[batch.mask])
        assert torch.equal(laid.logp_old[laid.mask], batch.logp_old[batch.mask])
        assert torch.equal(laid.of_rollouts(laid.rewards), batch.of_rollouts(batch.rewards))
        row = 0
        for before, count in enumerate(batch.turns.tolist()):
            for _ in range(count):  # every row is a prefix of the row it was made from, and ends with its own turn
                n = int(laid.length[row])
                assert laid.tokens[row, :n].tolist() == batch.tokens[before, :n].tolist()
                assert laid.mask[row].nonzero()[:, 0].tolist() == list(range(int(laid.prompt_length[row]), n))
                row += 1
    again = o.one_row_a_turn()(laid)
    assert torch.equal(again.tokens, laid.tokens) and torch.equal(again.turn, laid.turn)
    assert o.as_sampled()(rows) is rows


def test_a_rollout_without_a_turn_is_not_lost():
    stuck = Dialogue([1, 2, 3], 0, stop=Stop.CONTEXT, rollout=5)
    laid = o.one_row_a_turn()(Batch.from_dialogues([dialogues()[0], stuck]))
    assert laid.rollouts == 2 and laid.stop[-1] == Stop.CONTEXT and laid.prompt_length[-1] == 3 and not laid.mask[-1].any()


def test_counted_per_rollout_a_row_a_turn_is_grpo():
    """The layout itself changes nothing: what is new in Flow-GRPO is that statistics and averages run over rows."""
    whole, _ = whole_and_cut()
    neutral = recipes.flow_grpo.but(
        "neutral", advantage=o.episode_advantage(), aggregate=o.sequence_mean(), surrogate=recipes.grpo.surrogate
    )
    laid = neutral.layout(whole)
    a, b = o.prepare(recipes.grpo, whole), o.prepare(neutral, laid)
    assert torch.equal(a.advantage[whole.mask], b.advantage[laid.mask])
    torch.testing.assert_close(a.coefficient[whole.mask], b.coefficient[laid.mask])


def test_flow_grpo_weighs_rollouts_by_their_turns():
    right = Dialogue([1], 0, [Segment([2], [-0.1])], [0.0], 1.0)
    turns = [Segment([3, 3], [-0.1, -0.1]), Segment([9]), Segment([4], [-0.1]), Segment([9]), Segment([5], [-0.1])]
    wrong = Dialogue([1], 0, turns, [0.0] * 3, 0.0)
    laid = recipes.flow_grpo.layout(Batch.from_dialogues([right, wrong]))
    prepared = o.prepare(recipes.flow_grpo, laid)
    rewards = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)  # the verdict, on every row
    expected = (rewards - 0.25) / (rewards.std() + 1e-4)
    torch.testing.assert_close(prepared.advantage[laid.mask], expected[[0, 1, 1, 2, 3]])
    # half to each rollout, a third of that to each turn, and half of that to each token of a turn of two
    torch.testing.assert_close(
        prepared.coefficient[laid.mask], torch.tensor([1 / 2, 1 / 12, 1 / 12, 1 / 6, 1 / 6], dtype=torch.float64)
    )
    once = o.prepare(recipes.flow_grpo.but("once", advantage=o.episode_advantage()), laid)
    assert once.advantage[laid.mask].unique().tolist() == pytest.approx([-0.5 / (0.5**0.5 + 1e-4), 0.5 / (0.5**0.5 + 1e-4)])


def test_supo_trains_only_what_ended_within_the_limits_and_compares_with_all():
    _, rows = whole_and_cut()
    prepared, plain = o.prepare(recipes.supo, rows), o.prepare(recipes.grpo, rows)
    done = rows.stop == Stop.DONE
    assert torch.equal(prepared.advantage, plain.advantage)
    assert not prepared.weight[~done].any() and torch.equal(prepared.weight[done], rows.mask[done].double())
    finished = len(rows.rollout[done].unique())
    torch.testing.assert_close(prepared.coefficient.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert prepared.coefficient.sum(1)[done].max() <= 1 / finished + 1e-12
