"""What other programs read of a checkpoint, in the default call of each."""

from __future__ import annotations

import collections
import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from hippo.store import DirectoryBlobs, PlanStore
from stage_runner.checkpoints.codec import encode
from stage_runner.export import Request, export, name_arrays
from stage_runner.portable import NotPortable, make_portable

KEY = "0" * 40
TORCH_DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
NUMPY_DTYPES = (
    *("bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"),
    *(">i4", ">f8"),
)

filterwarnings = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


def read_by_default(state: Any, *, keep_names: bool = False) -> Any:
    file = io.BytesIO()
    torch.save(make_portable(state, torch, keep_names=keep_names), file)
    file.seek(0)
    return torch.load(file)


def plain_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 1)))


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


# -- torch.load ------------------------------------------------------------------------------------

NUMPY_SCALARS = st.sampled_from(
    [
        *(np.float64(0.1), np.float32(0.1), np.float16(2), np.int8(-3), np.uint64(2**64 - 1)),
        *(np.bool_(True), np.complex64(1j), np.str_("x"), np.bytes_(b"x")),
        np.datetime64("2020-01-01"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
)
ARRAYS = st.builds(
    lambda dtype, shape, order: np.zeros(shape, dtype, order=order),
    st.sampled_from(NUMPY_DTYPES),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from("CF"),
)
TENSORS = st.builds(
    lambda dtype, shape: torch.zeros(shape).to(getattr(torch, dtype)),
    st.sampled_from(TORCH_DTYPES),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
KEYS = st.none() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
STATES = st.recursive(
    SCALARS | NUMPY_SCALARS | ARRAYS | TENSORS,
    lambda states: (
        st.lists(states, max_size=3)
        | st.lists(states, max_size=3).map(tuple)
        | st.lists(states, max_size=3).map(collections.deque)
        | st.dictionaries(KEYS, states, max_size=3)
        | st.dictionaries(KEYS, states, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=8,
)


@filterwarnings
@settings(deadline=None)
@given(STATES)
def test_any_state_is_read(state: Any) -> None:
    check_like(state, read_by_default(state))


def check_like(one: Any, other: Any) -> None:
    """The same numbers, in the kinds of PyTorch and Python."""
    if isinstance(one, np.ndarray):
        assert type(other) is torch.Tensor
        assert other.shape == one.shape
        assert other.dtype == torch.from_numpy(one.astype(one.dtype.newbyteorder("="))).dtype
        assert (other.numpy() == one).all()
    elif isinstance(one, torch.Tensor):
        assert other.dtype == one.dtype
        assert other.view(-1).view(torch.uint8).equal(one.view(-1).view(torch.uint8))
    elif isinstance(one, np.generic):
        assert type(other) in (float, int, bool, complex, str, bytes)
        assert other == str(one) if one.dtype.kind == "M" else other == one
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            check_like(one[key], other[key])
    elif isinstance(one, (list, tuple, collections.deque)):
        assert type(other) is (tuple if isinstance(one, tuple) else list)
        for item, read in zip(one, other, strict=True):
            check_like(item, read)
    else:
        assert type(other) is (bytearray if one == b"" else type(one))
        assert other == one or repr(other) == repr(one)  # NaN


def test_what_has_no_counterpart_becomes_the_nearest() -> None:
    state = {
        "text": np.array([["a", "b"]]),
        "dates": np.array(["2020-01-01", "NaT"], "datetime64[D]"),
        "size": torch.Size([1, 2]),
        "set": frozenset([1]),
        "counter": collections.Counter("aab"),
        "dtype": torch.float8_e5m2,
        "keys": {np.int64(3): 1, (np.int64(1), np.str_("a")): 2},
        "backwards": np.arange(3)[::-1],
    }
    read = read_by_default(state)
    assert read["text"] == [["a", "b"]]
    assert read["dates"] == ["2020-01-01", "NaT"]
    assert type(read["size"]) is torch.Size
    assert read["set"] == {1}
    assert read["counter"] == collections.Counter("aab")
    assert read["dtype"] is torch.float8_e5m2
    assert {type(key) for key in read["keys"]} == {int, tuple}
    assert read["backwards"].tolist() == [2, 1, 0]


def test_shared_memory_stays_shared_also_of_two_types() -> None:
    base = torch.arange(4.0)
    shared = [base, base[1:]]
    read = read_by_default({"a": shared, "b": shared, "bits": base.view(torch.int32)})
    assert read["a"] is read["b"]
    read["a"][0][1] = 9
    assert read["a"][1][0] == 9
    assert read["bits"].view(torch.float32).equal(torch.arange(4.0))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [np.ones(2, np.longdouble)]}, r"state\['a'\]\[0\]: PyTorch has no .*\.npz"),
        ({"a": np.longdouble(1)}, r"state\['a'\]: PyTorch has no"),
        ({"n": 2**3000}, r"state\['n'\]: an integer of 3001 bits"),
        ([object()], r"state\[0\]: an object cannot be exported"),
    ],
)
def test_what_cannot_be_exported_is_named(state: Any, message: str) -> None:
    with pytest.raises(NotPortable, match=message):
        make_portable(state, torch, keep_names=False)


# -- names -----------------------------------------------------------------------------------------


def model_with_a_compiled_part() -> nn.Module:
    model = plain_model()
    model[2] = compiled(model[2])
    return model


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: compiled(plain_model()),
    "a compiled part": model_with_a_compiled_part,
    "twice": lambda: compiled(model_with_a_compiled_part()),
    "parallel": lambda: nn.DataParallel(plain_model()),
    "compiled in parallel": lambda: nn.DataParallel(compiled(plain_model())),
    "parallel, compiled": lambda: compiled(nn.DataParallel(plain_model())),
}


