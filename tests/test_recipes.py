"""Named methods: what they are made of, how they print, and what is refused."""

# ruff: noqa: C408 - changes(slot=part) reads like the call that it stands for
import json
import pickle
import re

import pytest

from workbench import objective as o
from workbench import recipes
from workbench.recipes import Recipe

FIRST = {
    "reinforce", "reinforce_baseline", "reinforce_pp", "reinforce_pp_baseline", "rloo", "ppo", "grpo", "dr_grpo", "dapo",
    "gspo", "gspo_token", "cispo", "sapo", "lite_ppo", "gtpo",
}  # fmt: skip


def test_the_registry():
    assert set(recipes.names()) > FIRST
    for name in recipes.names():
        recipe = recipes.get(name)
        assert recipe is getattr(recipes, name) and recipe.name == name and recipes.get(recipe) is recipe
        assert recipe.title and recipe.formula
        assert re.fullmatch(r"\d{4}\.\d{5}", recipe.arxiv) or name in ("reinforce", "reinforce_baseline")
    assert recipes.get("grpo") == Recipe()
    changed = recipes.gtpo.but("mine", advantage=o.turn_returns(pool="flat"))
    assert recipes.get(changed) is changed
    with pytest.raises(ValueError, match="did you mean 'dr_grpo'"):
        recipes.get("Dr-GRPO")
    with pytest.raises(TypeError, match="not 3"):
        recipes.get(3)


def test_the_family_is_a_tree_that_grows_from_grpo():
    family = recipes.family()
    assert {child for child, _, _ in family} == set(recipes.names()) - {"grpo"}
    parent_of = {child: parent for child, parent, _ in family}
    for child, parent, changed in family:
        assert changed and set(changed) == set(recipes.get(child).changes())
        assert recipes.get(child).parent is recipes.get(parent)
        while parent != "grpo":
            parent = parent_of[parent]
    assert ("gspo_token", "gspo", ("ratio",)) in family
    assert ("dapo", "grpo", ("rollout", "reward", "surrogate", "aggregate")) in family


def test_a_recipe_prints_as_its_difference_from_its_parent():
    assert repr(recipes.dr_grpo) == (
        "dr_grpo (2503.20783) = grpo.but(\n    advantage=episode_advantage(scale='none'),\n    aggregate=token_sum(norm=32.0),\n)"
    )
    assert repr(recipes.gspo_token) == "gspo_token (2507.18071) = gspo.but(\n    ratio=importance(gradient='token'),\n)"
    back = recipes.gspo.but("back", surrogate=o.clip())
    assert "surrogate=clip(low=0.2, high=0.2)" in repr(back)  # the usual settings are the news here
    assert repr(recipes.grpo.but("same")) == "same = grpo.but()"
    for slot in o.SLOTS:
        assert f"    {slot}=" in repr(recipes.grpo)


def test_what_is_printed_is_code_that_makes_the_recipe():
    for name in recipes.names():
        recipe = recipes.get(name)
        call = repr(recipe).split(" = ", 1)[1]
        if recipe.parent is not None:
            call = call.replace(f"{recipe.parent.name}.but(", f"recipes.{recipe.parent.name}.but({name!r}, ", 1)
        parts = {**o.PARTS, "Recipe": Recipe, "recipes": recipes}
        assert eval(call, parts) == recipe


def test_gallery_and_descriptions_are_made_from_the_recipes():
    lines = recipes.gallery().splitlines()
    assert len(lines) == 2 + len(recipes.names())
    assert all(line.count("|") == 5 for line in lines)
    row = next(line for line in lines if line.startswith("| `gtpo`"))
    assert "[2511.14846](https://arxiv.org/abs/2511.14846)" in row and "turn_returns" in row and "`grpo`" in row
    text = recipes.describe("gtpo")
    assert "2511.14846" in text and "Reading:" in text and "Left out:" in text and recipes.gtpo.formula in text
    shown = recipes.gtpo._repr_markdown_()
    assert "https://arxiv.org/abs/2511.14846" in shown and "$$" in shown


