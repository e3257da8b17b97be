#!/usr/bin/env python3
"""Write a language model of half a megabyte for llama.cpp's server.

A Llama architecture with random weights from a fixed seed: the same bytes on every machine and at
every run. It talks nonsense in whole words, mostly stops by itself after a handful to a few dozen
of them and sometimes goes round in circles, so requests set a limit. What the tests need from it
is real: a real tokenizer, real token counts, real streaming.

    tiny_model.py OUT.gguf          (packages: gguf, numpy)
"""

import sys

import gguf
import numpy

SEED = 7
WIDTH = 64
HEADS = 4
FEED_FORWARD = 128
BLOCKS = 2
CONTEXT = 131072

CONTROL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# U+2581 is how this kind of vocabulary writes the space before a word.
SPACE = "\u2581"
WORDS = [
    SPACE + word
    for word in (
        "the a gateway token stream model route key cache latency bucket error retry limit metric push pull sum "
        "count gauge edge node small fast slow red blue green one two three four five six seven eight nine ten and "
        "or not with from into over under hello world pong ping data event done start stop"
    ).split()
]
# Enough to read any prompt in ASCII; the model never says these.
PUNCTUATION = [chr(code) for code in range(33, 127)] + [SPACE, SPACE + ".", SPACE + ",", "\n"]
VOCABULARY = CONTROL + BYTES + WORDS + PUNCTUATION
FIRST_WORD = len(CONTROL) + len(BYTES)
FIRST_PUNCTUATION = FIRST_WORD + len(WORDS)

UNKNOWN, BEGIN, END = range(3)
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"

# How gently the end of an answer is preferred over another word. Higher makes answers shorter.
END_BIAS = 11.0
NEVER = -30.0


def tokenizer(out):
    kinds = gguf.TokenType
    spoken = len(VOCABULARY) - FIRST_WORD
    out.add_tokenizer_model("llama")
    out.add_token_list(VOCABULARY)
    # Scores order the merges: whole words first, bytes only when nothing else fits.
    out.add_token_scores([0.0] * len(CONTROL) + [-1000.0] * len(BYTES) + [-float(rank) for rank in range(spoken)])
    out.add_token_types(
        [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * len(BYTES) + [kinds.NORMAL] * spoken
    )
    out.add_unk_token_id(UNKNOWN)
    out.add_bos_token_id(BEGIN)
    out.add_eos_token_id(END)
    out.add_chat_template(TEMPLATE)


def shape(out):
    out.add_name("tiny")
    out.add_vocab_size(len(VOCABULARY))
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(BLOCKS)
    out.add_feed_forward_length(FEED_FORWARD)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)


def weights(out):
    random = numpy.random.default_rng(SEED)

    def noise(rows, columns, scale):
        return random.normal(0.0, scale, (rows, columns)).astype(numpy.float32)

    # The first dimension of the state is a constant, because no block writes to it. That turns the
    # first column of the output matrix into a bias, with which the vocabulary is tuned.
    embedding = noise(len(VOCABULARY), WIDTH, 0.6)
    embedding[:, 0] = 4.0
    output = noise(len(VOCABULARY), WIDTH, 0.6)
    output[:, 0] = 0.0
    output[:FIRST_WORD, 0] = NEVER
    output[FIRST_PUNCTUATION:, 0] = NEVER
    output[END, 0] = END_BIAS
    ones = numpy.ones(WIDTH, numpy.float32)
    out.add_tensor("token_embd.weight", embedding)
    out.add_tensor("output.weight", output)
    out.add_tensor("output_norm.weight", ones)
    for block in range(BLOCKS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            rows = FEED_FORWARD if name in ("ffn_gate", "ffn_up") else WIDTH
            columns = FEED_FORWARD if name == "ffn_down" else WIDTH
            matrix = noise(rows, columns, 0.18)
            if name in ("attn_output", "ffn_down"):
                matrix[0, :] = 0.0
            out.add_tensor(f"blk.{block}.{name}.weight", matrix)
        out.add_tensor(f"blk.{block}.attn_norm.weight", ones)
        out.add_tensor(f"blk.{block}.ffn_norm.weight", ones)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = gguf.GGUFWriter(sys.argv[1], "llama")
    shape(out)
    tokenizer(out)
    weights(out)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


main()
