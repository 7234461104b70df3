"""How many predictions a station answers and stores in a second, beside the same predictor without a station.

Server, clients and the predictor alone are processes of their own on the same processors, one after the other in
alternating rounds; the clients' own computing is measured, because it is taken from the server's processors. With
`--memory N` a small model answers N requests instead, and the memory of the server is read on the way.

Run: python benchmarks/serving.py --model FILE --images DIR [--clients 1,8,32] [--seconds 8] [--rounds 3]
     python benchmarks/serving.py --model FILE --images DIR --memory 100000
"""

import argparse
import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from ganomaly.commands.process import SPINS
from machine import describe_machine

N_IMAGES = 16
"""Different images, sent again and again: few, because networks are prepared for each new size of images first."""

SERVE = """
import sys
from pathlib import Path
from ganomaly.commands.console import Console
from ganomaly.commands.serve import serve
from ganomaly.service.settings import Settings
model, store, port = sys.argv[1:4]
serve(Console(), Settings(Path(model), store=store, port=int(port), requests_per_minute=10**9))
"""

ALONE = """
import itertools, sys, time
from pathlib import Path
from ganomaly.data.sources.encoded import EncodedImages
from ganomaly.prediction import load_predictor
model, folder, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
contents = [path.read_bytes() for path in sorted(folder.iterdir())[:16]]
predictor = load_predictor(model)
def predict():
    return sum(1 for _ in predictor.predict(EncodedImages(contents, [""] * len(contents)), details=True))
predict()
n, start = 0, time.perf_counter()
while time.perf_counter() - start < seconds:
    n += predict()
print(n / (time.perf_counter() - start))
"""


def requests(port: int, model: str, contents: list[bytes], n_clients: int, seconds: float, most: int) -> None:
    """Send images from several clients, each on one connection; print what they saw as JSON."""
    latencies: list[float] = []
    statuses: list[int] = []
    start, before_all = time.perf_counter(), processor_seconds()

    def send(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = client
        while time.perf_counter() - start < seconds and number < most:
            content, before = contents[number % len(contents)], time.perf_counter()
            connection.request("POST", f"/v1/models/{model}/predictions", content)
            response = connection.getresponse()
            response.read()
            latencies.append(time.perf_counter() - before)
            statuses.append(response.status)
            number += n_clients
        connection.close()

    threads = [threading.Thread(target=send, args=(client,)) for client in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    print(
        json.dumps(
            {
                "rate": len(latencies) / elapsed,
                "p50": 1000 * float(np.percentile(latencies, 50)),
                "p99": 1000 * float(np.percentile(latencies, 99)),
                "failed": sum(status != 201 for status in statuses),
                "client": 1000 * (processor_seconds() - before_all) / len(latencies),
                "n": len(latencies),
            }
        )
    )


@contextlib.contextmanager
def served(model: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """A server; its port and its process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    command = [sys.executable, "-c", SERVE, str(model), str(folder / "station.db"), str(port)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stderr=log, env=as_commands()) as process,
    ):
        try:
            wait_for(port)
            yield port, process.pid
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    """Return once the server is ready."""
    for _ in range(1200):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


def ask(
    arguments: argparse.Namespace, port: int, n_clients: int, seconds: float, most: int
) -> dict[str, float]:
    """Requests from another process."""
    command = [sys.executable, __file__, "--model", arguments.model, "--images", arguments.images]
    command += ["--send", port, n_clients, seconds, most]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    seen: dict[str, float] = json.loads(done.stdout)
    return seen


def alone(model: Path, images: Path, seconds: float) -> float:
    """Images a second of the predictor alone."""
    command = [sys.executable, "-c", ALONE, str(model), str(images), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=as_commands())
    return float(done.stdout)


def as_commands() -> dict[str, str]:
    """The environment that commands set before PyTorch is imported."""
    return {"GOMP_SPINCOUNT": SPINS} | os.environ


def processor_seconds() -> float:
    """Seconds that this process has computed."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def used_seconds(process: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Alternating rounds; print medians."""
    clients = [int(n) for n in arguments.clients.split(",")]
    rates: list[float] = []
    seen: dict[int, list[dict[str, float]]] = {n: [] for n in clients}
    with served(arguments.model, folder) as (port, process):
        ask(arguments, port, 8, 600, 2 * N_IMAGES)  # warm up: a new size of images takes a second
        for _ in range(arguments.rounds):
            rates.append(alone(arguments.model, arguments.images, arguments.seconds))
            for n in clients:
                before = used_seconds(process)
                answers = ask(arguments, port, n, arguments.seconds, sys.maxsize)
                answers["server"] = 1000 * (used_seconds(process) - before) / answers["n"]
                seen[n].append(answers)
                print(f"  {n} clients: {answers['rate']:.1f}/s; alone {rates[-1]:.1f}/s", flush=True)
    print(f"predictor alone: {median(rates):.1f} images/s ({min(rates):.1f} to {max(rates):.1f})")
    for n in clients:
        of_all = {name: median(each[name] for each in seen[n]) for name in seen[n][0]}
        ratio = median(each["rate"] / rate for each, rate in zip(seen[n], rates, strict=True))
        print(
            f"{n:3} clients: {of_all['rate']:7.1f} predictions/s, {ratio:5.1%} of the predictor alone; "
            f"p50 {of_all['p50']:.0f} ms, p99 {of_all['p99']:.0f} ms; of a processor's time for each "
            f"{of_all['server']:.2f} ms in the server, {of_all['client']:.2f} ms in the clients; "
            f"{of_all['failed']:.0f} failed",
            flush=True,
        )


def memory(arguments: argparse.Namespace, folder: Path) -> None:
    """Many requests; print the memory of the server on the way."""

    def megabytes() -> float:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    steps = 20
    with served(arguments.model, folder) as (port, process):
        found, done, start = [], 0, time.perf_counter()
        for _ in range(steps):
            answers = ask(arguments, port, 8, 3600, arguments.memory // steps)
            done += arguments.memory // steps
            found.append(megabytes())
            print(
                f"{done:7} requests: {found[-1]:.1f} MiB, {answers['rate']:.0f}/s, {answers['failed']:.0f} failed",
                flush=True,
            )
    settled = found[1:]
    print(
        f"from {2 * done // steps:,} to {done:,} requests: {min(settled):.1f} to {max(settled):.1f} MiB, the last "
        f"{settled[-1] / settled[0] - 1:+.1%} over the first; {time.perf_counter() - start:.0f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of images to send")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, help="so many requests, and the memory they take")
    parser.add_argument("--send", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send is not None:
        port, n_clients, seconds, most = arguments.send
        contents = [path.read_bytes() for path in sorted(arguments.images.iterdir())[:N_IMAGES]]
        requests(int(port), arguments.model.stem, contents, int(n_clients), float(seconds), int(most))
        return
    print(describe_machine())
    print(f"{arguments.model.name}, {N_IMAGES} images of {arguments.images}")
    with tempfile.TemporaryDirectory() as name:
        (memory if arguments.memory else compare)(arguments, Path(name))


if __name__ == "__main__":
    main()
