#!/usr/bin/env python3
"""Run llama.cpp's own HTTP server, as the xllamacpp package carries it, for one model file.

Prints `listening ADDRESS` once requests are welcome and serves until SIGTERM or SIGINT. With
`--port 0` the system picks the port.

    llama_server.py MODEL.gguf [--port 0] [--name tiny] [--api-key KEY] ...      (package: xllamacpp)
"""

import argparse
import os
import signal
import threading

import xllamacpp


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="tiny", help="the model's name in requests")
    parser.add_argument("--api-key", help="without one the server is open to everybody")
    parser.add_argument("--slots", type=int, default=4, help="requests at a time")
    parser.add_argument("--slot-context", type=int, default=32768, help="tokens a slot has room for")
    parser.add_argument("--embedding", action="store_true", help="serve embeddings as well")
    parser.add_argument("--follow-stdin", action="store_true", help="also stop when standard input ends")
    return parser.parse_args()


def parameters(args):
    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.model_alias = {args.name}
    params.hostnames = ["127.0.0.1"]
    params.port = args.port
    params.api_keys = [args.api_key] if args.api_key else []
    params.n_parallel = args.slots
    params.n_ctx = args.slots * args.slot_context
    params.embedding = args.embedding
    # The token counters of /metrics are what the tests compare with.
    params.endpoint_metrics = True
    params.cont_batching = True
    params.warmup = False
    # One thread is plenty for a model this small and leaves the machine to the others.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    return params


def follow_stdin():
    """A test that is killed cannot clean up, but its end of the pipe closes all the same."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    args = arguments()
    # Blocked before any thread starts, so that only sigwait below sees them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = xllamacpp.Server(parameters(args))
    if args.follow_stdin:
        threading.Thread(target=follow_stdin, daemon=True).start()
    print("listening", server.listening_address.removeprefix("http://"), flush=True)
    signal.sigwait(ends)


main()
