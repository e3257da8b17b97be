#!/usr/bin/env python3
"""Have a number of chats through the official OpenAI SDK and print as JSON how each kind ended.

One in ten is a stream that is left after two chunks, one in twenty asks for a model that does not
exist, one in twenty carries a key that nobody issued; the rest run to their end. Half of all are
streams. The seed fixes which chat is which and what it says.

    openai_chats.py --base-url URL --key KEY [--model M] [--endless-model M] [--chats 200] [--seed 1]
"""

import argparse
import collections
import concurrent.futures
import json
import random
import sys

import openai

WORDS = "the a gateway token stream model route key cache latency bucket error retry limit metric hello world".split()
# Long enough that no buffer on the way can hold all of it: such a stream cannot end before it is left.
ENDLESS_TOKENS = 30000
CHUNKS_BEFORE_LEAVING = 2


class Unexpected(Exception):
    """An answer that is not what this kind of chat has to get."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--endless-model", help="for the streams that are left; by default the model of the others")
    parser.add_argument("--unknown-model", default="no-such-model")
    parser.add_argument("--bad-key", default="sk-nobody-issued-this")
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-a-time", type=int, default=4)
    return parser.parse_args()


def plan(args, random):
    """The kind of every chat, in the order they start."""
    left, unknown, bad = args.chats // 10, args.chats // 20, args.chats // 20
    streams = args.chats // 2 - left
    # The usage of a stream reaches only clients that ask for it, so half of them ask.
    asking = streams // 2
    plain = args.chats - left - unknown - bad - streams
    kinds = [stream_left] * left + [unknown_model] * unknown + [bad_key] * bad
    kinds += [stream_with_usage] * asking + [stream] * (streams - asking) + [chat] * plain
    random.shuffle(kinds)
    return kinds


class Chats:
    def __init__(self, args):
        self.args = args
        # A retry would be a second request under the name of one.
        self.client = openai.OpenAI(base_url=args.base_url, api_key=args.key, max_retries=0, timeout=60)
        self.stranger = self.client.with_options(api_key=args.bad_key)

    def start(self, prompt, client=None, **options):
        options = {"model": self.args.model, "max_completion_tokens": prompt.max_tokens} | options
        completions = (client or self.client).chat.completions
        return completions.create(messages=prompt.messages, seed=prompt.seed, **options)


class Prompt:
    def __init__(self, random):
        text = " ".join(random.choices(WORDS, k=random.randint(3, 60)))
        self.messages = [{"role": "user", "content": text}]
        # Small enough that some answers end by length, large enough that others end by themselves.
        self.max_tokens = random.choice([4, 16, 64])
        self.seed = random.randrange(1 << 31)


def chat(chats, prompt):
    answer = chats.start(prompt)
    expect(answer.choices[0].finish_reason in ("stop", "length"), answer)
    return "completed", answer.usage


def stream(chats, prompt):
    usage = read_stream(chats.start(prompt, stream=True))
    expect(usage is None, "usage that was not asked for")
    return "completed", None


def stream_with_usage(chats, prompt):
    usage = read_stream(chats.start(prompt, stream=True, stream_options={"include_usage": True}))
    expect(usage is not None, "no usage although it was asked for")
    return "completed", usage


def read_stream(chunks):
    finished, usage = False, None
    for chunk in chunks:
        usage = chunk.usage or usage
        expect(chunk.choices or chunk.usage, "a chunk with neither choices nor usage")
        finished = finished or any(choice.finish_reason for choice in chunk.choices)
    expect(finished, "the stream ended without a finish_reason")
    return usage


def stream_left(chats, prompt):
    # `ignore_eos` is llama.cpp's own option: whoever passes it on leaves request bodies alone.
    options = {"model": chats.args.endless_model or chats.args.model, "max_completion_tokens": ENDLESS_TOKENS}
    chunks = chats.start(prompt, stream=True, extra_body={"ignore_eos": True}, **options)
    for number, chunk in enumerate(chunks, start=1):
        expect(not any(choice.finish_reason for choice in chunk.choices), "the endless stream ended")
        if number == CHUNKS_BEFORE_LEAVING:
            chunks.close()
            return "cancelled", None
    raise Unexpected(f"fewer than {CHUNKS_BEFORE_LEAVING} chunks")


def unknown_model(chats, prompt):
    try:
        answer = chats.start(prompt, model=chats.args.unknown_model, stream=prompt.seed % 2 == 0)
    except openai.NotFoundError as error:
        expect(error.code == "model_not_found", error)
        return "unknown_model", None
    raise Unexpected(answer)


def bad_key(chats, prompt):
    try:
        answer = chats.start(prompt, client=chats.stranger, stream=prompt.seed % 2 == 0)
    except openai.AuthenticationError as error:
        expect(error.code == "invalid_api_key", error)
        return "bad_key", None
    raise Unexpected(answer)


def expect(condition, otherwise):
    if not condition:
        raise Unexpected(otherwise)


def main():
    args = arguments()
    random_ = random.Random(args.seed)
    kinds = plan(args, random_)
    chats = Chats(args)
    results, usage, kinds_run, problems = (collections.Counter() for _ in range(4))

    def run(kind, prompt):
        try:
            return kind, *kind(chats, prompt)
        except (openai.OpenAIError, Unexpected) as error:
            # The SDK says "Connection error"; what happened to the connection is in the cause.
            cause = f" ({error.__cause__!r})" if error.__cause__ else ""
            problems[f"{kind.__name__}: {type(error).__name__}: {error}"[:300] + cause] += 1
            return kind, "failed", None

    with concurrent.futures.ThreadPoolExecutor(args.at_a_time) as pool:
        for kind, result, reported in pool.map(run, kinds, [Prompt(random_) for _ in kinds]):
            kinds_run[kind.__name__] += 1
            results[result] += 1
            if reported:
                usage["chats"] += 1
                usage["input"] += reported.prompt_tokens
                usage["output"] += reported.completion_tokens
    ends = {end: results[end] for end in ("completed", "cancelled", "unknown_model", "bad_key", "failed")}
    summary = {"chats": len(kinds), **ends, "usage": usage, "kinds": kinds_run, "problems": problems}
    json.dump(summary, sys.stdout)
    print()


main()
