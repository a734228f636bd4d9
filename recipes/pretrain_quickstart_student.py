# /// script
# dependencies = ["hf-active-distill"]
# ///
"""
Pretrains the very small student of the demo from random weights, on one CPU thread.

    OMP_NUM_THREADS=1 python recipes/pretrain_quickstart_student.py --output_dir my_student

The student reads problems of the arithmetic worlds: known operations with their meaning, unknown words with a meaning
that changes from one problem to the next. It ends up at home with the first and unsure of the second. About 15 minutes
of one core; the defaults made the student that ships.

For the worlds with worked solutions (`--world gsm_symbolic`, `--world leg_counting`) the student reads problems of the
kinds that it shall know, and has never seen one of the others:

    OMP_NUM_THREADS=1 python recipes/pretrain_quickstart_student.py --world leg_counting --steps 1200 --output_dir legs
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--world", default="arithmetic_skewed", help="whose problems it reads")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--hidden_size", type=int, default=128)
    parser.add_argument("--vocab_size", type=int, default=384, help="upper bound")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--loose", type=float, default=0.2, help="share of problems with unknown words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log_every", type=int, default=200)
    parser.add_argument("--eval_rows", type=int, default=600)
    parser.add_argument("--max_new_tokens", type=int, default=80, help="of an explanation in the evaluation")
    return parser.parse_args()


def build_model(vocab_size: int, hidden_size: int, layers: int, tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def text_source(world_name: str, generator: random.Random, loose: float):
    """Gives one (prompt, completion) pair after the other, and texts with all words that the student shall know of."""
    from hf_active_distill.synthetic import WorkedWorld, get_world
    from hf_active_distill.synthetic.pretraining import pretraining_text

    world = get_world(world_name)
    if isinstance(world, WorkedWorld):
        rows = world.problems(2000, 0, "train")
        words = ("\n".join([row.prompt, *world.solve(row.prompt)[0], "The answer is 0"]) for row in rows)
        return lambda: world.pretraining_text(generator), words
    words = ("".join(pretraining_text(generator)) for _ in range(2000))
    return lambda: pretraining_text(generator, loose=loose), words


def batches(tokenizer, generator: random.Random, batch_size: int, text):
    """Endless padded batches; texts of like length go together, so little of a batch is padding."""
    import torch

    while True:
        encoded = []
        for _ in range(16 * batch_size):
            prompt, completion = text()
            head = tokenizer(prompt, add_special_tokens=False).input_ids
            tail = tokenizer(completion, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
            encoded.append((head + tail, len(head)))
        encoded.sort(key=lambda item: len(item[0]))
        chunks = [encoded[i : i + batch_size] for i in range(0, len(encoded), batch_size)]
        generator.shuffle(chunks)
        for chunk in chunks:
            width = max(len(ids) for ids, _ in chunk)
            ids = torch.full((len(chunk), width), tokenizer.pad_token_id)
            labels = torch.full((len(chunk), width), -100)
            for row, (tokens, start) in enumerate(chunk):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
            yield ids, labels


def train(model, stream, steps: int, learning_rate: float, log_every: int) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 30)

    def factor(step: int) -> float:
        return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    start, total = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        ids, labels = next(stream)
        # Right padding and completion-only labels: pad positions are never attended from a position that counts.
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.item()
        if step % log_every == 0:
            print(f"step {step}/{steps} loss {total / log_every:.4f} {time.perf_counter() - start:.0f}s", flush=True)
            total = 0.0


def save(model, tokenizer, folder: Path) -> None:
    """Half-precision weights, full-precision config: half the size on disk, float32 in memory."""
    import json

    from safetensors.torch import load_file, save_file

    from hf_active_distill.synthetic.tokenizer import save_tokenizer

    model.save_pretrained(str(folder))
    save_tokenizer(tokenizer, folder)
    weights = folder / "model.safetensors"
    halved = {name: tensor.half() for name, tensor in load_file(str(weights)).items()}
    save_file(halved, str(weights), metadata={"format": "pt"})
    config_path = folder / "config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def accuracy(model, tokenizer, rows, max_new_tokens: int, batch_size: int = 100) -> float:
    """Share of rows whose greedy explanation ends with the reference."""
    import torch

    right = 0
    model.eval()
    tokenizer.padding_side = "left"
    for i in range(0, len(rows), batch_size):
        chunk = rows[i : i + batch_size]
        prompts = [row.prompt for row in chunk]
        inputs = tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        )
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        texts = tokenizer.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        right += sum(
            t.rsplit("The answer is ", 1)[-1].strip() == row.reference for t, row in zip(texts, chunk, strict=True)
        )
    return right / len(rows)


def main() -> None:
    import torch

    from hf_active_distill.synthetic import get_world
    from hf_active_distill.synthetic.tokenizer import build_tokenizer

    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    generator = random.Random(arguments.seed)
    text, words = text_source(arguments.world, generator, arguments.loose)
    tokenizer = build_tokenizer(words, vocab_size=arguments.vocab_size)
    model = build_model(len(tokenizer), arguments.hidden_size, arguments.layers, tokenizer)
    print(f"{model.num_parameters()} parameters, vocabulary {len(tokenizer)}")
    stream = batches(tokenizer, generator, arguments.batch_size, text)
    train(model, stream, arguments.steps, arguments.learning_rate, arguments.log_every)
    folder = Path(arguments.output_dir)
    save(model, tokenizer, folder)
    rows = get_world(arguments.world).problems(arguments.eval_rows, 0, "eval")
    for unknown in (False, True):
        kind = [row for row in rows if row.columns["unknown"] is unknown]
        share = accuracy(model, tokenizer, kind, arguments.max_new_tokens)
        print(f"accuracy on {'unknown' if unknown else 'known'} rows: {share:.3f}")


if __name__ == "__main__":
    main()