def test_but_leaves_the_parent_alone_and_does_not_inherit_the_paper():
    mine = recipes.dapo.but("mine", surrogate=o.clip(), reading="narrower")
    assert mine.parent is recipes.dapo and mine.rollout == recipes.dapo.rollout
    assert (mine.arxiv, mine.title, mine.formula, mine.left_out, mine.reading) == ("", "", "", "", "narrower")
    assert recipes.dapo.surrogate == o.clip(0.2, 0.28)
    assert mine.changes() == {"surrogate": (o.clip(0.2, 0.28), o.clip())}
    one = recipes.grpo.but("one", reward=o.gated_outcome(), regulariser=[o.kl()])
    assert one.reward == (o.gated_outcome(),) and one.regulariser == (o.kl(),)
    assert len({recipes.grpo, Recipe(), one}) == 2


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_survive_pickle_and_json(name):
    recipe = recipes.get(name)
    mine = recipe.but("mine", schedule=o.updates(epochs=2), title="Mine")
    for one in (recipe, mine):
        loaded = pickle.loads(pickle.dumps(one))
        again = Recipe.from_dict(json.loads(json.dumps(one.to_dict())))
        for copy in (loaded, again):
            assert copy == one and repr(copy) == repr(one) and copy.to_dict() == one.to_dict()
            assert hash(copy) == hash(one)


