"""A wire between two interfaces that takes its time: each frame is passed on so many milliseconds after it came.

    slow_wire.py INTERFACE INTERFACE MILLISECONDS

For networks without a queueing discipline that could do it. Says "ready" when it is; ends when its input does.
"""

import collections
import select
import socket
import sys
import time

ALL_PROTOCOLS = socket.htons(0x0003)
LARGEST_FRAME = 65_535


def attach(interface):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL_PROTOCOLS)
    end.bind((interface, 0x0003))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.setblocking(False)
    return end


def receive(end, other, delay, queue):
    """Takes all that has come, but not what this program itself has sent."""
    while True:
        try:
            frame, address = end.recvfrom(LARGEST_FRAME)
        except BlockingIOError:
            return
        if address[2] != socket.PACKET_OUTGOING:
            queue.append((time.monotonic() + delay, other, frame))


def main():
    first, second = attach(sys.argv[1]), attach(sys.argv[2])
    delay = float(sys.argv[3]) / 1000
    queue = collections.deque()
    print("ready", flush=True)
    while True:
        wait = max(0, queue[0][0] - time.monotonic()) if queue else None
        readable, _, _ = select.select([first, second, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            return
        for end, other in ((first, second), (second, first)):
            if end in readable:
                receive(end, other, delay, queue)
        while queue and queue[0][0] <= time.monotonic():
            _, out, frame = queue.popleft()
            out.send(frame)


main()
