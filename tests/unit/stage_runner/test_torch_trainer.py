"""TorchTrainer: data order, hyper-parameters, optimizers, modes."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from stage_runner import TorchTrainer
from stage_runner.checkpoints import restoring
from stage_runner.checkpoints.codec import encode
from stage_runner.checkpoints.digest import state_digest
from stage_runner.epochs import Epochs
from stage_runner.randomness import seed_generators
from tests.unit.stage_runner.chains import TRAINERS

sys.path.insert(0, str(TRAINERS))
from tiny_torch import TinyTrainer

torch.set_num_threads(1)  # two that spin for small tensors slow each other down

HPARAMS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "batch_size": 8}


def make(
    kind: type[TorchTrainer] = TinyTrainer,
    config: dict[str, Any] | None = None,
    hparams: dict[str, Any] = HPARAMS,
) -> Any:
    trainer = kind()
    trainer.seed = 5
    seed_generators("setup", 5)
    trainer.setup(config or {}, hparams)
    return trainer


def train(trainer: Any, steps: range, hparams: dict[str, Any] = HPARAMS) -> Any:
    for step in steps:
        seed_generators("step", 5, step)
        trainer.step(hparams)
    return trainer


def restore(trainer: Any, **settings: Any) -> Any:
    """As the runner does it, which compares."""
    fresh = make(type(trainer), **settings)
    data = b"".join(encode(trainer.state_dict()))
    restoring.restore(fresh, lambda: data, digest=state_digest(trainer.state_dict()))
    return fresh


def test_every_epoch_is_another_permutation_whatever_the_batches() -> None:
    epochs = Epochs(10, seed=1)
    orders = []
    for sizes in ([4, 4, 2], [3, 3, 3, 1], [10]):
        batches = [epochs.take(size) for size in sizes]
        assert [len(batch.indices) for batch in batches] == sizes
        orders.append(torch.cat([batch.indices for batch in batches]).tolist())
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert (epochs.epoch, epochs.offset) == (3, 0)


def test_the_last_batch_of_an_epoch_is_what_is_left() -> None:
    epochs = Epochs(10, seed=1)
    sizes = [len(epochs.take(4).indices) for _ in range(6)]
    assert sizes == [4, 4, 2, 4, 4, 2]


def test_the_order_goes_on_in_mid_epoch_with_another_batch_size() -> None:
    whole, cut = Epochs(10, seed=1), Epochs(10, seed=1)
    order = whole.take(10).indices
    cut.take(3)
    resumed = Epochs(10, seed=1)
    resumed.load_state_dict(cut.state_dict())
    assert torch.equal(resumed.take(5).indices, order[3:8])


def test_a_step_is_an_epoch_unless_told_otherwise() -> None:
    trainer = make(config={"iterations_per_step": None})
    train(trainer, range(2))
    assert trainer.epochs.state_dict() == {"epoch": 2, "offset": 0}
    trainer = make(config={"iterations_per_step": 7})
    train(trainer, range(1))
    assert trainer.epochs.state_dict() == {"epoch": 1, "offset": 8}  # 43 samples: 6 batches


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"augment": True}, {"iterations_per_step": None}], ids=str)
def test_a_restored_trainer_goes_on_exactly(config: dict[str, Any]) -> None:
    straight = train(make(config=config), range(6))
    trainer = make(config=config)
    for step in range(6):
        train(trainer, range(step, step + 1))
        trainer = restore(trainer, config=config)
    assert state_digest(trainer.state_dict()) == state_digest(straight.state_dict())


def test_workers_of_the_loader_change_nothing() -> None:
    alone = train(make(config={"augment": True}), range(4))
    helped = train(make(config={"augment": True, "workers": 2}), range(4))
    assert state_digest(helped.state_dict()) == state_digest(alone.state_dict())


def test_hyperparameters_are_set_on_every_group_at_every_step() -> None:
    trainer = make()
    train(trainer, range(1), {**HPARAMS, "lr": 0.5, "weight_decay": 0.01})
    group = trainer.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 0.01)
    adam = {"lr": 0.1, "betas": [0.8, 0.9], "optimizer": "adam", "batch_size": 8}
    trainer = train(make(hparams=adam), range(1), adam)
    assert trainer.optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_the_config_stands_in_for_hyperparameters() -> None:
    config = {"optimizer": "adamw", "lr": 0.3, "batch_size": 43}
    trainer = train(make(config=config, hparams={}), range(1), {})
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.3
    assert trainer.epochs.state_dict() == {"epoch": 3, "offset": 0}


def test_a_hyperparameter_that_the_optimizer_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="momentum is set, but the optimizer Adam has none"):
        train(make(config={"optimizer": "adam"}), range(1))
    with pytest.raises(ValueError, match="optimizer 'adma' is unknown; known are sgd, adam, adamw"):
        make(config={"optimizer": "adma"})
    with pytest.raises(ValueError, match=r"batch_size must be an integer .* not 8\.5"):
        train(make(), range(1), {"lr": 0.1, "batch_size": 8.5})


def test_the_optimizer_may_change_within_a_sequence() -> None:
    sgd = {**HPARAMS, "optimizer": "sgd"}
    adam = {**HPARAMS, "optimizer": "adam"}
    straight = train(train(make(hparams=sgd), range(2), sgd), range(2, 5), adam)
    assert isinstance(straight.optimizer, torch.optim.Adam)
    for cut in (1, 2, 3, 4):
        trainer = train(make(hparams=sgd), range(min(cut, 2)), sgd)
        train(trainer, range(2, cut), adam)
        trainer = restore(trainer, hparams=sgd)
        train(trainer, range(cut, 2), sgd)
        train(trainer, range(max(cut, 2), 5), adam)
        assert state_digest(trainer.state_dict()) == state_digest(straight.state_dict())


def test_gradients_are_clipped() -> None:
    trainer = make()
    before = copy.deepcopy(list(trainer.model.parameters()))
    train(trainer, range(1), {"lr": 1.0, "batch_size": 43, "clip_norm": 1e-6})
    moved = [(p - q).norm() for p, q in zip(trainer.model.parameters(), before, strict=True)]
    assert 0 < sum(moved) < 1e-4


def test_evaluation_restores_the_mode_of_each_module_and_disturbs_nothing() -> None:
    trainer = make()
    trainer.model[1].eval()  # frozen statistics
    train(trainer, range(1))
    before = state_digest(trainer.state_dict())
    metrics = trainer.evaluate()
    assert [module.training for module in trainer.model] == [True, False, True, True, True]
    assert state_digest(trainer.state_dict()) == before
    assert trainer.evaluate() == metrics


def test_metrics_are_means_over_samples_whatever_the_batches() -> None:
    trainer = train(make(), range(3))
    whole = trainer.evaluate()
    trainer.eval_batch_size = 3
    assert trainer.evaluate() == pytest.approx(whole)
    assert set(whole) == {"accuracy", "loss"}
    assert 0 <= whole["accuracy"] <= 1


class Half(TinyTrainer):
    amp = torch.bfloat16


class Scaled(TinyTrainer):
    amp = torch.float16


@pytest.mark.parametrize("kind", [Half, Scaled])
def test_mixed_precision_is_exact_too(kind: type[TorchTrainer]) -> None:
    straight = train(make(kind), range(4))
    trainer = train(restore(train(make(kind), range(2))), range(2, 4))
    assert state_digest(trainer.state_dict()) == state_digest(straight.state_dict())
    assert trainer.scaler.is_enabled() == (kind is Scaled)
    assert all(p.isfinite().all() for p in trainer.model.parameters())


OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"momentum": 0.9}),
    "SGD, lr a tensor": ("SGD", {"lr": torch.tensor(0.01), "momentum": 0.9, "foreach": False}),
    "AdamW, fused": ("AdamW", {"fused": True}),
    "Adam, amsgrad": ("Adam", {"amsgrad": True}),
    **{
        name: (name, {})
        for name in (
            *("NAdam", "RAdam", "ASGD", "Rprop", "RMSprop", "Adagrad", "Adadelta"),
            *("Adamax", "Adafactor", "AdamW"),
        )
    },
}


class Convolutional(TorchTrainer):
    """Config: ``optimizer_class`` and its ``settings``, ``dtype``, ``layout``."""

    iterations_per_step = 2

    def build_data(self, config: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(32, 3, 6, 6, generator=generator).to(config["dtype"])
        data = (inputs, torch.randint(0, 4, (32,), generator=generator))
        return data, data

    def build_model(self, config: Any, hparams: Any) -> nn.Module:
        model = nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)),
            *(nn.Flatten(), nn.Linear(64, 4)),
        )
        return model.to(config["dtype"], memory_format=config["layout"])  # type: ignore[call-overload,no-any-return]

    def build_optimizer(self, model: nn.Module, hparams: Any) -> Any:
        kind = getattr(torch.optim, self.config["optimizer_class"])
        return kind(model.parameters(), **{"lr": 0.01, **self.config["settings"]})


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_every_optimizer_is_restored_exactly(
    optimizer: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    kind, settings = OPTIMIZERS[optimizer]
    config = {"optimizer_class": kind, "settings": settings, "dtype": dtype, "layout": layout}
    straight = make(Convolutional, config=config, hparams={})
    cut = make(Convolutional, config=config, hparams={})
    for step in range(4):
        train(straight, range(step, step + 1), {})
        train(cut, range(step, step + 1), {})
        assert state_digest(cut.state_dict()) == state_digest(straight.state_dict())
        cut = restore(cut, config=config, hparams={})


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True, dropout=0.2)

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.lstm(inputs[:, None])[0][:, -1]


class Counting(nn.Linear):
    """Holds more than tensors."""

    calls = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return super().forward(inputs) * (1 + 0.01 * self.calls)

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


class Complex(nn.Linear):
    def __init__(self) -> None:
        super().__init__(6, 8, dtype=torch.complex64)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs.to(torch.complex64)).abs()


MODULES: dict[str, Any] = {
    "recurrent": Last,
    "extra state": lambda: Counting(6, 8),
    "complex": Complex,
    "lazy": lambda: nn.LazyLinear(8),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)),
    "cumulative statistics": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=None)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_every_kind_of_module_is_restored_exactly(module: str) -> None:
    class Varied(TinyTrainer):
        def build_model(self, config: Any, hparams: Any) -> nn.Module:
            return nn.Sequential(MODULES[module](), nn.Tanh(), nn.Linear(8, 3))

        def build_optimizer(self, model: nn.Module, hparams: Any) -> Any:
            groups = [{"params": list(model[0].parameters())}, {"params": model[2].parameters()}]  # type: ignore[index]
            return torch.optim.Adam(groups, lr=torch.tensor(0.01), foreach=False)

    straight, cut = make(Varied, hparams={}), make(Varied, hparams={})
    for step in range(3):
        train(straight, range(step, step + 1), {})
        train(cut, range(step, step + 1), {})
        assert state_digest(cut.state_dict()) == state_digest(straight.state_dict())
        assert cut.evaluate() == straight.evaluate()
        cut = restore(cut, hparams={})
        shared = [group["lr"] for group in cut.optimizer.param_groups]
        assert shared[0] is shared[1], "one tensor, as it was"


def test_what_was_frozen_on_the_way_stays_frozen() -> None:
    class Freezing(TinyTrainer):
        def step(self, hparams: Any) -> Any:
            if (self.epochs.epoch, self.epochs.offset) != (0, 0):
                self.model[0].weight.requires_grad_(False)
                self.model[1].eval()
            return super().step(hparams)

        def build_model(self, config: Any, hparams: Any) -> nn.Module:
            model = super().build_model(config, hparams)
            model[4].bias.requires_grad_(False)  # type: ignore[index]
            return model

    straight, cut = train(make(Freezing), range(2)), restore(train(make(Freezing), range(2)))
    assert not cut.model[0].weight.requires_grad
    assert not cut.model[1].training
    assert cut.model[0].training
    for trainer in (straight, cut):
        trainer.model[4].bias.requires_grad_(True)
    cut = restore(cut)
    assert cut.model[4].bias.requires_grad
    for trainer in (straight, cut):
        train(trainer, range(2, 4))
    assert state_digest(cut.state_dict()) == state_digest(straight.state_dict())


def test_a_model_that_changed_its_type_and_layout_is_restored() -> None:
    config = {"optimizer_class": "SGD", "settings": {}, "dtype": torch.float32}
    config["layout"] = torch.contiguous_format
    trainer = make(Convolutional, config=config, hparams={})
    trainer.model.to(torch.float64, memory_format=torch.channels_last)
    restored = restore(trainer, config=config, hparams={})
    assert restored.model[0].weight.dtype == torch.float64
    assert restored.model[0].weight.stride() == trainer.model[0].weight.stride()
    assert restored.optimizer.param_groups[0]["params"][0] is restored.model[0].weight


def test_weights_that_are_tied_stay_tied() -> None:
    class Tied(TinyTrainer):
        def build_model(self, config: Any, hparams: Any) -> nn.Module:
            model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
            model[1].weight = model[0].weight
            return model

    trainer = restore(train(make(Tied), range(2)))
    assert trainer.model[1].weight is trainer.model[0].weight
    straight = train(make(Tied), range(4))
    train(trainer, range(2, 4))
    assert state_digest(trainer.state_dict()) == state_digest(straight.state_dict())


def test_only_model_and_data_are_needed() -> None:
    class Smallest(TorchTrainer):
        def build_model(self, config: Any, hparams: Any) -> nn.Module:
            return nn.Linear(4, 2)

        def build_data(self, config: Any) -> Any:
            inputs = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
            data = (inputs, (inputs[:, 0] > 0).long())
            return data, data

    trainer = train(make(Smallest, hparams={"lr": 0.5}), range(10), {"lr": 0.5})
    assert trainer.evaluate()["accuracy"] > 0.9


def test_empty_data_is_an_error() -> None:
    class Empty(TinyTrainer):
        def build_data(self, config: Any) -> Any:
            nothing = (torch.zeros(0, 6), torch.zeros(0, dtype=torch.long))
            return nothing, nothing

    with pytest.raises(ValueError, match="the training data is empty"):
        make(Empty)


class Scheduled(TinyTrainer):
    """Config: ``scheduler`` makes one of an optimizer, once, in ``setup``."""

    def setup(self, config: Any, hparams: Any) -> None:
        super().setup(config, hparams)
        self.scheduler = config["scheduler"](self.optimizer)

    def step(self, hparams: Any) -> Any:
        shown = super().step(hparams)
        self.scheduler.step()
        return shown

    def state_dict(self) -> Any:
        return {**super().state_dict(), "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.scheduler.load_state_dict(state["scheduler"])


SCHEDULERS: dict[str, Any] = {
    "StepLR": lambda o: schedulers.StepLR(o, 1, 0.5),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda epoch: 0.9**epoch),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.2, total_steps=20),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, 2),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.5, 2), schedulers.ExponentialLR(o, 0.9)]
    ),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=2), schedulers.ExponentialLR(o, 0.8)], [2]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, 3),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler", "ignore:.*epoch parameter")
def test_a_scheduler_made_in_setup_goes_on_with_the_restored_optimizer(scheduler: str) -> None:
    assert_cuts_change_nothing(Scheduled, config={"scheduler": SCHEDULERS[scheduler]})


class Hooked(TinyTrainer):
    """Averages its weights in a hook of the optimizer, and holds a parameter group."""

    def setup(self, config: Any, hparams: Any) -> None:
        super().setup(config, hparams)
        self.average = copy.deepcopy(self.model)
        self.group = self.optimizer.param_groups[0]
        self.optimizer.register_step_post_hook(self.follow)

    def follow(self, *_: Any) -> None:
        with torch.no_grad():
            for mine, live in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mine.lerp_(live, 0.1)

    def step(self, hparams: Any) -> Any:
        self.group["lr"] *= 0.9
        return super().step(hparams)

    def state_dict(self) -> Any:
        return {**super().state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.average.load_state_dict(state["average"])


class Extended(TinyTrainer):
    """Gives its optimizer a further parameter in ``setup``."""

    def setup(self, config: Any, hparams: Any) -> None:
        super().setup(config, hparams)
        self.scale = nn.Parameter(torch.ones(3))
        self.optimizer.add_param_group({"params": [self.scale], "lr": 0.01})

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs * self.scale, targets)

    def state_dict(self) -> Any:
        return {**super().state_dict(), "scale": self.scale}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.scale.copy_(state["scale"])


class Thawed(TinyTrainer):
    """Trains its first layer from the third step on, and freezes its statistics."""

    def setup(self, config: Any, hparams: Any) -> None:
        super().setup(config, hparams)
        self.model[0].requires_grad_(False)

    def step(self, hparams: Any) -> Any:
        if self.trained == 2:
            self.model[0].requires_grad_(True)
            self.model[1].eval()
        return super().step(hparams)


class Annealed(TinyTrainer):
    def step(self, hparams: Any) -> Any:
        self.model[3].p *= 0.9
        return super().step(hparams)


class Wrapping(TinyTrainer):
    """Puts its model into another, which changes too."""

    def setup(self, config: Any, hparams: Any) -> None:
        super().setup(config, hparams)
        self.model = nn.Sequential(self.model, nn.Dropout(0.5))

    def step(self, hparams: Any) -> Any:
        self.model[1].p *= 0.9
        self.model[0][3].p *= 0.8
        return super().step(hparams)


class Compiling(TinyTrainer):
    """Wraps its model last, so that what is private to the wrapper is no part of the state."""

    def setup(self, config: Any, hparams: Any) -> None:
        super().setup(config, hparams)
        self.model = torch.compile(self.model, backend="eager")

    def step(self, hparams: Any) -> Any:
        self.model._orig_mod[3].p *= 0.9
        return TinyTrainer.step(self, hparams)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Hooked, Extended, Thawed, Annealed, Wrapping, Compiling])
def test_what_is_done_to_model_and_optimizer_is_restored(kind: type[TorchTrainer]) -> None:
    assert_cuts_change_nothing(kind)


class Following(nn.Linear):
    """Subtracts what a buffer makes of former outputs."""

    def __init__(self, kind: str) -> None:
        super().__init__(6, 8)
        first = {"grows": torch.zeros(0, 8), "absent": None}.get(kind, torch.zeros(1, 8))
        self.register_buffer("seen", first, persistent="passing" not in kind)
        self.register_buffer("row", self.weight.detach()[0], persistent=False)
        self.kind, self.calls = kind, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        outputs = super().forward(inputs) / self.calls + self.row.sum()
        if self.training:
            mean = outputs.detach().mean(0, keepdim=True)
            if self.kind == "passing, in place":
                self.seen.lerp_(mean, 0.5)
            elif self.kind == "grows":
                self.seen = torch.cat([self.seen, mean])
            else:
                self.seen = mean if self.seen is None else self.seen.lerp(mean, 0.5)
        return outputs if self.seen is None else outputs - self.seen.mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("buffer", ["passing", "passing, in place", "absent", "grows"])
def test_buffers_are_restored_that_pytorch_leaves_out_or_cannot_load(buffer: str) -> None:
    class Varied(TinyTrainer):
        def build_model(self, config: Any, hparams: Any) -> nn.Module:
            return nn.Sequential(Following(buffer), nn.Tanh(), nn.Linear(8, 3))

    assert_cuts_change_nothing(Varied)


def test_a_model_that_stays_as_it_was_made_takes_no_further_room() -> None:
    trainer = train(make(), range(3))
    trainer.evaluate()
    assert "beside" not in trainer.state_dict()


def assert_cuts_change_nothing(kind: type[TorchTrainer], config: Any = None) -> None:
    """Restored and evaluated after each step: the same as straight through."""
    hparams = {"batch_size": 8, "momentum": 0.9}
    straight = make(kind, config=config, hparams=hparams)
    cut = make(kind, config=config, hparams=hparams)
    for step in range(5):
        train(straight, range(step, step + 1), hparams)
        train(cut, range(step, step + 1), hparams)
        assert state_digest(cut.state_dict()) == state_digest(straight.state_dict())
        cut = restore(cut, config=config, hparams=hparams)
        cut.evaluate()
    assert cut.evaluate() == straight.evaluate()