def test_a_saved_recipe_that_is_not_one_is_refused():
    good = recipes.gtpo.to_dict()
    for bad, message in (
        ({**good, "advantage": {"part": "turn_retruns"}}, "turn_retruns"),
        ({**good, "advantage": "turn_returns"}, "not a known part"),
        ({key: value for key, value in good.items() if key != "unit"}, "not a saved recipe"),
        ({**good, "extra": 1}, "not a saved recipe"),
        ([], "not a saved recipe"),
        ({**good, "select": {"part": "clip", "low": 0.2, "high": 0.2, "dual": None}}, "is a choice for surrogate"),
        ({**good, "surrogate": {"part": "clip", "low": -1}}, "low must be"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.from_dict(bad)
    with pytest.raises(TypeError, match="lwo"):
        Recipe.from_dict({**good, "surrogate": {"part": "clip", "lwo": 1}})


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(surogate=o.clip()), TypeError, "did you mean 'surrogate'"),
        (dict(surrogate=o.token()), ValueError, r"token\(\) is a choice for unit, not for surrogate"),
        (dict(reward=o.clip()), ValueError, "is a choice for surrogate, not for reward"),
        (dict(surrogate=o.clip), TypeError, r"write clip\(\)"),
        (dict(reward=o.outcome), TypeError, r"write outcome\(\)"),
        (dict(surrogate="clip"), TypeError, "there are policy_gradient, clip, cispo, sapo"),
        (dict(reward="outcome"), TypeError, "in a tuple"),
        (dict(surrogate=None), TypeError, "takes a part"),
        (dict(surrogate=(o.clip(),)), TypeError, "takes a part"),
        (dict(reward=()), ValueError, "at least one reward"),
        (dict(reward=(o.outcome(), o.outcome())), ValueError, "twice"),
        (dict(reward=(o.outcome(), o.gated_outcome())), ValueError, "same thing twice"),
        (dict(reward=(o.outcome(), o.step_rewards())), ValueError, "sum of its step rewards"),
        (dict(reward=(o.turn_penalty(), o.step_rewards())), ValueError, "same thing twice"),
        (dict(reward=(o.outcome(), o.soft_overlong(limit=8, cache=9))), ValueError, "cache"),
        (dict(advantage=o.gae()), ValueError, "nothing trains it"),
        (dict(regulariser=o.value_loss()), ValueError, "does not use"),
        (dict(regulariser=o.kl(estimator="k1")), ValueError, "nothing on average"),
        (dict(regulariser=o.kl(place="reward", corrected=True)), ValueError, "leave it out"),
        (dict(regulariser=(o.kl(), o.kl(0.1))), ValueError, "twice"),
        (dict(unit=o.sequence(), advantage=o.turn_returns()), ValueError, "gradient='token'"),
        (dict(unit=o.sequence(), advantage=o.token_returns()), ValueError, "gradient='token'"),
        (dict(unit=o.turn(), advantage=o.gae(), regulariser=o.value_loss()), ValueError, "gradient='token'"),
        (dict(rollout=o.fixed(1)), ValueError, "size=2"),
        (dict(rollout=o.fixed(1), advantage=o.episode_advantage("loo", "none")), ValueError, "size=2"),
        (dict(rollout=o.fixed(1), advantage=o.turn_returns()), ValueError, "size=2"),
        (dict(rollout=o.fixed(1), advantage=o.information_gain()), ValueError, "size=2"),
        (dict(unit=o.turn(), advantage=o.bilevel_gae(), regulariser=o.value_loss()), ValueError, "gradient='token'"),
        (dict(unit=o.sequence(), advantage=o.turn_gae(), regulariser=o.value_loss()), ValueError, "gradient='token'"),
        (dict(reward=(o.calibrated(), o.turn_penalty())), ValueError, "same thing twice"),
        (dict(advantage=o.turn_and_outcome()), ValueError, "leave outcome"),
        (dict(rollout=o.fixed(1), advantage=o.episode_advantage("batch", "group")), ValueError, "size=2"),
        (dict(rollout=o.resample(1), advantage=o.token_returns()), ValueError, "a group of one never does"),
        (dict(rollout=o.fixed(1), advantage=o.token_returns(), reward=(o.outcome(), o.similarity())), ValueError, "successes"),
        (dict(advantage=o.episode_advantage("none", "centred_batch")), ValueError, "no baseline"),
        (dict(ratio=o.current()), ValueError, "nothing to limit"),
        (dict(ratio=o.current(), surrogate=o.sapo()), ValueError, "nothing to limit"),
        (dict(ratio=o.current(), surrogate=o.cispo()), ValueError, "nothing to limit"),
        (dict(ratio=o.current(), surrogate=o.policy_gradient(), unit=o.sequence()), ValueError, "does nothing"),
        (dict(surrogate=o.clip(dual=1.1)), ValueError, r"above 1 \+ high"),
        (dict(mix=o.replay()), ValueError, "never asks a problem again"),
        (
            dict(mix=o.replay(logp="sampled"), prompts=o.uniform(), ratio=o.current(), surrogate=o.policy_gradient()),
            ValueError, "every ratio is 1",
        ),
        (dict(regulariser=o.likelihood_drops()), ValueError, "the policy is the one that sampled"),
        (dict(regulariser=o.entropy_window(low=2.0)), ValueError, "nothing is between"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_recipe_is_made(changes, error, message):
    with pytest.raises(error, match=message):
        recipes.grpo.but("bad", **changes)


@pytest.mark.parametrize(
    "changes",
    [
        dict(unit=o.turn(), advantage=o.turn_returns()),
        dict(unit=o.turn(), advantage=o.turn_gae(), rollout=o.fixed(1), regulariser=o.value_loss()),
        dict(advantage=o.turn_and_outcome(), reward=o.turn_penalty()),
        dict(unit=o.sequence(), advantage=o.turn_returns(), ratio=o.importance("token")),
        dict(unit=o.sequence(), advantage=o.turn_returns(), surrogate=o.cispo()),
        dict(rollout=o.fixed(1), advantage=o.token_returns()),
        dict(rollout=o.fixed(1), advantage=o.episode_advantage("batch", "batch")),
        dict(advantage=o.gae(), regulariser=(o.value_loss(), o.kl(0.05, "k1", "reward"))),
        dict(regulariser=o.kl(estimator="k1", corrected=True)),
        dict(reward=(o.gated_outcome(), o.turn_penalty(), o.similarity(), o.soft_overlong())),
        dict(surrogate=o.clip(dual=3.0)),
        dict(mix=o.replay(logp="sampled"), prompts=o.uniform(), regulariser=o.likelihood_drops()),
        dict(regulariser=(o.entropy_window(low=2.0, high=None), o.likelihood_drops()), schedule=o.updates(minibatches=2)),
    ],
)
def test_what_fits_is_not_refused(changes):
    assert recipes.grpo.but("good", **changes).changes()


def test_every_rule_has_refused_something():
    """The list above must reach each rule, or a rule could be dead."""
    seen = set()
    cases = test_what_does_not_fit_is_refused_when_the_recipe_is_made.pytestmark[0].args[1]
    for changes, error, _ in cases:
        if error is not ValueError:
            continue
        bare = object.__new__(Recipe)
        values = {**{slot: getattr(recipes.grpo, slot) for slot in o.SLOTS}, **changes, "name": "bad"}
        for slot, value in values.items():
            object.__setattr__(bare, slot, (value,) if slot in ("reward", "regulariser") and isinstance(value, o.Part) else value)
        seen |= {rule.__name__ for rule in recipes.RULES if rule(bare)}
    assert seen == {rule.__name__ for rule in recipes.RULES}


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", 3])
def test_a_name_that_cannot_be_a_folder_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        recipes.grpo.but(name)
