#!/usr/bin/env python3
"""Joins two network namespaces and delays and loses IP packets on the way: netem for kernels that lack it.

usage: packet_relay.py NAMESPACE NAMESPACE [--device NAME] [--delay-ms MS] [--loss PERCENT] [--seed N]

Makes a TUN device in each namespace and carries packets between the two, so TCP meets real losses and sends again.
Every direction has the delay and the loss of its own. Packets are never reordered. Prints "ready" once both devices are
there (their addresses are the caller's to set), and what became of the packets when it is ended by SIGTERM. Needs root.
It is one Python process: measure it without delay and loss, too, to know what it costs by itself.
"""
import argparse
import collections
import ctypes
import fcntl
import os
import random
import select
import signal
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
LARGEST_PACKET = 65536
MOST_WAITING = 100_000  # packets, each way; more are lost, as in a router
READ_AT_ONCE = 64


def open_tun(namespace: str, device: str) -> int:
    """Leaves this process in `namespace`: devices belong to where they were made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", encoding="ascii") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Direction:
    def __init__(self, source: int, sink: int, delay: float, loss: float, draw: random.Random):
        self.source, self.sink, self.delay, self.loss, self.draw = source, sink, delay, loss, draw
        self.waiting = collections.deque()
        self.carried = self.lost = self.overflowed = 0

    def take(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                packet = os.read(self.source, LARGEST_PACKET)
            except (BlockingIOError, OSError):  # none left, or the device is down yet
                return
            if self.draw.random() < self.loss:
                self.lost += 1
            elif len(self.waiting) >= MOST_WAITING:
                self.overflowed += 1
            else:
                self.waiting.append((time.monotonic() + self.delay, packet))

    def deliver(self) -> None:
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            try:
                os.write(self.sink, self.waiting.popleft()[1])
                self.carried += 1
            except OSError:  # the device is down
                self.overflowed += 1


def relay(directions) -> None:
    sources = {direction.source: direction for direction in directions}
    while True:
        due = [direction.waiting[0][0] for direction in directions if direction.waiting]
        patience = max(0.0, min(due) - time.monotonic()) if due else None
        for source in select.select(list(sources), [], [], patience)[0]:
            sources[source].take()
        for direction in directions:
            direction.deliver()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("namespaces", nargs=2, metavar="NAMESPACE")
    parser.add_argument("--device", default="relay0")
    parser.add_argument("--delay-ms", type=float, default=0, help="of one direction")
    parser.add_argument("--loss", type=float, default=0, help="percent, of one direction")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    here, there = (open_tun(namespace, arguments.device) for namespace in arguments.namespaces)
    directions = [Direction(a, b, arguments.delay_ms / 1000, arguments.loss / 100, draw)
                  for a, b in ((here, there), (there, here))]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", flush=True)
    try:
        relay(directions)
    finally:
        for name, direction in zip(("to the second", "to the first"), directions):
            print(f"{name}: {direction.carried} carried, {direction.lost} lost, {direction.overflowed} did not fit")


if __name__ == "__main__":
    main()
