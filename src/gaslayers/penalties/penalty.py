"""A penalty on the gradient of scores by their input, exact, without double backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gaslayers._checks import bad_type, bad_value, check_bool, check_choice
from gaslayers.lean.engine.aside import reason_of_others
from gaslayers.lean.engine.context import Saving
from gaslayers.penalties.entries import push
from gaslayers.penalties.measures import Measure, choose_measure, measure, measure_with_slope
from gaslayers.penalties.tape import Tape

Method: TypeAlias = Literal["auto", "linearised", "double backward"]
Score: TypeAlias = Callable[[Any], Any]

METHODS = ("auto", "linearised", "double backward")

_OWNER = "gradient_penalty"


def gradient_penalty(
    discriminator: Callable[..., Any],
    x: Tensor,
    *,
    penalty: str | Measure = "r1",
    inputs: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    score: Score | None = None,
    return_scores: bool = False,
    method: Method = "auto",
) -> Any:
    r"""Penalise the gradient of scores by their input: the value, whose backward pass is exact.

    The gradient of any penalty :math:`\varphi(g)` of :math:`g = \nabla_x D(x)` by the weights is
    that of one directional derivative of D, along :math:`v = \varphi'(g)` as a constant:

    .. math:: \nabla_W\,\varphi(\nabla_x D(x)) = \nabla_W \left.\frac{d}{dt} D(x + t v)\right|_{t=0}

    Where D is linear piece by piece, this derivative is D without biases under the signs and
    places of the pass that gave :math:`g`. D is called once. While it runs, each operator's linear
    twin is written down; the graph of this pass is let go; then :math:`v` is sent through the
    twins. That takes the memory of one training step of D, where double backward takes that of
    two. Where an operator has no linear twin, such as a live norm, the penalty comes from second
    derivatives by autograd, of what `gaslayers.lean_saving` keeps. Either way the parameters get
    the gradients of double backward. `gaslayers.explain_penalty` says which way is taken, and why.

    Args:
        discriminator: A module, or any callable of tensors.
        x: Real, generated or mixed samples, batch first. It is cut off from its graph: the penalty
            gives gradients to what the discriminator computes with, and not to ``x``.
        penalty: ``"r1"``, the mean over samples of :math:`|g|^2`; ``"wgan-gp"``, the mean of
            :math:`(|g| - 1)^2`; or a callable that takes the gradient, of the shape of ``x``, and
            gives a scalar.
        inputs: What the discriminator takes behind ``x``: labels, say.
        kwargs: What it takes by keyword.
        score: Takes what the discriminator gives, and gives the tensor to differentiate, or
            several in a list: of each the sum is. None: it gives one tensor.
        return_scores: Whether to give, beside the penalty, all that the discriminator gave, with
            its graph. It is that of an ordinary call under `gaslayers.lean_saving`, and so keeps
            what that keeps, until a backward pass.
        method: ``"linearised"`` refuses what has no linear twin, ``"double backward"`` does not
            look for twins; ``"auto"`` decides.

    Returns:
        A scalar to add to other losses; with ``return_scores`` a pair of it and what the
        discriminator gave.

    Raises:
        TypeError: ``x`` is no floating-point tensor, ``score`` gives no tensors, or ``penalty`` or
            what it gives is of the wrong kind.
        ValueError: ``penalty`` has an unknown name, does not depend on the gradient, or gives no
            scalar; the scores do not depend on ``x``; the discriminator gives several tensors and
            there is no ``score``; or ``method`` is unknown, or does not go.
        RuntimeError: On a backward pass that itself is to be differentiated
            (``create_graph=True``), where the penalty came without double backward.

    Note:
        Not seen are hooks that are put on nodes of autograd's graph by hand
        (``tensor.grad_fn.register_hook``), which a penalty without double backward does not call a
        second time. Where ``x`` holds NaN, double backward spreads it to more gradients.

        Differs from the papers: factors before the penalty, such as the half of R1's, are left to
        the caller.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gaslayers import gradient_penalty
        >>> discriminator = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten())
        >>> real = torch.rand(4, 3, 16, 16)
        >>> penalty = gradient_penalty(discriminator, real, penalty="r1")
        >>> (10 / 2 * penalty).backward()
        >>> discriminator[0].weight.grad.shape
        torch.Size([8, 3, 4, 4])

    References:
        Mescheder, Geiger, Nowozin: *Which training methods for GANs do actually converge?* (2018);
        Gulrajani et al.: *Improved training of Wasserstein GANs* (2017).
    """
    check_call(_OWNER, discriminator, x, score, inputs)
    check_bool(_OWNER, "return_scores", return_scores)
    check_choice(_OWNER, "method", method, METHODS)
    function = choose_measure(_OWNER, penalty)
    is_wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        work = _Work(leaf, function, score, keeps=return_scores)

        def call() -> Any:
            return discriminator(leaf, *inputs, **(kwargs or {}))

        value, made = _penalise(work, discriminator, call, method)
    if not is_wanted:
        value, made = value.detach(), pytree.tree_map_only(Tensor, Tensor.detach, made)
    return (value, made) if return_scores else value


class _Work:
    """What is to be done with the scores of one pass.

    Args:
        x: The input, a leaf.
        function: The measure of the gradient.
        score: As for `gradient_penalty`.
        keeps: Whether the graph of the pass is needed later.
    """

    def __init__(self, x: Tensor, function: Measure, score: Score | None, *, keeps: bool) -> None:
        self.x, self.function, self.keeps = x, function, keeps
        self._score = score

    def scores(self, made: Any) -> list[Tensor]:
        """What is differentiated."""
        return chosen_scores(_OWNER, made, self._score)

    def gradient(self, scores: Sequence[Tensor], *, second: bool) -> Tensor:
        """Of the scores by the input."""
        sums = [score.sum() for score in scores if score.requires_grad]
        gradient = None
        if sums:
            (gradient,) = torch.autograd.grad(
                sums,
                self.x,
                create_graph=second,
                retain_graph=second or self.keeps,
                allow_unused=True,
            )
        if gradient is None:
            rule = "give scores that depend on `x`"
            raise bad_value(_OWNER, "discriminator", rule, scores[0].detach())
        return gradient


def chosen_scores(owner: str, made: Any, score: Score | None) -> list[Tensor]:
    """What is differentiated of all that a discriminator gives.

    Raises:
        TypeError: It is no floating-point tensor.
        ValueError: There are several tensors, and none is chosen.
    """
    chosen = made if score is None else score(made)
    leaves = [leaf for leaf in pytree.tree_leaves(chosen) if isinstance(leaf, Tensor)]
    if score is None and len(leaves) > 1:
        remedy = "Choose by `score`, such as `score=lambda outputs: outputs[-1]`."
        raise bad_value(
            owner, "discriminator", "give one tensor where there is no `score`", chosen, remedy
        )
    name = "discriminator" if score is None else "score"
    if not leaves:
        raise bad_type(owner, name, "give tensors", chosen)
    for leaf in leaves:
        if not leaf.is_floating_point():
            raise bad_type(owner, name, "give floating-point tensors", leaf)
    return leaves


def reason_of_hooks(discriminator: Any) -> str | None:
    """Why no operator's twin would be enough: what a module's backward hooks do, they do not do."""
    if isinstance(discriminator, nn.Module):
        for name, part in discriminator.named_modules():
            if part._backward_hooks or part._backward_pre_hooks:
                return f"a backward hook on {name or '(root)'} may change gradients on their way"
    return None


def _penalise(
    work: _Work, discriminator: Any, call: Callable[[], Any], method: Method
) -> tuple[Tensor, Any]:
    reason_to_save_whole = reason_of_others()
    reason = reason_to_save_whole or reason_of_hooks(discriminator)
    if reason is not None or method == "double backward":
        if method == "linearised":
            raise bad_value(_OWNER, "method", f"go where {reason}", method)
        with Saving() if reason_to_save_whole is None else nullcontext():
            made = call()
            return _by_second_derivatives(work, work.scores(made)), made
    with Tape(work.x) as tape:
        made = call()
        scores = work.scores(made)
        outputs = tape.outputs(scores)
        if any(score.dtype == torch.float16 for score in scores):
            tape.refuse("a score in float16", "leaves no room for the scale of a loss", [])
        if tape.reason is not None:
            if method == "linearised":
                rule = f"be another one: {tape.reason}"
                raise bad_value(_OWNER, "method", rule, method)
            return _by_second_derivatives(work, scores), made
        entries, shifts = tape.close(outputs)
        if not work.keeps:
            made = None
        gradient = work.gradient(scores, second=False)
        del scores
        value, slope = measure_with_slope(_OWNER, work.function, gradient)
        del gradient
    with Saving():
        parts = [part.sum() for part in push(entries, outputs, slope)]
        tangent = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
    return _Penalty.apply(value, tangent, *shifts), made


def _by_second_derivatives(work: _Work, scores: Sequence[Tensor]) -> Tensor:
    gradient = work.gradient(scores, second=True)
    return measure(_OWNER, work.function, gradient)


class _Penalty(torch.autograd.Function):
    """The penalty's value, with the gradient of the directional derivative.

    The last arguments are what only shifts values, such as biases. Autograd's second derivative
    gives them zeros, for which an optimiser may take a step.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, tangent: Tensor, *shifts: Tensor) -> Tensor:
        ctx.shifts = [(shift.shape, shift.dtype, shift.device) for shift in shifts]
        ctx.dtype = tangent.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{_OWNER}: a penalty without double backward has no derivatives of higher order. "
                'Pass method="double backward".'
            )
        zeros = [
            torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.shifts
        ]
        return grad, grad.to(ctx.dtype), *zeros


def check_call(owner: str, discriminator: Any, x: Any, score: Any, inputs: Any) -> None:
    """Raise unless a discriminator can be called, and differentiated by its input."""
    if not callable(discriminator):
        raise bad_type(owner, "discriminator", "be a module or another callable", discriminator)
    if not isinstance(x, Tensor):
        raise bad_type(owner, "x", "be a tensor", x)
    if not x.is_floating_point():
        remedy = "Convert it, by x.float() for example: integers have no gradient."
        raise bad_type(owner, "x", "be a floating-point tensor", x, remedy)
    if x.dim() == 0:
        raise bad_value(owner, "x", "have an axis of samples", x)
    if not isinstance(inputs, list | tuple):
        remedy = "Put a single one into a tuple: (labels,)."
        raise bad_type(owner, "inputs", "be a list or a tuple", inputs, remedy)
    if score is not None and not callable(score):
        raise bad_type(owner, "score", "be a callable or None", score)
