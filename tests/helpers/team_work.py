"""What the members of a team do in the tests: a module that new processes can import."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from birefnet_export.config import NetworkConfig
from birefnet_export.nano.muon import Muon
from birefnet_export.nano.team import Team
from birefnet_export.nano.train import Plan, Stage, Trainer
from birefnet_export.network import BiRefNet

TINY = NetworkConfig(
    8, (1, 1, 1, 1), (1, 1, 2, 2), 4, mlp_ratio=1, widths=(8,) * 5, aspp=8, kernels=(1, 3), ipt=4
)


def exchange(team: Team, folder: Path) -> None:
    """Writes what ``team`` gives this member, and two steps of Muon, to ``folder``/rank.pt."""
    row = torch.full((3,), float(team.rank))
    team.mean([row])
    found = {"told": torch.tensor(team.told(team.rank + 5.0)), "mean": row, **moved(team)}
    found["threads"] = torch.tensor(torch.get_num_threads())
    torch.save(found, folder / f"{team.rank}.pt")


def quit_early(team: Team, folder: Path) -> None:
    """Everyone but the leader ends without a word; the leader waits for them."""
    if team.rank:
        os._exit(3)
    team.mean([torch.zeros(1)])


def moved(team: Team) -> dict[str, torch.Tensor]:
    """Three parameters after two steps of Muon with the same gradients in every member."""
    torch.manual_seed(7)
    parameters = [torch.nn.Parameter(torch.randn(*s)) for s in ((4, 9), (8, 3, 2, 2), (6, 6))]
    muon = Muon(parameters, lr=0.1, team=team)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape)
        muon.step()
    return {f"parameter {n}": p.detach() for n, p in enumerate(parameters)}


def training(team: Team, folder: Path) -> None:
    """Three steps on ``folder``/pool.npy; leaves the weights in ``folder``/rank.pt."""
    torch.manual_seed(3)
    plan = Plan(1e6, (Stage(1.0, 64, 4, settled=True),))
    trainer = Trainer(BiRefNet(TINY), [np.load(folder / "pool.npy")], plan, team=team)
    trainer.run(folder / f"checkpoint{team.rank}.pt", steps=3)
    torch.save(trainer.network.state_dict(), folder / f"{team.rank}.pt")
