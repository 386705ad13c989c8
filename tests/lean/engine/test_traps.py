"""What could go wrong in silence where saved tensors are kept in other forms."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gaslayers import frozen, lean_saving, make_lean, make_plain, saved_bytes
from gaslayers.lean.engine import operation
from gaslayers.lean.engine.provenance import Provenance, key_of
from tests.accounting.watch import Watch, uncollected
from tests.lean.engine.networks import CHANNELS, SIZE, Network, networks
from tests.lean.outcomes import draws


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "SMALLEST_BYTES", 64)


def critic(reads: int = 3, **options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(reads, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2, **options),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 16, 1),
    )


def image(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(1))


def tensors_of(module: nn.Module, *more: Tensor) -> list[Tensor]:
    return [*module.parameters(), *module.buffers(), *more]


def watching(known: Iterable[Tensor]) -> Watch:
    """A watch that starts at zero, with these tensors there."""
    gc.collect()
    watch = Watch()
    watch.see(known)
    watch.total = watch.peak = 0
    return watch


def kept(run: Callable[[], Any], *known: Tensor) -> int:
    """Bytes that live behind a forward pass, but for its result."""
    with watching(known) as watch:
        made = run()
        made = made if isinstance(made, list) else [made]
        return watch.total - sum(y.untyped_storage().nbytes() for y in made)


def gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(network(x).sum(), list(network.parameters())))


def assert_equal_gradients(lean: list[Tensor], plain: list[Tensor]) -> None:
    for found, expected in zip(lean, plain, strict=True):
        assert torch.equal(found, expected)


def test_a_storage_that_died_is_forgotten_with_its_address() -> None:
    """The next tensor may get the address, and would be taken for the one that died."""
    book, tensor = Provenance(), torch.rand(64)
    key = key_of(tensor)
    book.record(tensor, torch.neg)
    assert key in book._origins
    del tensor
    assert not book._origins


@pytest.mark.parametrize("change", ["map", "weight", "bias", "input"])
def test_a_change_before_the_backward_pass_is_refused_where_plain_refuses(change: str) -> None:
    def run(*, lean: bool) -> str:
        torch.manual_seed(0)
        first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        norm, x = nn.BatchNorm2d(8), image().requires_grad_()
        with lean_saving() if lean else contextlib.nullcontext():
            y = norm(first(x))
            z = second(F.leaky_relu(y, 0.2))
        with torch.no_grad():
            changed = {"map": y, "weight": second.weight, "bias": second.bias, "input": x}[change]
            changed.mul_(2)
        try:
            z.sum().backward()
        except RuntimeError as error:
            return str(error)[:90]
        return "passes"

    plain = run(lean=False)
    found = run(lean=True)
    assert found == plain
    assert plain == "passes" if change == "bias" else "inplace" in plain


@pytest.mark.parametrize("change", [torch.relu_, Tensor.tanh_, lambda x: x.mul_(2)])
def test_a_map_that_one_branch_saved_may_change_where_another_reads_it_again(change) -> None:
    """PyTorch refuses a backward pass through who saved the map, and only that."""
    weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(3), requires_grad=True)
    found = []
    for context in (contextlib.nullcontext, lean_saving):
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2), requires_grad=True)
        with context():
            y = x * 2
            saves = F.silu(y)  # y, as it is
            reads = F.conv2d(y + 1, weight, padding=1)  # y again, and one more
            change(y)
            found.append(torch.autograd.grad(reads.sum(), [x, weight], retain_graph=True))
        with pytest.raises(RuntimeError, match="inplace operation"):
            torch.autograd.grad(saves.sum(), x)
    assert_equal_gradients([*found[1]], [*found[0]])


def test_statistics_changed_before_the_backward_pass_are_refused() -> None:
    network = critic().eval()
    with lean_saving():
        y = network(image().requires_grad_())
    network[1].running_var.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_sum_of_two_maps_that_nobody_keeps_is_kept_itself() -> None:
    x = torch.randn(1000, requires_grad=True)

    def run() -> Tensor:
        return (x * 2 + x * 3).sin()

    def lean() -> Tensor:
        with lean_saving():
            return run()

    assert kept(lean, x) <= kept(run, x)


@draws(60)
@given(make=networks())
def test_no_network_keeps_more_than_without_the_engine(make: Callable[[], Network]) -> None:
    found = []
    for lean in (False, True):
        network = make()
        x = torch.randn(3, CHANNELS, SIZE, SIZE, requires_grad=True)
        context = lean_saving if lean else contextlib.nullcontext
        with context():
            try:
                found.append(kept(lambda n=network, x=x: n(x), *tensors_of(network, x)))
            except RuntimeError:
                return
    small = 64 * 40  # numbers a channel, of which recipes have copies
    assert found[1] <= found[0] + small


def test_what_is_kept_goes_with_the_graph_without_the_collector() -> None:
    network, x = make_lean(critic()), image()
    with uncollected(), watching(tensors_of(network, x)) as watch:
        for _ in range(3):
            y = network(x)
            del y
        assert watch.total == 0


def test_the_peak_of_a_step_does_not_rise() -> None:
    peaks = []
    for lean in (False, True):
        network, x = critic(), image()
        if lean:
            make_lean(network)
        gradients(network, x)  # the table of bytes as bits is made once
        with watching(tensors_of(network, x)) as watch:
            gradients(network, x)
        peaks.append(watch.peak)
    assert peaks[1] < peaks[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_gradients_are_plains(dtype: torch.dtype) -> None:
    found, sizes = [], []
    for lean in (False, True):
        network, x = critic(), image()
        network.append(nn.Linear(1, 1))
        if lean:
            make_lean(network)

        def run(network: nn.Module = network, x: Tensor = x) -> Tensor:
            with torch.autocast("cpu", dtype):
                # Twice, as for a real and a generated batch: the casts of weights are shared.
                return network(x) + network(x * 2)

        sizes.append(kept(run, *tensors_of(network, x)))
        loss = run().float().sum()
        found.append(torch.autograd.grad(loss, list(network.parameters())))
    assert_equal_gradients(found[1], found[0])
    assert sizes[1] < sizes[0]


def test_a_backward_pass_under_autocast_runs_operators_as_the_forward_pass_did() -> None:
    found = []
    for lean in (False, True):
        network, x = critic(), image()
        if lean:
            make_lean(network)
        y = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(torch.autograd.grad(y.sum(), list(network.parameters())))
    assert_equal_gradients(found[1], found[0])


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_a_computed_weight_is_not_kept(norm: Callable[..., nn.Module]) -> None:
    conv = norm(nn.Conv2d(64, 64, 3, padding=1))
    x = torch.randn(1, 64, 2, 2, requires_grad=True)

    def lean() -> Tensor:
        with lean_saving():
            return conv(x)

    product = 64 * 64 * 9 * 4
    assert kept(lambda: conv(x), *tensors_of(conv, x)) > product
    assert kept(lean, *tensors_of(conv, x)) < product / 4


def test_hooks_around_the_engine_get_all_that_is_kept() -> None:
    network, x = critic(), image()
    plain = saved_bytes(network, x)
    lean = saved_bytes(make_lean(network), x)
    assert lean < plain
    expected = kept(lambda: network(x), *tensors_of(network))
    assert lean == pytest.approx(expected, abs=2500)  # numbers a channel and the input


@pytest.mark.parametrize("outside", [True, False])
def test_saving_on_the_cpu(outside: bool) -> None:
    plain = gradients(critic(), image())
    network = critic()
    offload = torch.autograd.graph.save_on_cpu()
    if outside:
        make_lean(network)
        with offload:
            y = network(image())
    else:
        with lean_saving(), offload:
            y = network(image())
    found = torch.autograd.grad(y.sum(), list(network.parameters()))
    assert_equal_gradients(list(found), plain)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_checkpoints_inside_and_around(reentrant: bool, inside: bool) -> None:
    def checkpointed(module: nn.Module, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(module, x, use_reentrant=reentrant)

    def run(*, lean: bool) -> list[Tensor]:
        network = critic()
        x = image().requires_grad_()
        if inside:
            with lean_saving() if lean else contextlib.nullcontext():
                y = checkpointed(network, x * 1)
        else:
            y = checkpointed(make_lean(network) if lean else network, x * 1)
        y.sum().backward()
        return [x.grad, *(p.grad for p in network.parameters())]

    assert_equal_gradients(run(lean=True), run(lean=False))


def test_copies_and_pickles_are_lean_and_their_own() -> None:
    network = make_lean(critic())
    copied, file = copy.deepcopy(network), io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    others = [
        copied,
        pickle.loads(pickle.dumps(network)),
        torch.load(file, weights_only=False),
    ]
    plain = critic()
    for other in others:
        with torch.no_grad():
            other[0].weight.mul_(2)
        assert_equal_gradients(
            gradients(other, image()),
            gradients(_doubled(plain), image()),
        )
        size = kept(lambda other=other: other(image()), *tensors_of(other))
        assert size < kept(lambda: plain(image()), *tensors_of(plain))
    assert_equal_gradients(gradients(network, image()), gradients(critic(), image()))
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert repr(network) == repr(plain)
    assert type(network) is nn.Sequential


def _doubled(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin[0].weight.mul_(2)
    return twin


def test_an_averaged_model_follows_the_lean_one() -> None:
    network = make_lean(critic())
    averaged = torch.optim.swa_utils.AveragedModel(network)
    with torch.no_grad():
        network[0].weight.add_(1)
    averaged.update_parameters(network)
    averaged(image()).sum().backward()
    assert all(p.grad is None for p in network.parameters())


def test_make_plain_undoes_it() -> None:
    network = critic()
    before = kept(lambda: network(image()), *tensors_of(network))
    make_lean(network)
    assert make_plain(network) is network
    assert kept(lambda: network(image()), *tensors_of(network)) == before


def test_wrong_arguments_are_named() -> None:
    for function in (make_lean, make_plain):
        with pytest.raises(TypeError, match=r"`module` must be a torch.nn.Module, got 3"):
            function(3)
    with pytest.raises(ValueError, match=r"make_lean: `module` must not be lean already"):
        make_lean(make_lean(critic()))
    with pytest.raises(ValueError, match=r"make_plain: `module` must be lean"):
        make_plain(critic())
    with pytest.raises(TypeError, match=r"frozen: `module` must be"), frozen(None):
        pass


def test_an_error_in_the_forward_pass_leaves_nothing_behind() -> None:
    network = make_lean(critic())
    for wrong in (torch.randn(2, 5, 8, 8), None):
        with pytest.raises((RuntimeError, TypeError)):
            network(wrong)
    _assert_off()


def _assert_off() -> None:
    """Outside of a lean pass autograd keeps what it keeps."""
    x = torch.randn(100, requires_grad=True)
    assert isinstance(x.exp().grad_fn._saved_result, Tensor)
    assert torch.overrides._get_current_function_mode_stack() == []
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_an_interrupt_from_the_keyboard_is_noticed_at_the_next_pass() -> None:
    class Interrupted(nn.Module):
        asked = True

        def forward(self, x: Tensor) -> Tensor:
            if self.asked:
                raise KeyboardInterrupt
            return x.relu()

    network = make_lean(nn.Sequential(nn.Linear(8, 8), Interrupted()))
    with pytest.raises(KeyboardInterrupt):
        network(torch.randn(9, 8))
    network[1].asked = False
    network(torch.randn(9, 8)).sum().backward()
    _assert_off()


def test_threads_have_a_context_each() -> None:
    network, found = make_lean(critic()), {}

    def work(name: int) -> None:
        found[name] = gradients(network.eval(), image())

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = gradients(critic().eval(), image())
    for name in range(4):
        assert_equal_gradients(found[name], expected)


def test_lean_modules_within_lean_modules_and_contexts() -> None:
    network = critic()
    make_lean(network[2])
    make_lean(network[3])
    make_lean(network)
    with lean_saving():
        y = network(image())
    found = torch.autograd.grad(y.sum(), list(network.parameters()))
    assert_equal_gradients(list(found), gradients(critic(), image()))
    _assert_off()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_tracers_and_transforms_see_the_module() -> None:
    network, x = make_lean(critic()).eval(), image()
    plain = critic().eval()
    traced = torch.jit.trace(network, x)
    assert torch.equal(traced(x), plain(x))
    exported = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(exported(x), plain(x))
    _, tangent = torch.func.jvp(network, (x,), (torch.ones_like(x),))
    _, expected = torch.func.jvp(plain, (x,), (torch.ones_like(x),))
    assert torch.equal(tangent, expected)
    slope = torch.func.vmap(torch.func.grad(lambda v: network(v[None]).sum()))(x)
    torch.testing.assert_close(
        slope, torch.func.vmap(torch.func.grad(lambda v: plain(v[None]).sum()))(x)
    )
    with torch.no_grad():
        assert network(x).grad_fn is None


def test_a_batch_of_gradients_is_that_of_one_by_one() -> None:
    network, x = make_lean(critic()), image().requires_grad_()
    y = network(x)
    vectors = torch.randn(3, *y.shape)
    (several,) = torch.autograd.grad(y, x, vectors, is_grads_batched=True, retain_graph=True)
    for vector, found in zip(vectors, several, strict=True):
        (one,) = torch.autograd.grad(y, x, vector, retain_graph=True)
        torch.testing.assert_close(found, one)


def test_the_context_around_a_penalty_keeps_forms_in_double_backward() -> None:
    def step(*, context: bool, lean: bool) -> tuple[int, list[Tensor]]:
        network, x = critic().eval(), image().requires_grad_()
        watch = watching(tensors_of(network, x))
        with watch, lean_saving() if context else contextlib.nullcontext():
            if lean:
                make_lean(network)
            (grad,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
            penalty = grad.square().sum()
        size = watch.total
        return size, list(
            torch.autograd.grad(penalty, list(network.parameters()), allow_unused=True)
        )

    plain, expected = step(context=False, lean=False)
    found, grads = step(context=True, lean=False)
    assert found < 0.8 * plain
    for one, other in zip(grads, expected, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_frozen_gives_back_what_asked_before() -> None:
    network = critic()
    network[0].weight.requires_grad_(False)
    before = [p.requires_grad for p in network.parameters()]
    with frozen(network) as inner:
        assert inner is network
        assert not any(p.requires_grad for p in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == before
    with pytest.raises(RuntimeError), frozen(network):
        network(torch.zeros(1))
    assert [p.requires_grad for p in network.parameters()] == before


def _slope(run: Callable[[Tensor], Tensor], *, lean: bool) -> Tensor:
    x = torch.linspace(-1, 1, 120).view(10, 12).requires_grad_()
    with lean_saving() if lean else contextlib.nullcontext():
        y = run(x)
    return torch.autograd.grad(y.sum(), x)[0]


def _doubled_often(x: Tensor) -> Tensor:
    for _ in range(28):
        x = (x + x) / 2.1
    return x.sin()


def _far_away(x: Tensor) -> Tensor:
    for _ in range(3000):
        x = x + 0.001
    return x.sin()


def _into_another(x: Tensor) -> Tensor:
    with torch.no_grad():
        place = torch.empty_like(x)
        torch.mul(x, 2, out=place)
    return (x * place).sin() * x[:, [0, 3]].sum()


def _by_two_indices(x: Tensor) -> Tensor:
    rows, columns = torch.tensor([1, 2, 2]), torch.tensor([0, 5, 7])
    return (x * 2)[rows, columns].sin().sum() + (x * 2)[[1, 2]].cos().sum()


def _with_sparse(x: Tensor) -> Tensor:
    return torch.sparse.mm(torch.eye(10).to_sparse(), x.relu()).sin()


def _of_an_inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        other = torch.ones(12)
    return (x + other).sin()


def _split_unevenly(x: Tensor) -> Tensor:
    first, *_, last = (x * 3).split([3, 4, 5], dim=1)
    return first.sin().sum() * last.cos()


def _set_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 3] = 0
    return y.sin()


@pytest.mark.parametrize(
    "run",
    [
        _doubled_often, _far_away, _into_another, _by_two_indices, _with_sparse, _of_an_inference,
        _split_unevenly, _set_in_place,
    ],
)  # fmt: skip
def test_unusual_ways_to_a_saved_tensor(run: Callable[[Tensor], Tensor]) -> None:
    assert torch.equal(_slope(run, lean=True), _slope(run, lean=False))


def test_a_dropped_convolution_runs_again_and_its_output_is_held_no_longer_than_needed() -> None:
    found, sizes = [], []
    for recompute in ("cheap", "convolutions"):
        network, x = make_lean(critic(6), recompute=recompute), image(6)
        sizes.append(kept(lambda n=network, x=x: n(x), *tensors_of(network, x)))
        with uncollected(), watching(tensors_of(network, x)) as watch:
            grads = gradients(network, x)
            found.append(grads)
            assert watch.total == sum(g.untyped_storage().nbytes() for g in grads)
    assert_equal_gradients(*found)
    assert sizes[1] < sizes[0]
