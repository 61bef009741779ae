"""The listeners of a training, and an autoencoder that learns to please them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.conftest import TINY_AUTOENCODER, hold_out_last_voice
from vc.checkpoint import load_listener, save_checkpoint
from vc.config import DataConfig, FeatureConfig, ListenerConfig, OptimizerConfig, RunConfig
from vc.corpus import prepare
from vc.errors import ConfigError, DataError
from vc.losses import mistaken_phones_loss, mistaken_voice_loss, pairing_loss
from vc.model.autoencoder import Autoencoder
from vc.model.listener import Listener
from vc.training.autoencoder import AutoencoderLossConfig, AutoencoderRecipe, AutoencoderTask
from vc.training.data import SpeechData
from vc.training.listener import ListenerLossConfig, ListenerRecipe, ListenerTask
from vc.training.loop import fit, update
from vc.training.phones import PhoneLabels

CPU = torch.device("cpu")
TINY = ListenerConfig(width=16, speaker_blocks=1, speaker_dim=12, phone_blocks=1, phones=3)
DATA = DataConfig(segment_frames=48, batch_size=4)
RUN = RunConfig(steps=4, precision="float32", log_every=1, validate_every=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def cache(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listener") / "cache"
    report = prepare(corpus, folder, FeatureConfig(), workers=1)
    rows = [{"name": u.name, "phones": list("abcab")} for u in report.utterances]
    (folder / "phones.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hold_out_last_voice(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tiny_checkpoint: Path) -> ListenerRecipe:
    return ListenerRecipe(
        listener=TINY,
        autoencoder=str(tiny_checkpoint / "autoencoder"),
        rebuilt_share=0.5,
        phone_seconds=8.0,
        data=DATA,
        optimizer=OptimizerConfig(warmup_steps=1),
        run=RUN,
    )


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listener") / "checkpoint"
    torch.manual_seed(0)
    save_checkpoint(Listener(TINY, FeatureConfig()), folder, 1, {})
    return folder


def test_the_microphone_is_not_heard(listener: Path) -> None:
    torch.manual_seed(1)
    speech = torch.randn(2, 80, 50) - 5
    microphone = torch.randn(2, 80, 1)
    hear = load_listener(listener).hear_speaker
    torch.testing.assert_close(hear(speech + microphone), hear(speech), atol=1e-4, rtol=0)
    assert (hear(speech.flip(1)) - hear(speech)).abs().max() > 1e-2


def test_labels_that_cannot_be_used_are_refused(cache: Path, tmp_path: Path) -> None:
    data = SpeechData(cache, "train", FeatureConfig(), DATA)
    (tmp_path / "phones.jsonl").write_text('{"name": "a", "phones": ["b"]}\n{"name": "c", "ph')
    with pytest.raises(DataError, match=r"phones\.jsonl: damaged"):
        PhoneLabels(tmp_path, data)
    (tmp_path / "phones.jsonl").write_text('{"name": "of another cache", "phones": ["b"]}\n')
    with pytest.raises(DataError, match=r"phones\.jsonl: fits no clip"):
        PhoneLabels(tmp_path, data).draw(np.random.default_rng(0))


def test_phones_are_labels_of_nearly_whole_clips(cache: Path) -> None:
    data = SpeechData(cache, "train", FeatureConfig(), DATA)
    data.frames[::2] = 60  # of 101
    labels = PhoneLabels(cache, data, batch_seconds=1000.0)  # all clips would fit into a batch
    lengths = data.frames[labels.clips]
    for seed in range(10):
        batch = labels.draw(np.random.default_rng(seed))
        assert len(batch.lengths) == (lengths == batch.log_mel.shape[-1]).sum() > 1


def test_listeners_are_trained_and_resume(
    cache: Path, tmp_path: Path, recipe: ListenerRecipe
) -> None:
    task = ListenerTask(recipe, cache, CPU)
    figures = fit(task, RUN, tmp_path / "whole")
    assert set(figures) == {"pairing", "same_speaker", "strangers", "phones"}
    for steps in (2, 4):
        fit(ListenerTask(recipe, cache, CPU), replace(RUN, steps=steps), tmp_path / "parts")
    names = ("state.safetensors", "model.safetensors")
    for name in names:
        whole, parts = (tmp_path / folder / name for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()
    assert load_listener(tmp_path / "whole").config.phones == 3


def test_speakers_alone_need_no_labels(cache: Path, recipe: ListenerRecipe) -> None:
    task = ListenerTask(replace(recipe, loss=ListenerLossConfig(phones=0.0)), cache, CPU)
    losses = task.add_gradients(0, np.random.default_rng(0))
    assert set(losses) == {"pairing/loss", "speaker/loss"}


def autoencoder_recipe(listener: str, **weights: float) -> AutoencoderRecipe:
    return AutoencoderRecipe(
        autoencoder=replace(TINY_AUTOENCODER, emphasis=0.1),
        loss=AutoencoderLossConfig(swap_from=0.0, **weights),
        listener=listener,
        trained=("decoder",),
        data=DATA,
        run=RUN,
    )


def test_a_decoder_learns_to_be_heard_as_the_reference(cache: Path, listener: Path) -> None:
    weights = {"heard_speaker": 5.0, "heard_phones": 1.0, "heard_sounds": 0.2}
    recipe = autoencoder_recipe(str(listener), **weights)
    recipe = replace(recipe, optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=1))
    task = AutoencoderTask(recipe, cache, CPU)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    heard = []
    for step in range(25):
        heard.append(task.add_gradients(step, np.random.default_rng(0))["heard_speaker/loss"])
        update(task, step)
    assert heard[-1] < heard[0]
    moved = {n.split(".")[0] for n, v in task.model.state_dict().items() if (v != before[n]).any()}
    assert moved == {"decoder", "average_voice"}
    assert task.listener is not None
    assert all(p.grad is None for p in task.listener.parameters())


def test_a_listener_must_be_named_and_parts_exist(cache: Path, listener: Path) -> None:
    with pytest.raises(ConfigError, match="need a listener"):
        AutoencoderTask(autoencoder_recipe("", heard_speaker=1.0), cache, CPU)
    wrong = replace(autoencoder_recipe(str(listener)), trained=("ears",))
    with pytest.raises(ConfigError, match="no part 'ears'"):
        AutoencoderTask(wrong, cache, CPU)


def test_voices_and_phones_that_are_right_cost_least() -> None:
    torch.manual_seed(0)
    wanted, source = functional.normalize(torch.randn(2, 4, 12), dim=-1)
    right = mistaken_voice_loss(wanted, wanted, source)
    assert right < mistaken_voice_loss(source, wanted, source)
    assert right < mistaken_voice_loss(wanted.roll(1, 0), wanted, source)
    said = torch.randn(2, 5, 7)
    assert mistaken_phones_loss(said, said).abs() < 1e-6
    assert mistaken_phones_loss(said.roll(1, 1), said) > 0.1


def test_a_speaker_who_is_drawn_twice_is_no_wrong_answer() -> None:
    a, b, c = functional.normalize(torch.randn(3, 12), dim=-1)
    labels = torch.tensor([0, 0, 1])
    pieces = torch.stack([a, a, b])
    once = pairing_loss(pieces, pieces, labels)
    as_strangers = pairing_loss(pieces, pieces, torch.tensor([0, 2, 1]))
    assert once < as_strangers
    assert pairing_loss(pieces, torch.stack([c, c, b]), labels) > once


def test_conversions_are_emphasised_away_from_the_average_voice() -> None:
    torch.manual_seed(0)
    features = FeatureConfig()
    plain = Autoencoder(TINY_AUTOENCODER, features).eval()
    config = replace(TINY_AUTOENCODER, emphasis=0.3)
    emphatic = Autoencoder(config, features).eval()
    emphatic.load_state_dict(plain.state_dict(), strict=False)
    voices = plain.encode_speaker(torch.randn(6, 80, 40) - 5).detach()
    emphatic.get_buffer("average_voice").copy_(voices[0])
    content, log_f0, voiced = torch.randn(1, 4, 20), torch.full((1, 40), 5.0), torch.ones(1, 40)

    def say(model: Autoencoder, voice: torch.Tensor) -> torch.Tensor:
        asked = model.emphasise(voice[None])
        return model.say(content, asked, log_f0, voiced, None).detach()

    torch.testing.assert_close(say(emphatic, voices[0]), say(plain, voices[0]))
    wanted, average = say(plain, voices[1]), say(plain, voices[0])
    louder = say(emphatic, voices[1])
    assert (louder - average).norm() > 1.1 * (wanted - average).norm()


def test_the_average_voice_is_followed_while_training() -> None:
    model = Autoencoder(replace(TINY_AUTOENCODER, emphasis=0.2), FeatureConfig())
    voices = torch.randn(8, TINY_AUTOENCODER.embedding_dim)
    for _ in range(600):
        model.follow_voices(voices)
    torch.testing.assert_close(model.get_buffer("average_voice"), voices.mean(0), atol=0.01, rtol=0)
