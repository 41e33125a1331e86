"""Trainers whose results depend on what a careless checkpoint loses; the space names which."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

import numpy as np
import torch
from torch import nn

from stage_runner import TorchTrainer, Trainer


class Torch(TorchTrainer):
    iterations_per_step = 2
    dtype = torch.float32

    def build_data(self, config):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(64, 3, 6, 6, generator=generator).to(self.dtype)
        data = (inputs, torch.randint(0, 4, (64,), generator=generator))
        return data, data

    def build_model(self, config, hparams):
        return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))

    def evaluate(self):
        size = sum(p.double().abs().sum().item() for p in self.model.parameters())
        return {**super().evaluate(), "size": size}


class ChannelsLast(Torch):
    """Under a fused optimizer, whose state has the layout of the gradients."""

    def build_model(self, config, hparams):
        layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 4)
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def build_optimizer(self, model, hparams):
        return torch.optim.AdamW(model.parameters(), lr=hparams["lr"], fused=True)


class Half(Torch):
    """PyTorch casts the state of its optimizer to the type of the parameters."""

    dtype = torch.bfloat16

    def build_model(self, config, hparams):
        return super().build_model(config, hparams).bfloat16()

    def build_optimizer(self, model, hparams):
        return torch.optim.NAdam(model.parameters(), lr=hparams["lr"])


class Scaled(nn.Module):
    """Version 1 kept the square of its factor."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1) * 1.5)

    def forward(self, inputs):
        return inputs * self.factor

    def _load_from_state_dict(self, state, prefix, local_metadata, *rest):
        if local_metadata.get("version", 1) < 2:
            state[prefix + "factor"] = state[prefix + "factor"].sqrt()
        super()._load_from_state_dict(state, prefix, local_metadata, *rest)


class Versioned(Torch):
    def build_model(self, config, hparams):
        return nn.Sequential(super().build_model(config, hparams), Scaled())


class Line(Trainer):
    """Its rate is a NumPy scalar, under which float32 is promoted to float64."""

    def setup(self, config, hparams):
        rng = np.random.default_rng(self.seed)
        self.x = rng.standard_normal((50, 4)).astype(np.float32)
        self.y = self.x @ np.arange(4, dtype=np.float32)
        self.w, self.rate = np.zeros(4, np.float32), np.float64(0.1)

    def step(self, hparams):
        gradient = self.x.T @ (self.x @ self.w - self.y) / np.float32(50)
        self.w = (self.w - self.rate * gradient).astype(np.float32)
        self.rate = self.rate * (1 - hparams["lr"])

    def evaluate(self):
        return {"loss": float(((self.x @ self.w - self.y) ** 2).mean())}

    def state_dict(self):
        return {"w": self.w, "rate": self.rate}

    def load_state_dict(self, state):
        self.w, self.rate = state["w"], state["rate"]


class Column(Trainer):
    """Its state is a column of a table of one row."""

    def setup(self, config, hparams):
        self.table = torch.zeros(1, 4)

    def step(self, hparams):
        self.table += hparams["lr"]

    def evaluate(self):
        return {"loss": float(self.table.sum())}

    def state_dict(self):
        return {"column": self.table[:, 1]}

    def load_state_dict(self, state):
        self.table[:] = state["column"][:, None]


class Fortran(Trainer):
    """A sum over an array follows its layout."""

    def setup(self, config, hparams):
        rng = np.random.default_rng(self.seed)
        self.x = np.asfortranarray(rng.standard_normal((37, 41)).astype(np.float32))

    def step(self, hparams):
        self.x = self.x * np.float32(1 - hparams["lr"]) + self.x.sum() / np.float32(1e4)

    def evaluate(self):
        return {"loss": float(self.x.sum())}

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        self.x = state["x"]


class Shared(Trainer):
    """One buffer has two names; a window forgets; what was seen first counts first."""

    def setup(self, config, hparams):
        self.x = torch.ones(4)
        self.tail = self.x[2:]
        self.window = deque([0.0], maxlen=3)
        self.seen = Counter()
        self.terms = OrderedDict(b=1e16, a=1.0)

    def step(self, hparams):
        self.tail += hparams["lr"]
        self.window.append(float(self.x.sum()))
        self.seen[round(hparams["lr"], 3)] += 1
        self.terms["c"] = self.terms.get("c", -1e16) + 1.0
        self.terms.move_to_end("b")

    def evaluate(self):
        terms = sum(self.terms.values())
        return {"loss": float(self.x.sum()) + sum(self.window) + terms + len(self.seen)}

    def state_dict(self):
        names = ("x", "tail", "window", "seen", "terms")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state):
        vars(self).update(state)


class Casting(Column):
    """Does not restore what was saved, as a library may not."""

    def load_state_dict(self, state):
        self.table[:] = state["column"][:, None].half()


CASES = {
    **{"channels last": ChannelsLast, "half": Half, "versioned": Versioned, "line": Line},
    **{"column": Column, "fortran": Fortran, "shared": Shared, "casting": Casting},
}


class States(Trainer):
    """What ``case`` names, which is a hyper-parameter, so that one study tries all."""

    def setup(self, config, hparams):
        self.inner = CASES[hparams["case"]]()
        self.inner.seed, self.inner.device = self.seed, self.device
        self.inner.setup(config, hparams)

    def step(self, hparams):
        return self.inner.step({"lr": hparams["lr"]})

    def evaluate(self):
        return self.inner.evaluate()

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)
