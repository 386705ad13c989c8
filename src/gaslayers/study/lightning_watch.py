"""A watch in Lightning's Trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gaslayers._checks import bad_type, check_module
from gaslayers.study.watch import Watch


def lightning_callback(watch: Watch, *, generator: str = "generator") -> Any:
    """A callback for Lightning's Trainer that feeds a watch.

    The module's ``training_step`` returns a mapping with the tensors ``real_scores``,
    ``fake_scores``, ``discriminator_loss`` and ``generator_loss``. The gradient at the generator's
    output is read by a hook on it; the last pass with gradients in a step is the one that counts.

    Args:
        watch: What reads.
        generator: The name of the generator in the module.

    Raises:
        ModuleNotFoundError: Lightning is not installed.
        TypeError: ``watch`` is no `Watch`, or, once training, ``training_step`` returns no such
            mapping.
    """
    if not isinstance(watch, Watch):
        raise bad_type("lightning_callback", "watch", "be a Watch", watch)
    from lightning.pytorch.callbacks import Callback

    class WatchCallback(Callback):  # type: ignore[misc, unused-ignore]  # may be absent
        """Feed the watch after each training step."""

        hooks = contextlib.ExitStack()

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  (Lightning's)
            network: Any = getattr(pl_module, generator, None)
            check_module("lightning_callback", network)
            self.gradients: list[Tensor] = []
            self.hooks.callback(network.register_forward_hook(self.see).remove)

        def see(self, _module: nn.Module, _inputs: Any, images: Any) -> None:
            if isinstance(images, Tensor) and images.requires_grad:
                images.register_hook(self.keep)  # type: ignore[no-untyped-call]  # untyped

        def keep(self, gradient: Tensor) -> None:
            self.gradients[:] = [gradient.detach()]

        def on_train_batch_end(
            self,
            trainer: Any,  # noqa: ARG002  (Lightning's)
            pl_module: Any,  # noqa: ARG002  (Lightning's)
            outputs: Any,
            batch: Any,  # noqa: ARG002  (Lightning's)
            batch_idx: int,  # noqa: ARG002  (Lightning's)
        ) -> None:
            keys = ("real_scores", "fake_scores", "discriminator_loss", "generator_loss")
            if not isinstance(outputs, Mapping) or not set(keys) <= set(outputs):
                rule = f"return a mapping with {', '.join(keys)}"
                raise bad_type("lightning_callback", "training_step", rule, outputs)
            real, fake, of_d, of_g = (outputs[key] for key in keys)
            watch.discriminator_step(real, fake, of_d)
            watch.generator_step(of_g)
            if self.gradients:
                watch.read_gradient(self.gradients.pop())

        def remove_hook(self, *_args: Any, **_kwargs: Any) -> None:
            self.hooks.close()

        # The latter does not come after an error.
        on_exception = teardown = remove_hook

    return WatchCallback()
