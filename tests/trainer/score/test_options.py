"""Crops that do not suit a network are noted."""

import torch

from trainer.model.network import Network
from trainer.model.syncnet import SyncNet
from trainer.score.options import MeasureOptions, crop_note


def test_crops_that_do_not_suit_are_noted() -> None:
    torch.manual_seed(0)
    small, published = Network(SyncNet("small")), Network(SyncNet("syncnet"))
    assert crop_note(small, MeasureOptions()) == ""
    for options in (MeasureOptions(crop="mouth"), MeasureOptions(prepared=True, crop="mouth")):
        assert crop_note(small, options) == ""
        assert "take face crops" in crop_note(published, options)
    assert "take mouth crops" in crop_note(small, MeasureOptions(crop="face"))
    assert crop_note(small, MeasureOptions(prepared=True)).endswith("say so with --crop mouth")


def test_weights_that_say_their_crop_are_believed() -> None:
    face = Network(SyncNet("small"), trained_crop="face")
    assert face.crop == "face" and crop_note(face, MeasureOptions()) == ""
    note = crop_note(face, MeasureOptions(crop="mouth"))
    assert note == "note: these weights take face crops; of any other crop the offset is wrong"
    whole = Network(SyncNet("small"), trained_crop="whole")
    assert "were trained on whole pictures" in crop_note(whole, MeasureOptions())
    assert crop_note(whole, MeasureOptions(prepared=True)) == ""
