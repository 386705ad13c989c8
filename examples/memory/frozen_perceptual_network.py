"""
A frozen perceptual network for a twentieth of the memory
=========================================================

Trainers of super-resolution networks and autoencoders run a VGG beside the discriminator and
compare its features. It is frozen: it only hands a gradient on to the image. PyTorch keeps all of
its maps nevertheless. This page makes it lean by one line, and shows which losses on features need
more than a bit per element.
"""

# %%
# One line
# --------

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaslayers import explain_saving, lean_saving, make_lean, peak_memory, saved_bytes


def vgg16_features(width: int = 16) -> nn.Sequential:
    """Simonyan and Zisserman 2015, the thirteen convolutions of VGG-16, narrower."""
    layers: list[nn.Module] = []
    channels = 3
    for factor, depth in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, factor * width, 3, padding=1),
                nn.ReLU(inplace=True),
            ]
            channels = factor * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


torch.manual_seed(0)
plain = vgg16_features().requires_grad_(False).eval()
lean = make_lean(vgg16_features().requires_grad_(False).eval())
lean.load_state_dict(plain.state_dict())

image = torch.rand(2, 3, 128, 128).requires_grad_()
for name, network in (("plain", plain), ("lean", lean)):
    print(f"{name:6} keeps {saved_bytes(network, image):>11,} bytes")

# %%
# The gradient of the image is the same to the bit.

gradients = []
for network in (plain, lean):
    (gradient,) = torch.autograd.grad(network(image).square().mean(), image)
    gradients.append(gradient)
print("equal:", torch.equal(*gradients))
assert torch.equal(*gradients)

# %%
# Why so little
# -------------
#
# The gradient of a frozen convolution's input reads the weight and no map. A ReLU's gradient reads
# on which side of zero each value is: one bit. Pooling reads where it found its maxima: a byte.

explain_saving(lean, image)

# %%
# One step, from the first layer to the image's gradient:

fig, ax = plt.subplots()
for name, network in (("plain", plain), ("lean", lean)):
    report = peak_memory(network, image)
    ax.plot([moment.live / 2**20 for moment in report.timeline], label=name)
ax.set(title="A frozen VGG in a G step", xlabel="operator", ylabel="MiB of live tensors")
ax.legend()

# %%
# The loss on the features
# ------------------------
#
# What a loss keeps comes on top, and it is computed outside of the network. ``lean_saving`` stands
# around both. An L1 distance reads on which side each feature is: two bits. A squared distance
# reads the features themselves, and so these maps stay whole.

TAPS = (3, 8, 15, 22, 29)


def features(x: Tensor) -> list[Tensor]:
    """The maps in front of each pooling."""
    found = []
    for place, layer in enumerate(plain):
        x = layer(x)
        if place in TAPS:
            found.append(x)
    return found


with torch.no_grad():
    targets = features(torch.rand(2, 3, 128, 128))


class Distance(nn.Module):
    """A sum over the taps of a distance to the targets."""

    def __init__(self, distance: str) -> None:
        super().__init__()
        self.distance = getattr(F, distance)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> a number."""
        pairs = zip(features(x), targets, strict=True)
        return torch.stack([self.distance(own, other) for own, other in pairs]).sum()


for distance in ("l1_loss", "mse_loss"):
    loss = Distance(distance)
    kept = [saved_bytes(network, image) for network in (loss, make_lean(Distance(distance)))]
    print(f"{distance:9} plain {kept[0]:>11,} bytes, lean {kept[1]:>11,}")

with lean_saving():
    total = Distance("l1_loss")(image)
total.backward()
