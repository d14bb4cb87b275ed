"""A tiny Llama with random weights: real files that real vLLM loads, made in seconds by its own libraries."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.stack.processes import run

NAME = "tiny-llama"
# The model's context; vLLM must be told at most this.
MAX_LENGTH = 256

# Runs in vLLM's environment, which has transformers, tokenizers, safetensors and torch.
_SCRIPT = f"""
import sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = sys.argv[1]
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
    vocab_size=len(fast), hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings={MAX_LENGTH}, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    tie_word_embeddings=False, dtype="float32",
)
LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="2MB")
"""


def make(folder: Path, python: Path) -> Path:
    """Write the model with `python` (vLLM's) into `folder` unless it is there; several files, about 5 MB in all."""
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run([python, "-c", _SCRIPT, folder], seconds=180)
        (folder / "complete").touch()
    return folder


def files(folder: Path) -> list[Path]:
    """The model's files, without this module's own mark."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != "complete")
