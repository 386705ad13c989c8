from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers.study import Watch, lightning_callback

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*litmodels.*|.*Lightning.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Lightning's own imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Game(pl.LightningModule):
    def __init__(self, *, returned=True):
        super().__init__()
        self.automatic_optimization = False
        self.returned = returned
        self.generator = nn.Linear(4, 6)
        self.discriminator = nn.Linear(6, 1)
        self.norms = []

    def configure_optimizers(self):
        return [torch.optim.SGD(net.parameters(), lr=0.01) for net in self.children()]

    def training_step(self, real):
        of_g, of_d = self.optimizers()
        real_scores = self.discriminator(real)
        fake_scores = self.discriminator(self.generator(torch.randn(8, 4)))  # not detached
        loss_d = ((real_scores - 1) ** 2 + fake_scores**2).mean()
        of_d.zero_grad()
        self.manual_backward(loss_d)
        of_d.step()
        images = self.generator(torch.randn(8, 4))
        images.retain_grad()
        loss_g = ((self.discriminator(images) - 1) ** 2).mean()
        of_g.zero_grad()
        self.manual_backward(loss_g)
        of_g.step()
        self.norms.append(images.grad.norm().item())
        if not self.returned:
            return None
        return {
            "real_scores": real_scores,
            "fake_scores": fake_scores,
            "discriminator_loss": loss_d,
            "generator_loss": loss_g,
        }


def fit(game, watch, folder):
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[lightning_callback(watch)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=folder,
    )
    trainer.fit(game, torch.utils.data.DataLoader(torch.rand(40, 6), batch_size=8))


def test_trainer_feeds_the_watch(tmp_path):
    game, watch = Game(), Watch()
    fit(game, watch, tmp_path)
    assert [reading.iteration for reading in watch.readings] == list(range(5))
    assert [reading.gradient_norm for reading in watch.readings] == pytest.approx(game.norms)
    assert all(reading.generator_loss is not None for reading in watch.readings)
    assert watch.verdict().name == "healthy"
    assert not game.generator._forward_hooks


def test_step_that_returns_nothing_is_an_error(tmp_path):
    game = Game(returned=False)
    with pytest.raises(TypeError, match="`training_step` must return a mapping with real_scores"):
        fit(game, Watch(), tmp_path)
    assert not game.generator._forward_hooks
