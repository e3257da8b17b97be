#!/usr/bin/env python3
"""Use a gateway over TLS as httpx and the OpenAI SDK do, and print as JSON what each client met.

Each has a chat, a stream, a stream that it leaves, a large body, 16 chats at once, and the errors for a wrong key, an
unknown model, an unknown path and a body that is too large; then one more chat. The gateway answers with what it was
asked, so that every answer is compared as a whole.

    http2_clients.py --base-url URL --key KEY --ca FILE --large BYTES --too-large BYTES
"""

import argparse
import asyncio
import json
import ssl
import sys

import httpx
import httpx2
import openai

AT_ONCE = 16
WORDS = "Grüße an alle, die das lesen: " * 40 + "Ende"


class Unexpected(Exception):
    """An answer that is not what the gateway has to give."""


class Seen:
    """Versions of HTTP, connections by the address they come from, and statuses, of all answers."""

    def __init__(self):
        self.versions, self.connections, self.statuses = set(), set(), {}

    def look(self, answer):
        self.versions.add(answer.http_version)
        self.connections.add(str(answer.extensions["network_stream"].get_extra_info("client_addr")))
        status = str(answer.status_code)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def summary(self):
        return {"versions": sorted(self.versions), "connections": len(self.connections), "statuses": self.statuses}


def expect(condition, otherwise):
    if not condition:
        raise Unexpected(otherwise)


def body(text, **options):
    return {"model": "echo", "messages": [{"role": "user", "content": text}]} | options


def with_httpx(args, context, http2):
    """httpx by hand, where nothing between the test and the protocol is lenient."""
    seen = Seen()
    options = {"base_url": args.base_url, "headers": {"Authorization": f"Bearer {args.key}"}}
    # By a hook, because with its body an answer may lose its connection, too.
    options |= {"event_hooks": {"response": [seen.look]}, "timeout": 60}
    with httpx.Client(verify=context, http1=not http2, http2=http2, **options) as client:

        def post(content, status, path="/chat/completions", **options):
            answer = client.post(path, json=content, **options)
            expect(answer.status_code == status, f"{status} was due: {answer.status_code} {answer.text[:300]}")
            expect(answer.headers["content-type"] == "application/json", answer.headers)
            return answer.json()

        def chat(text):
            content = post(body(text), 200)["choices"][0]["message"]["content"]
            expect(content == text, f"another content came back: {content[:300]}")

        def error(code, *arguments, **options):
            found = post(*arguments, **options)["error"]["code"]
            expect(found == code, f"{code} was due: {found}")

        def stream(text, leave_after=None):
            content = ""
            with client.stream("POST", "/chat/completions", json=body(text, stream=True)) as answer:
                expect(answer.headers["content-type"].startswith("text/event-stream"), answer.headers)
                events, done = 0, False
                for line in filter(None, answer.iter_lines()):
                    expect(not done, "something follows [DONE]")
                    data = line.removeprefix("data: ")
                    done = data == "[DONE]"
                    events += 1
                    if events == leave_after:
                        return
                    choices = [] if done else json.loads(data)["choices"]
                    content += "".join(choice["delta"].get("content") or "" for choice in choices)
            expect(done, "the stream ended without [DONE]")
            expect(content == text, f"another content was streamed: {content[:300]}")

        chat(WORDS)
        stream(WORDS)
        chat("x" * args.large)
        error("model_not_found", body("hi") | {"model": "no-such-model"}, 404)
        error("unknown_route", body("hi"), 404, path="/no-such-path")
        error("invalid_api_key", body("hi"), 401, headers={"Authorization": "Bearer sk-nobody-issued-this"})
        # A client of HTTP/1.1 can leave an answer only by closing its connection.
        if http2:
            stream(f"{WORDS} " * 100, leave_after=2)
        chat(WORDS)
        error("request_too_large", body("x" * args.too_large), 413)
        chat(WORDS)
    return seen.summary()


def with_sdk(args, context):
    seen = Seen()
    hooks = {"response": [seen.look]}
    http_client = openai.DefaultHttpxClient(verify=context, http1=False, http2=True, event_hooks=hooks)
    client = openai.OpenAI(base_url=args.base_url, api_key=args.key, max_retries=0, timeout=60, http_client=http_client)

    def chat(text, client=client, **options):
        return client.chat.completions.create(**body(text, **options))

    def echoed(text):
        content = chat(text).choices[0].message.content
        expect(content == text, f"another content came back: {content[:300]}")

    def error(kind, code, *arguments, **options):
        try:
            chat(*arguments, **options)
        except kind as problem:
            expect(problem.code == code, problem)
            return
        raise Unexpected(f"no {kind.__name__}")

    echoed(WORDS)
    chunks = chat(WORDS, stream=True, stream_options={"include_usage": True})
    content = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    expect(content == WORDS, f"another content was streamed: {content[:300]}")
    left = chat(f"{WORDS} " * 100, stream=True)
    next(left)
    left.close()
    echoed("x" * args.large)
    stranger = client.with_options(api_key="sk-nobody-issued-this")
    error(openai.AuthenticationError, "invalid_api_key", "hi", client=stranger)
    error(openai.NotFoundError, "model_not_found", "hi", model="no-such-model")
    error(openai.APIStatusError, "request_too_large", "x" * args.too_large)
    echoed(WORDS)
    return seen.summary()


async def at_once(args, context):
    seen = Seen()

    async def look(answer):
        seen.look(answer)

    http_client = openai.DefaultAsyncHttpxClient(
        verify=context, http1=False, http2=True, event_hooks={"response": [look]}
    )
    async with openai.AsyncOpenAI(
        base_url=args.base_url, api_key=args.key, max_retries=0, timeout=60, http_client=http_client
    ) as client:

        async def chat(number):
            text = f"{number}: {WORDS}"
            if number % 2:
                answer = await client.chat.completions.create(**body(text))
                content = answer.choices[0].message.content
            else:
                chunks = await client.chat.completions.create(**body(text, stream=True))
                content = "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])
            expect(content == text, f"another content came back: {content[:300]}")

        # The first opens the connection that all others share.
        await chat(0)
        await asyncio.gather(*(chat(number) for number in range(1, AT_ONCE)))
    return seen.summary()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--base-url", "--key", "--ca"):
        parser.add_argument(option, required=True)
    for option in ("--large", "--too-large"):
        parser.add_argument(option, required=True, type=int)
    args = parser.parse_args()
    context = ssl.create_default_context(cafile=args.ca)
    clients = {
        "httpx, HTTP/2": lambda: with_httpx(args, context, http2=True),
        "httpx, HTTP/1.1": lambda: with_httpx(args, context, http2=False),
        "OpenAI SDK, HTTP/2": lambda: with_sdk(args, context),
        "OpenAI SDK, 16 at once": lambda: asyncio.run(at_once(args, context)),
    }
    summary = {}
    for name, run in clients.items():
        # An httpx of its own kind is a mistake of the peer's making as much as any other.
        try:
            summary[name] = run()
        except (Unexpected, httpx.HTTPError, httpx2.HTTPError, openai.OpenAIError) as problem:
            cause = f" ({problem.__cause__!r})" if problem.__cause__ else ""
            summary[name] = {"problem": f"{type(problem).__name__}: {problem}{cause}"}
    json.dump(summary, sys.stdout)
    print()


main()