@pytest.mark.slow  # importing PyTorch's compiler takes seconds
@pytest.mark.parametrize("build", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("below", [False, True])
def test_a_wrapped_model_loads_into_the_plain_one(
    build: Callable[[], nn.Module], below: bool
) -> None:
    torch.manual_seed(0)
    wrapped = build()
    state = wrapped.state_dict()
    read = read_by_default({"nets": [{"model": state}]} if below else state)
    read = read["nets"][0]["model"] if below else read
    plain = plain_model()
    plain.load_state_dict(read)
    for one, other in zip(wrapped.parameters(), plain.parameters(), strict=True):
        assert one.equal(other)
    assert read._metadata == plain.state_dict()._metadata  # the versions of modules
    kept = read_by_default(state, keep_names=True)
    assert list(kept) == list(state)
    wrapped.load_state_dict(kept)


def test_names_of_ones_own_stay() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

    assert list(read_by_default(Own().state_dict())) == list(Own().state_dict())
    clash = {"_orig_mod.a": torch.zeros(1), "a": torch.ones(1)}
    assert list(read_by_default(clash)) == list(clash)
    texts = {"module.a": "text", "module.b": 1}
    assert read_by_default(texts) == texts


@pytest.mark.slow
def test_names_in_an_optimizer_are_those_of_the_model() -> None:
    model = compiled(plain_model())
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    (group,) = read_by_default(optimizer.state_dict())["param_groups"]
    assert group["param_names"] == [name for name, _ in plain_model().named_parameters()]


# -- .npz and .safetensors -------------------------------------------------------------------------


class Bench:
    """A store with one checkpoint."""

    def __init__(self, folder: Path, state: Any) -> None:
        self.folder = folder
        self.store = PlanStore(DirectoryBlobs(folder / "store"), "default/0123456789abcdef")
        self.store.write_checkpoint(
            key=KEY,
            step=3,
            chunks=encode(state),
            state_digest="",
            fingerprint={},
            chain="r1-00001",
        )

    def export(self, name: str, *, status: int = 0, **rest: Any) -> Path:
        output = self.folder / "out" / name
        assert export(self.store, Request(KEY, output, **rest)) == status
        assert [file.name for file in output.parent.iterdir()] == ([] if status else [name])
        return output


@pytest.mark.slow
def test_a_pytorch_file_of_a_compiled_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = compiled(plain_model())
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr": [0.1]}
    read = torch.load(Bench(tmp_path, state).export("x.pt"))
    plain = plain_model()
    plain.load_state_dict(read["model"])
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert one.equal(other)
    torch.optim.Adam(plain.parameters()).load_state_dict(read["optimizer"])
    kept = torch.load(Bench(tmp_path / "kept", state).export("x.pt", keep_names=True))
    assert list(kept["model"]) == list(state["model"])


def test_npz_holds_every_array_whatever_its_key(tmp_path: Path) -> None:
    keys = [
        "file",
        "p/q",
        "../up",
        "x.npy",
        "x",
        "a.b",
        "allow_pickle",
        "",
        " ",
        "é",
        "nul\0x",
        "1",
    ]
    state: dict[Any, Any] = {key: np.full(2, index) for index, key in enumerate(keys)}
    state |= {1: np.ones(1), None: np.ones(1), ("t", 1): np.ones(1)}
    state["a"] = {"b": [torch.ones(1), {"c": (np.zeros(0),)}]}
    file = np.load(Bench(tmp_path, state).export("x.npz"))
    arrays = [file[name] for name in file.files]
    assert len(arrays) == len(state) + 1
    for index, key in enumerate(keys):
        name = (key or "state") if (key or "state") in file.files else f"[{key!r}]"
        assert (file[name] == index).all(), key
    assert file["a.b.0"] == 1
    assert file["a.b.1.c.0"].shape == (0,)
    assert file["['1']"][0] == keys.index("1")
    assert file["[1]"] == 1


@filterwarnings
def test_npz_holds_every_dtype(tmp_path: Path) -> None:
    numbers = {name: torch.tensor([0, 1, 2]).to(getattr(torch, name)) for name in TORCH_DTYPES}
    dates = {"dates": np.array(["2020"], "M8[Y]")}
    file = np.load(Bench(tmp_path, {**numbers, **dates}).export("x.npz"))
    for name, tensor in numbers.items():
        expected = tensor.to(torch.complex128).real.numpy()
        assert np.array_equal(file[name].real.astype(float), expected), name
    assert file["bfloat16"].dtype == np.float32
    assert file["dates"][0] == np.datetime64("2020")


@pytest.mark.slow
def test_npz_names_are_those_without_wrappers(tmp_path: Path) -> None:
    state = {"model": compiled(plain_model()).state_dict()}
    file = np.load(Bench(tmp_path, state).export("x.npz"))
    assert file.files == [f"model.{name}" for name in plain_model().state_dict()]


@pytest.mark.slow
def test_safetensors_of_a_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = plain_model()
    state = {"model": compiled(model).state_dict(), "optimizer": {"state": [torch.ones(3)]}}
    output = Bench(tmp_path, state).export("x.safetensors", about="study-1 at step 3")
    fresh = plain_model()
    fresh.load_state_dict(load_file(output))
    for one, other in itertools.zip_longest(model.parameters(), fresh.parameters()):
        assert one.equal(other)
    with safe_open(output, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "hippo.checkpoint": KEY,
            "hippo.trial": "study-1 at step 3",
        }


def test_safetensors_of_tied_weights_and_strange_layouts(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    state = {
        "model": {"embed.weight": tied, "head.weight": tied, "part": tied[1:], "turned": tied.t()}
    }
    bench = Bench(tmp_path, state)
    read = load_file(bench.export("x.safetensors"))
    for name, value in state["model"].items():
        assert read[name].equal(value), name


@filterwarnings
def test_safetensors_of_any_state(tmp_path: Path) -> None:
    """Without a model in it: all tensors by their names."""
    state = {"net": {"w": np.ones(2, np.float32)}, "seen": [torch.zeros(2, dtype=torch.bfloat16)]}
    read = load_file(Bench(tmp_path, state).export("x.safetensors"))
    assert {name: value.dtype for name, value in read.items()} == {
        "net.w": torch.float32,
        "seen.0": torch.bfloat16,
    }


@filterwarnings
@pytest.mark.parametrize(
    ("state", "name", "message"),
    [
        ({"n": 1}, "x.npz", "the state holds no arrays: name a file that ends in .pt"),
        ({"n": 1}, "x.safetensors", "the state holds no tensors: name a file that ends in .pt"),
        (
            {"w": np.zeros(1, np.complex128)},
            "x.safetensors",
            "w: safetensors holds no complex128; name a file that ends in .pt",
        ),
        (
            {"n": 2**3000},
            "x.pt",
            "state['n']: an integer of 3001 bits, and torch.load reads 2039",
        ),
    ],
)
def test_what_a_file_cannot_hold_is_one_line_and_leaves_none(
    state: Any, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Bench(tmp_path, state).export(name, status=2)
    assert capsys.readouterr().err == f"{message}\n"


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, {"w": np.zeros(1)})
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    bench.export("x.safetensors", status=2)
    assert "pip install 'hippo-tuner[safetensors]'" in capsys.readouterr().err


def test_names_never_collide() -> None:
    assert name_arrays({"scalar": np.float32(2), "text": "x"}) == {"scalar": np.float32(2)}
    state = {"a.b": np.ones(1), "a": {"b": np.ones(1)}, "x": np.ones(1), "x.npy": np.ones(1)}
    assert list(name_arrays(state)) == ["['a.b']", "['a']['b']", "['x']", "['x.npy']"]
