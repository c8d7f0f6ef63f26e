"""The record: what it holds, what it refuses, and that nothing is lost on the way."""

import dataclasses

import pytest
import torch

from workbench.batch import Batch, Dialogue, Origin, Segment, Stop

FIELDS = [field.name for field in dataclasses.fields(Batch)]


def dialogues() -> Batch:
    """Row 0: prompt 1 2 3, turn 0 = 4 5, reply 6, turn 1 = 7 8. Row 1: prompt 1 2, turn 0 = 4 5 6, truncated."""
    first = Dialogue([1, 2, 3], 0, [Segment([4, 5], [-0.1, -0.2]), Segment([6]), Segment([7, 8], [-0.3, -0.4])])
    first.rewards, first.outcome = [0.0, -1.0], 1.0
    second = Dialogue([1, 2], 1, [Segment([4, 5, 6], [-0.1, -0.2, -0.3])], [-1.0], 0.0, Stop.LENGTH)
    return Batch.from_dialogues([first, second])


def pulls() -> Batch:
    return Batch.from_pulls(
        torch.tensor([0, 2, 1, 1]), torch.tensor([1.0, 0.0, 0.5, 1.0]), torch.tensor([-1.0, -2.0, -0.5, -0.5]),
        context=torch.tensor([0, 0, 1, 1]),
    )  # fmt: skip


def trajectories() -> Batch:
    return Batch.from_trajectories(
        states=torch.tensor([[0, 1, 2], [3, 4, 5]]), actions=torch.tensor([[0, 1, 0], [1, 1, 1]]),
        rewards=torch.tensor([[0.0, 0.0, 1.0], [2.0, 3.0, 9.0]]), logp=torch.full((2, 3), -0.7),
        length=torch.tensor([3, 2]), terminated=torch.tensor([True, False]),
    )  # fmt: skip


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_dialogues():
    batch = dialogues()
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4, 5, 6, 0, 0, 0]]
    assert batch.mask.int().tolist() == [[0, 0, 0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 1, 0, 0, 0]]
    assert batch.turn.tolist() == [[-1, -1, -1, 0, 0, 0, 1, 1], [-1, -1, 0, 0, 0, -1, -1, -1]]
    assert batch.turns.tolist() == [2, 1]
    assert batch.last_token.tolist() == [[4, 7], [4, -1]]
    assert batch.stop.tolist() == [Stop.DONE, Stop.LENGTH]


def test_spreading_turn_values_over_tokens():
    batch, values = dialogues(), torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    assert batch.at_last_tokens(values).tolist() == [[0, 0, 0, 0, 10, 0, 0, 20], [0, 0, 0, 0, 30, 0, 0, 0]]
    assert batch.at_all_tokens(values).tolist() == [[0, 0, 0, 10, 10, 0, 20, 20], [0, 0, 30, 30, 30, 0, 0, 0]]


def test_a_pull_is_an_episode_of_one_sampled_token():
    batch = pulls()
    assert batch.tokens.tolist() == [[0, 0], [0, 2], [1, 1], [1, 1]]
    assert batch.mask.sum(1).tolist() == [1, 1, 1, 1]
    assert batch.outcome.tolist() == [1.0, 0.0, 0.5, 1.0]
    assert batch.group.tolist() == [0, 0, 1, 1]


def test_a_trajectory_is_an_episode_of_actions():
    batch = trajectories()
    assert batch.tokens.tolist() == [[0, 0, 1, 1, 2, 0], [3, 1, 4, 1, 0, 0]]
    assert batch.mask.int().tolist() == [[0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 0]]
    assert batch.turn.tolist() == [[-1, 0, 0, 1, 1, 2], [-1, 0, 0, 1, -1, -1]]
    assert batch.outcome.tolist() == [1.0, 5.0]  # the reward after the end (9) is not counted
    assert batch.stop.tolist() == [Stop.DONE, Stop.TURNS]


@pytest.mark.parametrize("make", [dialogues, pulls, trajectories])
def test_saving_loses_nothing(make, tmp_path):
    batch = make()
    batch.save(tmp_path / "batch.safetensors")
    assert same(batch, Batch.load(tmp_path / "batch.safetensors"))


def test_loading_what_is_not_a_batch(tmp_path):
    path = tmp_path / "batch.safetensors"
    dialogues().save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="cut short"):
        Batch.load(path)


