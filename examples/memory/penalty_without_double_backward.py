"""
A gradient penalty without double backward
==========================================

WGAN-GP asks that the gradient of a critic's scores by its input has a norm of 1. PyTorch's way
differentiates a backward pass, whose graph stays beside that of the forward pass.
``gradient_penalty`` gives the critic the same gradients from the memory of an ordinary step. Here
two critics learn to tell digits from noise, one each way, from one seed.
"""

# %%
# Two ways to write it
# --------------------
#
# The critic is linear piece by piece. ``explain_penalty`` says so.

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from gaslayers import explain_penalty, gradient_penalty, peak_memory
from gaslayers.penalties import wgan_gp_penalty
from gaslayers.study import load_digits

digits = load_digits().images[:2048].float()
digits = digits / digits.max() * 2 - 1
digits = digits.view(-1, 1, 28, 28)


def make_critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(64 * 49, 1),
    )


def by_autograd(critic: nn.Module, real: Tensor, fake: Tensor, draw: torch.Generator) -> Tensor:
    share = torch.rand(len(real), 1, 1, 1, generator=draw)
    mixed = torch.lerp(fake, real, share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (gradient.flatten(1).norm(2, 1) - 1).square().mean()


def by_gaslayers(critic: nn.Module, real: Tensor, fake: Tensor, draw: torch.Generator) -> Tensor:
    return wgan_gp_penalty(critic, real, fake, generator=draw)


ways = {"double backward": by_autograd, "gradient_penalty": by_gaslayers}
print(explain_penalty(make_critic(), digits[:4]))

# %%
# One curve
# ---------
#
# The same digits, the same noise, the same places between the two. The gradients agree to
# rounding. Training amplifies that, as it would between two machines.

curves: dict[str, list[float]] = {}
for name, penalty in ways.items():
    critic, draw = make_critic(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.0, 0.9))
    curves[name] = []
    for _ in range(60):
        real = digits[torch.randint(len(digits), (32,), generator=draw)]
        fake = torch.rand(real.shape, generator=draw) * 2 - 1
        loss = critic(fake).mean() - critic(real).mean()
        loss = loss + 10 * penalty(critic, real, fake, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curves[name].append(loss.item())

apart = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
print(f"At most {apart:.1e} apart, of losses from {min(curves['double backward']):.1f} on")

# %%
# Two memory lines
# ----------------
#
# ``peak_memory`` predicts the live bytes behind each operator of a step of the penalty alone,
# without running it.


class Penalised(nn.Module):
    """The penalty of a critic as a module, for a tool that takes modules."""

    def __init__(self, critic: nn.Module, *, ours: bool) -> None:
        super().__init__()
        self.critic, self.ours = critic, ours

    def forward(self, x: Tensor) -> Tensor:
        if self.ours:
            return gradient_penalty(self.critic, x, penalty="wgan-gp")
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.critic(x).sum(), x, create_graph=True)
        return (gradient.flatten(1).norm(2, 1) - 1).square().mean()


reports = {
    name: peak_memory(Penalised(make_critic(), ours=name == "gradient_penalty"), digits[:32])
    for name in ways
}
fig, (left, right) = plt.subplots(2, 1, figsize=(5.2, 5.6))
for (name, losses), style in zip(curves.items(), ("-", "--"), strict=True):
    left.plot(losses, style, label=name)
left.set(title="Loss of the critic", xlabel="step")
left.legend()
for name, report in reports.items():
    live = [moment.live / 2**20 for moment in report.timeline]
    right.plot([i / len(live) for i in range(len(live))], live, label=name)
    print(f"{name}: {report.peak / 2**20:.2f} MiB at the peak")
right.set(title="Live memory of a step of the penalty, MiB", xlabel="share of its operators")
right.legend()
plt.show()
