"""Imitators with small networks, learned from sampled demonstrations: what the exact ones tend to.

A network helps where a table would be too large; it does not help against a hidden cause. What a policy looks at decides, and
that is the diagram's business (`graph`, `imitation`). Policies come back as tables, so their values are exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench import seeding
from workbench.causal.scm import Chance, World


def cloning(
    data: Mapping[str, np.ndarray], sizes: Mapping[str, int], action: str, looks_at: Collection[str], *, seed: int,
    width: int = 32, steps: int = 300, batch_size: int = 256, lr: float = 1e-2,
) -> Chance:  # fmt: skip
    """Behaviour cloning: a network of one hidden layer that predicts the action from one-hot values of `looks_at`.

    Args:
        data: demonstrations [N] of each variable, e.g. from `World.see`. sizes: how many values each has.
    Returns:
        The policy as a table over all values of `looks_at`, in the order given.
    Raises:
        ValueError: a variable that the data do not have, or no demonstrations.
    """
    looks_at = tuple(looks_at)
    seen, acted = _columns(data, sizes, action, looks_at)
    policy = _network(seen.shape[1], width, sizes[action], seed, "clone")
    optimiser = torch.optim.Adam(policy.parameters(), lr)
    for rows in _batches(len(acted), batch_size, steps, seed, "clone"):
        loss = F.cross_entropy(policy(seen[rows]), acted[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _table(policy, sizes, action, looks_at)


def gail(
    data: Mapping[str, np.ndarray], sizes: Mapping[str, int], action: str, looks_at: Collection[str], *, seed: int,
    width: int = 32, steps: int = 600, batch_size: int = 256, lr: float = 1e-2,
) -> Chance:  # fmt: skip
    """Generative adversarial imitation of one decision (Ho and Ermon 2016): a policy that a discriminator of (what is seen, what
    is done) cannot tell from the expert. What is seen does not depend on the action, so it is taken from the demonstrations,
    and the policy's gradient is an exact sum over its actions.

    Arguments, result and errors as `cloning`.
    """
    looks_at = tuple(looks_at)
    seen, acted = _columns(data, sizes, action, looks_at)
    actions = torch.eye(sizes[action])
    policy = _network(seen.shape[1], width, sizes[action], seed, "gail policy")
    judge = _network(seen.shape[1] + sizes[action], width, 1, seed, "gail judge")
    optimisers = [torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.9)) for network in (policy, judge)]
    average = torch.zeros(_places(sizes, looks_at), sizes[action])
    everything = _one_hot(_all_values(sizes, looks_at), sizes, looks_at)

    def judged(rows: Tensor) -> Tensor:  # [B,X]: how much each action looks like the expert's
        pairs = torch.cat([seen[rows][:, None].expand(-1, len(actions), -1), actions.expand(len(rows), -1, -1)], 2)
        return judge(pairs)[..., 0]

    for step, rows in enumerate(_batches(len(acted), batch_size, steps, seed, "gail")):
        scores, mine = judged(rows), policy(seen[rows]).softmax(1)
        expert = scores.gather(1, acted[rows, None])[:, 0]
        loss = F.softplus(-expert).mean() + (mine.detach() * F.softplus(scores)).sum(1).mean()
        _step(optimisers[1], loss)
        _step(optimisers[0], -(policy(seen[rows]).softmax(1) * judged(rows).detach()).sum(1).mean())
        if step >= steps // 2:  # the two circle around the equilibrium: the average is nearer to it than the last
            with torch.no_grad():
                average += policy(everything).softmax(1)
    return _averaged(average, sizes, action, looks_at)


def gail_in_turn(
    world: World, data: Mapping[str, np.ndarray], scopes: Mapping[str, Collection[str]], *, seed: int,
    width: int = 32, steps: int = 200, batch_size: int = 256, lr: float = 1e-2,
) -> dict[str, Chance]:  # fmt: skip
    """Generative adversarial imitation of several decisions in turn (Ho and Ermon 2016): the policies act in the world, a judge
    for each action compares what they met and did with what the expert met and did, and each policy is raised by what its own
    judge and the judges of later actions say (the policy gradient; its own judge's part is an exact sum over actions).

    Args:
        world: must allow `do`. data: demonstrations [N] of each variable, e.g. from `world.see`. scopes: what the policy of each
            action looks at, the actions in order of time.
    Returns: the policy of each action as a table over all values of what it looks at.
    Raises:
        ValueError: as `cloning`. NotPermitted: a world in which the learner may not act.
    """
    sizes = {name: world.model.size(name) for name in world.model.observed}
    demonstrated = {a: _columns(data, sizes, a, tuple(scope)) for a, scope in scopes.items()}
    everything = {a: _one_hot(_all_values(sizes, tuple(scope)), sizes, tuple(scope)) for a, scope in scopes.items()}
    policies = {a: _network(seen.shape[1], width, sizes[a], seed, f"policy of {a}") for a, (seen, _) in demonstrated.items()}
    judges = {a: _network(seen.shape[1] + sizes[a], width, 1, seed, f"judge of {a}") for a, (seen, _) in demonstrated.items()}
    networks = (nn.ModuleList(policies.values()), nn.ModuleList(judges.values()))
    acting, judging = (torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.9)) for network in networks)
    average = {a: torch.zeros(len(seen), sizes[a]) for a, seen in everything.items()}

    def judged(action: str, seen: Tensor) -> Tensor:  # [B,X]: how much each action looks like the expert's
        choices = torch.eye(sizes[action])
        pairs = torch.cat([seen[:, None].expand(-1, len(choices), -1), choices.expand(len(seen), -1, -1)], 2)
        return judges[action](pairs)[..., 0]

    for step, rows in enumerate(_batches(len(next(iter(data.values()))), batch_size, steps, seed, "gail in turn")):
        tables = {a: _table(policies[a], sizes, a, tuple(scope)) for a, scope in scopes.items()}
        played = world.do(tables, batch_size, seed=seeding.integer(seed, "gail in turn", step))
        met = {a: _columns(played, sizes, a, tuple(scope)) for a, scope in scopes.items()}
        loss = torch.zeros(())
        for a, (seen, acted) in demonstrated.items():
            expert, mine = judged(a, seen[rows]).gather(1, acted[rows, None]), judged(a, met[a][0]).gather(1, met[a][1][:, None])
            loss = loss + F.softplus(-expert).mean() + F.softplus(mine).mean()
        _step(judging, loss)
        later, gain = torch.zeros(batch_size), torch.zeros(())
        for a in reversed(tuple(scopes)):
            seen, acted = met[a]
            scores, logp = judged(a, seen).detach(), policies[a](seen).log_softmax(1)
            taken = logp.gather(1, acted[:, None])[:, 0]
            gain = gain + (logp.exp() * scores).sum(1).mean() + (taken * (later - later.mean())).mean()
            later = later + scores.gather(1, acted[:, None])[:, 0]
        _step(acting, -gain)
        if step >= steps // 2:  # the two circle around the equilibrium: the average is nearer to it than the last
            with torch.no_grad():
                for a, seen in everything.items():
                    average[a] += policies[a](seen).softmax(1)
    return {a: _averaged(average[a], sizes, a, tuple(scope)) for a, scope in scopes.items()}


def _averaged(total: Tensor, sizes: Mapping[str, int], action: str, looks_at: tuple[str, ...]) -> Chance:
    table = (total / total.sum(1, keepdim=True)).double().numpy()
    return Chance(looks_at, _exact(table).reshape([sizes[name] for name in (*looks_at, action)]))


def _network(inputs: int, width: int, outputs: int, seed: int, key: str) -> nn.Sequential:
    """Two linear layers with a rectifier between."""
    network = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))
    generator = torch.Generator().manual_seed(seeding.integer(seed, "neural imitation", key))
    with torch.no_grad():
        for parameter, entering in zip(network.parameters(), (inputs, inputs, width, width)):
            bound = entering**-0.5
            parameter.uniform_(-bound, bound, generator=generator)
    return network


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _batches(count: int, size: int, steps: int, seed: int, key: str) -> Tensor:
    """[steps,size] rows of the data, drawn with replacement."""
    rng = seeding.generator(seed, "neural imitation", key)
    return torch.from_numpy(rng.integers(0, count, (steps, size)))


def _columns(
    data: Mapping[str, np.ndarray], sizes: Mapping[str, int], action: str, looks_at: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    for name in (action, *looks_at):
        if name not in data or name not in sizes:
            raise ValueError(f"unknown name {name!r}; the demonstrations have {', '.join(data)}")
    if not len(data[action]):
        raise ValueError("there are no demonstrations")
    values = np.stack([data[name] for name in looks_at], 1) if looks_at else np.empty((len(data[action]), 0), int)
    return _one_hot(values, sizes, looks_at), torch.from_numpy(np.asarray(data[action])).long()


def _one_hot(values: np.ndarray, sizes: Mapping[str, int], looks_at: tuple[str, ...]) -> Tensor:
    """[N, sum of sizes] float; a column of ones if there is nothing to look at."""
    if not looks_at:
        return torch.ones(len(values), 1)
    columns = [F.one_hot(torch.from_numpy(values[:, n]).long(), sizes[name]) for n, name in enumerate(looks_at)]
    return torch.cat(columns, 1).float()


def _places(sizes: Mapping[str, int], looks_at: tuple[str, ...]) -> int:
    return int(np.prod([sizes[name] for name in looks_at], dtype=int))


def _all_values(sizes: Mapping[str, int], looks_at: tuple[str, ...]) -> np.ndarray:
    shape = [sizes[name] for name in looks_at]
    return np.indices(shape).reshape(len(shape), -1).T if looks_at else np.empty((1, 0), int)


def _table(policy: nn.Module, sizes: Mapping[str, int], action: str, looks_at: tuple[str, ...]) -> Chance:
    with torch.no_grad():
        table = policy(_one_hot(_all_values(sizes, looks_at), sizes, looks_at)).softmax(1).double().numpy()
    return Chance(looks_at, _exact(table).reshape([sizes[name] for name in (*looks_at, action)]))


def _exact(table: np.ndarray) -> np.ndarray:
    """Rows that sum to 1 in double precision."""
    return table / table.sum(-1, keepdims=True)