def test_splitting_and_concatenating_are_inverse():
    batch = pulls()
    assert [part.group.tolist() for part in batch.split()] == [[0, 0], [1, 1]]
    assert same(Batch.concatenate(batch.split()), batch)
    kept = Batch.concatenate([batch, batch], renumber=False)
    assert kept.group.tolist() == [0, 0, 1, 1] * 2


def test_concatenating_keeps_every_episode_and_tells_groups_apart():
    both = Batch.concatenate([pulls(), dialogues(), trajectories()])
    assert both.group.tolist() == [0, 0, 1, 1, 2, 3, 4, 4]
    assert same(both.select([0, 1, 2, 3]).replace(group=pulls().group), pulls())
    assert same(both.select(torch.tensor([4, 5])).replace(group=torch.tensor([0, 1])), dialogues())


def test_selecting_trims_and_refuses_rows_that_do_not_exist():
    batch = dialogues()
    assert batch.select([1]).tokens.tolist() == [[1, 2, 4, 5, 6]]
    assert batch.select([1]).rewards.shape == (1, 1)
    assert batch.select(batch.outcome > 0).group.tolist() == [0]
    assert len(batch.select([])) == 0
    with pytest.raises(ValueError, match="row 2 does not exist: the batch has 2 episodes"):
        batch.select([0, 2])


def at(name, row, column, value):
    def change(batch: Batch) -> dict:
        field = getattr(batch, name).clone()
        field[(row, column) if column is not None else row] = value
        return {name: field}

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (at("rewards", 1, 0, float("nan")), r"rewards at row 1, column 0 .* not finite"),
        (at("outcome", 0, None, float("inf")), "outcome at row 0 .* not finite"),
        (at("logp_old", 0, 3, float("-inf")), "logp_old at row 0, column 3 .* not finite"),
        (at("logp_old", 0, 3, 0.5), "cannot be positive"),
        (at("logp_old", 0, 5, -1.0), "logp_old at row 0, column 5 .* must be 0 where nothing was sampled"),
        (at("turn", 0, 4, -1), "turn at row 0, column 4 .* on every sampled token"),
        (at("turn", 0, 7, 0), "turn at row 0, column 7 .* goes back"),
        (at("turn", 0, 7, 2), "must be below the 2 columns of rewards"),
        (at("turn", 1, 6, 0), "must be -1 after the end"),
        (at("mask", 1, 6, True), "mask at row 1, column 6 .* after the end"),
        (at("mask", 0, 1, True), "mask at row 0, column 1 .* of the prompt"),
        (at("length", 1, None, 9), "length at row 1 .* from 1 to 8"),
        (at("prompt_length", 1, None, 7), "longer than the episode"),
        (at("stop", 0, None, 9), "stop at row 0 .* must be one of"),
        (at("origin", 0, None, -1), "origin at row 0 .* must be one of"),
        (lambda b: {"group": b.group[:1]}, r"group has shape \(1,\); the other fields imply \[2\]"),
        (lambda b: {"turn": b.turn[:, :3]}, "turn has shape"),
        (lambda b: {"outcome": b.rewards}, r"outcome must have shape \[B\]"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_field_and_row(change, message):
    batch = dialogues()
    with pytest.raises(ValueError, match=message):
        batch.replace(**change(batch))


@pytest.mark.parametrize("name, value", [("mask", torch.ones(2, 8)), ("tokens", torch.zeros(2, 8)), ("group", [0, 1])])
def test_types_that_make_no_sense_are_refused(name, value):
    with pytest.raises(TypeError, match=f"Batch.{name} must be"):
        dialogues().replace(**{name: value})


def test_turns_without_rewards_and_empty_prompt_sets_are_refused():
    with pytest.raises(ValueError, match="dialogue 0 has 1 sampled turns but 0 turn rewards"):
        Batch.from_dialogues([Dialogue([1], 0, [Segment([2], [-0.1])])])
    with pytest.raises(ValueError, match="no dialogues"):
        Batch.from_dialogues([])
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Batch.concatenate([])


def test_origin_is_kept():
    batch = dialogues().replace(origin=torch.tensor([Origin.EXPERT, Origin.REPLAY]))
    assert Batch.concatenate([batch, dialogues()]).origin.tolist() == [2, 1, 0, 0]
