"""Llamas with random weights: real files that real vLLM loads, made in seconds by its own libraries."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.stack.processes import run

NAME = "tiny-llama"
# The model's context; vLLM must be told at most this.
MAX_LENGTH = 256


@dataclass(frozen=True)
class Shape:
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 2
    shard: str = "2MB"


TINY = Shape()
"""Some 5 MB."""
LARGER = Shape(1024, 2816, 5, "32MB")
"""Some 240 MB: long enough on its way to be timed, small enough to start as fast as the tiny one."""

# Runs in vLLM's environment, which has transformers, tokenizers, safetensors and torch.
_SCRIPT = f"""
import json
import sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder, shape = sys.argv[1], json.loads(sys.argv[2])
shard = shape.pop("shard")
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
special = ["<s>", "</s>", "<pad>"]
trainer = trainers.BpeTrainer(
    vocab_size=512, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 8, trainer)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
fast.chat_template = (
    "{{{{ bos_token }}}}{{% for message in messages %}}"
    "{{{{ message['role'] }}}}: {{{{ message['content'] }}}}\\n{{% endfor %}}assistant: "
)
fast.model_max_length = {MAX_LENGTH}
fast.save_pretrained(folder)
torch.manual_seed(7)
config = LlamaConfig(
    vocab_size=len(fast), **shape, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings={MAX_LENGTH}, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    tie_word_embeddings=False, dtype="float32",
)
LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=shard)
"""


def make(folder: Path, python: Path, shape: Shape = TINY) -> Path:
    """Write the model with `python` (vLLM's) into `folder` unless it is there; several files."""
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run([python, "-c", _SCRIPT, folder, json.dumps(asdict(shape))], seconds=180)
        (folder / "complete").touch()
    return folder


def files(folder: Path) -> list[Path]:
    """The model's files, without this module's own mark."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != "complete")
