"""A random two-layer Llama as a checkpoint folder: every stage runs on it in seconds, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recode_rl.types import Completion, Problem, Verdict

EOS, PAD, BOS, START = "<|end|>", "<|pad|>", "<|begin|>", "<|start|>"
VOCABULARY = 600

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

SENTENCES = (
    "Write a function that returns the sum of two numbers.",
    "def add(a, b):\n    return a + b\n",
    "<think>\nThe sum of a and b is a + b, for negative numbers as well.\n</think>",
    "<answer>\n```python\ndef add(a, b):\n    return a + b\n```\n</answer>",
    "Problem:\nRead n and print its square.\n\nReasoning:\nRead one integer, multiply it by itself, print it.",
    "n = int(input())\nprint(n * n)\n",
    "for i in range(n):\n    if i % 2 == 0:\n        total += i\n",
    "The loop runs n times, so the cost is linear; an empty list gives zero.",
)


def tiny_model(folder: Path, *, pad_is_eos: bool = False, positions: int = 2048, seed: int = 0) -> Path:
    """Write the checkpoint folder and return it; with `pad_is_eos` the tokenizer pads with its EOS."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer(pad_is_eos=pad_is_eos)
    model = LlamaForCausalLM(tiny_config(tokenizer, positions))
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_reward_model(folder: Path, *, positions: int = 2048, seed: int = 0, spread: float = 1.0) -> Path:
    """A sequence classifier of the same size with one output; `spread` is the deviation of its head's weights."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer, positions)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight, std=spread)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_config(tokenizer: Any, positions: int) -> Any:
    """Two layers, hidden size 32; the vocabulary is the tokenizer's."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )


def tiny_tokenizer(*, pad_is_eos: bool = False) -> Any:
    """A byte-level BPE tokenizer with a chat template, trained on a few sentences: any text survives a round trip."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD, BOS, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS if pad_is_eos else PAD,
        bos_token=BOS,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """A JSON Lines file with these records."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def tiny_gguf(file: Path, folder: Path) -> Path:
    """The checkpoint in `folder` (made by `tiny_model`) as a GGUF file, in the way llama.cpp writes a Llama."""
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, backend = model.config, json.loads(tokenizer.backend_tokenizer.to_str())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokenizer))
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.all_special_tokens) | {START}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in backend["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in _gguf_tensors(model):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf_tensors(model: Any) -> list[tuple[str, Any]]:
    """Names and values as in a GGUF file; the rows of queries and keys are in the order of its rotary embedding."""
    config, found = model.config, []
    for name, tensor in model.state_dict().items():
        if name == "model.embed_tokens.weight":
            found.append(("token_embd.weight", tensor.numpy()))
        elif name == "model.norm.weight":
            found.append(("output_norm.weight", tensor.numpy()))
        elif name.startswith("model.layers."):
            _, _, layer, *parts, _ = name.split(".")
            part = _GGUF_NAMES[".".join(parts)]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part)
            if heads:
                tensor = tensor.reshape(heads, 2, -1, config.hidden_size).swapaxes(1, 2).reshape(tensor.shape)
            found.append((f"blk.{layer}.{part}.weight", tensor.contiguous().numpy()))
    return found


def by_text(problem: Problem, program: str | None) -> Verdict:
    """Passed for two programs in three, by what they are, so that a repeated run gets the same verdicts."""
    good = sum((program or "").encode()) % 3 > 0
    return Verdict("passed", 2, 2, "stdio") if good else Verdict("wrong_answer", 1, 2, "stdio")


def everything(text: str) -> Completion:
    """A random model writes no tags: take all it writes as the reasoning and as the program."""
    return Completion(text, text or None, text, text or None, format_ok=len(text) % 2 == 0)
