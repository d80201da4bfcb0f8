"""The fine-tuning loop: seeded, resumable at any step, selected on validation retrieval.

On a CPU, the same seed on the same machine gives the same weights, even if the run was killed in between. Seed and epoch decide the order
of an epoch and the frames drawn; a checkpoint holds model, optimizer, random state (for dropout) and position.

Shape letters: B clips, N clips of a split, F frames, D width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor

from pipeline.cache import Cache
from pipeline.contrastive.batches import Batches, ClipBatch, Clips, lasting_draw
from pipeline.contrastive.data import Draw, draw_middle, pooled_audio
from pipeline.contrastive.loss import info_nce
from pipeline.contrastive.maps import CutNetwork, DrawSource, FrameSource, MapSource, SoundSource, draw_all, size_in_gb
from pipeline.contrastive.model import ContrastiveModel
from pipeline.contrastive.schedule import learning_rate_factor, make_optimizer, set_learning_rates
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.contrastive.steps import cached_step, plain_step
from pipeline.datasets.base import count_lines
from pipeline.epochs import LoopState, ResumableLoop
from pipeline.errors import PipelineError
from pipeline.features.passes import CPU_PASS
from pipeline.metrics.retrieval import effective_rank, mean_recall, retrieval_metrics
from pipeline.progress import Progress

GPU_PASS = 32  # frames through the frozen blocks at a time
LAST_GOOD = {"visual": "last_good.safetensors", "audio": "last_good_audio.safetensors"}


@dataclass
class FinetuningState(LoopState):
    """The state of a fine-tuning.

    ``best`` holds the tensors of the trained networks by modality, and of the heads; ``best_epoch`` -1: before fine-tuning.
    """

    loss_sum: float = 0.0  # of the running epoch, over its clips
    before: dict[str, float] = field(default_factory=dict)
    best: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    worse: int = 0  # validations since the best one


class Finetuner(ResumableLoop[FinetuningState]):
    """Fine-tunes one encoder or both.

    Args:
        model: on the device of ``fabric``, its heads initialized under the seed.
        train, validation: with an empty ``validation`` the last epoch is kept.
        checkpoint: file to resume from and to write to; after a loss that is not finite, the files of ``LAST_GOOD`` are written beside it.
    """

    def __init__(
        self, fabric: Fabric, model: ContrastiveModel, settings: FinetuneSettings, train: Clips, validation: Clips,
        cache: Cache, checkpoint: Path, name: str,
    ) -> None:  # fmt: skip
        seconds, is_first = settings.checkpoint_seconds, fabric.is_global_zero
        super().__init__(FinetuningState(), settings.epochs, len(train), checkpoint, seconds, writes=is_first)
        self.fabric, self.raw, self.settings = fabric, model, settings
        self.train, self.validation, self.name = train, validation, name
        self.sounds = SoundSource(cache, model.audio) if model.audio is not None else None
        self.batches = Batches(train, settings, self.sounds)
        self.source = self._source(FrameSource(cache, model.encoder), checkpoint.parent)
        self.steps_per_epoch = -(-len(train) // settings.batch_size)

    def run(self) -> FinetuningState:
        """Train to the last epoch, or until ``patience`` validations bring no improvement; return the state.

        Raises:
            SystemExit: 143 after SIGTERM, with a checkpoint written.
            PipelineError: a loss or a gradient that is not finite; the message names the clips of the step and the file of the last good
                weights.
        """
        saved = self.resume(self.fabric.device)
        if saved is None:
            self._begin()
        else:
            self.raw.load_state_dict(saved["model"])
        self.raw.thaw()
        learning = chain(*(network.parameters() for network in self.raw.trained.values()))
        self.model, self.optimizer = self.raw, make_optimizer(self.settings, learning, self.raw.heads.parameters())
        if self.settings.epochs:
            self.model, self.optimizer = self.fabric.setup(self.raw, self.optimizer)
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.checkpoints.offer()
        done, total = self.state.epoch * len(self.train) + self.state.position, self.epochs * len(self.train)
        with (
            self.watching(),
            Progress(desc=self.name, unit="clip", total=total, initial=done, shown=self.fabric.is_global_zero) as self.bar,
        ):
            self.run_epochs(lambda: None)
        return self.state

    def _source(self, frames: FrameSource, directory: Path) -> DrawSource:
        """Choose frozen maps if the network can be cut and their file is small enough, else frames."""
        cut = self.raw.find_cut() if self.settings.maps_gb else None
        if cut is None:
            return frames
        once = self.settings.draw == "once"
        kept = {item.clip: self.batches.draw(item, 0) if once else draw_all(item) for item in self.train.items}
        kept |= {item.clip: draw_middle(item) for item in self.validation.items}
        grey = frames.encoder.prepare(torch.full((1, 32, 32, 3), 128, dtype=torch.uint8))
        shape = tuple(self._begin_maps(cut, grey).shape[1:])
        if size_in_gb(kept, shape) > self.settings.maps_gb:
            return frames
        self.raw.cut = cut
        at_once = CPU_PASS if self.fabric.device.type == "cpu" else GPU_PASS
        return MapSource(frames, partial(self._begin_maps, cut), kept, shape, at_once, directory)

    @torch.no_grad()
    def _begin_maps(self, cut: CutNetwork, frames: Tensor) -> Tensor:
        with self.fabric.autocast():
            frames = frames.to(self.fabric.device).contiguous(memory_format=self.raw.encoder.memory_format)
            return cut.begin(frames).float().cpu()

    def _begin(self) -> None:
        """Train only the heads for ``head_epochs``, then measure the metrics before fine-tuning."""
        if self.settings.head_epochs:
            self._train_heads()
        self.state.before = self.validate()
        self._keep(mean_recall(self.state.before) if self.state.before else -math.inf, epoch=-1)

    def _train_heads(self) -> None:
        """Train the heads on features computed once, and keep those of the best validation.

        Every process trains on the same whole batches. If frames are drawn again in every epoch, the heads see the middle frame of every
        segment, as in validation.
        """
        self.raw.thaw(False)
        heads = self.raw.heads
        features, audio = self._pooled([lasting_draw(item, self.settings) for item in self.train.items], self.train)
        held_out = self._pooled_validation() if len(self.validation) else None
        optimizer = make_optimizer(self.settings, (), heads.parameters())
        best, best_score, worse = _copy(heads.state_dict()), -math.inf, 0
        for epoch in range(self.settings.head_epochs):
            for rows in self.batches.order(-1 - epoch).split(self.settings.batch_size):
                chosen = rows.to(features.device)
                of_visual, of_audio, temperature = heads(features[chosen], audio[chosen])
                groups = self.batches.groups[rows].to(chosen.device)
                loss = info_nce(of_visual, of_audio, temperature, groups=groups, symmetric=self.settings.symmetric, gather=False)
                if not torch.isfinite(loss):
                    self._stop_for(rows, f"the loss of the heads is {float(loss):g}")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.get_total_norm([weight.grad for weight in heads.parameters() if weight.grad is not None])
                if not torch.isfinite(norm):
                    self._stop_for(rows, f"the loss of the heads is {float(loss):g}, its gradient's norm {float(norm):g}")
                optimizer.step()
            self._check_weights(f"epoch {epoch} of the heads")
            score = mean_recall(self._retrieval(*held_out)) if held_out is not None else float(epoch)
            worse += 1
            if score > best_score:
                best, best_score, worse = _copy(heads.state_dict()), score, 0
            if worse == self.settings.patience:
                break
        heads.load_state_dict(best)

    def steps(self) -> Iterator[int]:
        self.raw.train()
        shares = self.fabric.global_rank, self.fabric.world_size
        for rows, batch in self.batches.of_epoch(self.source, self.state.epoch, self.state.position, *shares):
            self._step(rows, batch)
            self.bar.update(len(rows))
            yield len(rows)

    def _step(self, rows: Tensor, batch: ClipBatch) -> None:
        step = self.state.epoch * self.steps_per_epoch + self.state.position // self.settings.batch_size
        set_learning_rates(self.optimizer, learning_rate_factor(self.settings, step, self.steps_per_epoch))
        self.optimizer.zero_grad(set_to_none=True)
        batch, symmetric = batch.to(self.fabric.device), self.settings.symmetric
        if self.settings.gradient_cache is None:
            loss = plain_step(self.fabric, self.model, batch, symmetric)
        else:
            loss = cached_step(self.fabric, self.model, batch, symmetric, self.settings.gradient_cache)
        if not torch.isfinite(loss):
            self._stop_for(rows, f"the loss is {float(loss):g}")
        learning = [parameter for parameter in self.raw.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in learning if parameter.grad is not None])
        if not torch.isfinite(norm):
            self._stop_for(rows, f"the loss is {float(loss):g}, its gradient's norm {float(norm):g}")
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(learning, self.settings.clip_norm, norm)
        self.optimizer.step()
        self.state.loss_sum += float(loss) * len(rows)

    def _stop_for(self, rows: Tensor, what: str) -> None:
        clips = [self.train.items[int(row)].clip for row in rows]
        kept = [self.checkpoints.path.with_name(LAST_GOOD[side]) for side in self.raw.trained]
        if self.fabric.is_global_zero:
            facts = {"clips": json.dumps(clips)}
            for side, network in self.raw.trained.items():
                save_file(_copy(network.state_dict()), self.checkpoints.path.with_name(LAST_GOOD[side]), facts)
        raise PipelineError(
            f"{self.name}: {what}, epoch {self.state.epoch}; lower learning_rate, set warmup_epochs or clip_norm, or raise the temperature."
            f" The encoder before this step: {' and '.join(map(str, kept))}. Clips of the step: {', '.join(clips)}"
        )

    def _check_weights(self, when: str) -> None:
        """Stop rather than keep weights that are not finite."""
        bad = [name for name, value in self.raw.state_dict().items() if not torch.isfinite(value).all()]
        if bad:
            (line,) = count_lines(f"{self.name}: after {when} weights are not finite", bad)
            raise PipelineError(f"{line}; lower learning_rate, set warmup_epochs or clip_norm. Nothing is published")

    def close_epoch(self) -> None:
        """Validate, keep the best weights, record the epoch."""
        state, settings = self.state, self.settings
        record = {"epoch": state.epoch, "train/loss": state.loss_sum / len(self.train)}
        record |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "temperature": self.raw.heads.log_temperature.exp().item()}
        last = state.epoch + 1 == settings.epochs
        self._check_weights(f"epoch {state.epoch}")
        if len(self.validation) and (last or (state.epoch + 1) % settings.validate_every == 0):
            metrics = self.validate()
            record |= {f"val/{key}": value for key, value in metrics.items()}
            self._keep(mean_recall(metrics), state.epoch)
        elif not len(self.validation):
            self._keep(float(state.epoch), state.epoch)
        state.history.append(record)
        state.epoch, state.position, state.loss_sum = state.epoch + 1, 0, 0.0

    def _keep(self, score: float, epoch: int) -> None:
        state = self.state
        state.worse += 1
        if score > state.best_score or not state.best:
            state.best_score, state.best_epoch, state.worse = score, epoch, 0
            state.best = {name: _copy(part.state_dict()) for name, part in (*self.raw.trained.items(), ("heads", self.raw.heads))}

    def is_over(self) -> bool:
        return super().is_over() or (self.settings.patience is not None and self.state.worse >= self.settings.patience)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Measure retrieval, loss (all N clips as one batch) and effective rank of the centred visual features; {} without clips."""
        if not len(self.validation):
            return {}
        features, audio = self._pooled_validation()
        centred = features - features.mean(dim=0)
        return self._retrieval(features, audio) | {"effective_rank": effective_rank(centred.cpu().numpy().astype(np.float64))}

    @torch.no_grad()
    def _retrieval(self, features: Tensor, audio: Tensor) -> dict[str, float]:
        """Loss and retrieval metrics of (N, D_v) and (N, D_a) with the current heads."""
        of_visual, of_audio, temperature = self.raw.heads(features, audio)
        loss = info_nce(of_visual, of_audio, temperature, symmetric=self.settings.symmetric, gather=False)
        if not torch.isfinite(loss):  # retrieval among NaN would look perfect
            raise PipelineError(f"{self.name}: the loss on validation is {float(loss):g}, epoch {self.state.epoch}; lower learning_rate")
        return {"loss": float(loss), **retrieval_metrics(of_visual.cpu().numpy(), of_audio.cpu().numpy())}

    def _pooled_validation(self) -> tuple[Tensor, Tensor]:
        return self._pooled([draw_middle(item) for item in self.validation.items], self.validation)

    @torch.no_grad()
    def _pooled(self, draws: list[Draw], clips: Clips) -> tuple[Tensor, Tensor]:
        """Pool visual features of the drawn frames, in eval mode, and audio of the same segments: (N, D_v), (N, D_a)."""
        self.raw.eval()
        device = self.fabric.device
        pooled = []
        shown = self.fabric.is_global_zero
        bar = Progress(self.source.of(draws), desc=f"{self.name}, features", unit="clip", total=len(draws), shown=shown, leave=False)
        for _, frames in bar:
            with self.fabric.autocast():
                pooled.append(self.raw.pool(frames.to(device), torch.zeros(len(frames), dtype=torch.int64, device=device), 1))
        return torch.cat(pooled), self._pooled_sound(draws, clips)

    def _pooled_sound(self, draws: list[Draw], clips: Clips) -> Tensor:
        """Pool audio features of the drawn segments, (N, D_a): of the encoder as it is now, or the frozen ones."""
        device = self.fabric.device
        if self.sounds is None:
            return pooled_audio(clips.audio, draws).to(device)
        pooled = []
        for _, rows in self.sounds.of(draws):
            with self.fabric.autocast():
                pooled.append(self.raw.pool_audio(rows.to(device), torch.zeros(len(rows), dtype=torch.int64, device=device), 1))
        return torch.cat(pooled)

    def tensors(self) -> dict[str, Any]:
        return {"model": self.raw.state_dict(), "optimizer": self.optimizer.state_dict()}


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
