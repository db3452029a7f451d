"""Tiny random translation models, made here: an NLLB, which has language codes, and a T5."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.models import make_tokenizer

SPOKEN = ("eng_Latn", "dan_Latn", "ell_Grek", "gle_Latn")


def save_nllb(folder: Path) -> str:
    """Save an NLLB that has codes for `SPOKEN` only; its name is its folder."""
    letters = ["<s>", "<pad>", "</s>", "<unk>", "▁", *map(chr, range(33, 127))]
    tokenizer = NllbTokenizer(
        vocab={letter: index for index, letter in enumerate(letters)},
        merges=[],
        extra_special_tokens=list(SPOKEN),
    )
    torch.manual_seed(1)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=40,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        init_std=0.5,
    )
    tokenizer.save_pretrained(folder)
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def save_t5(folder: Path) -> str:
    """Save a T5, which has no language codes; its name is its folder."""
    tokenizer = make_tokenizer(template=None)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)
