"""Unwraps tunnels as a pool server's kernel would: what arrives in IPIP or GUE goes to the stack by a TUN device.

For hosts whose kernel has neither `ipip` nor `fou`. The outer headers are the real kernel's to check: a raw socket sees
what passed the IP layer, and a UDP socket what passed its checksum as well.

Usage: unwrap.py ipip|gue 4|6    (prints "ready" once it listens)
"""

import fcntl
import os
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
GUE_PORT = 6080
SO_RCVBUFFORCE = 33
NAME = b"lb-tun0"


def tun():
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", NAME, IFF_TUN | IFF_NO_PI))
    os.system("ip link set lb-tun0 up mtu 9000")
    for key in ("rp_filter", "accept_local"):
        with open(f"/proc/sys/net/ipv4/conf/lb-tun0/{key}", "w", encoding="ascii") as file:
            file.write("0" if key == "rp_filter" else "1")
    return device


def main(mode, version):
    family = socket.AF_INET if version == "4" else socket.AF_INET6
    if mode == "gue":
        wrapped = socket.socket(family, socket.SOCK_DGRAM)
        wrapped.bind(("", GUE_PORT))
    else:
        wrapped = socket.socket(family, socket.SOCK_RAW, 4 if version == "4" else 41)
    # A burst of full frames must wait here while this loop is not running.
    wrapped.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    device = tun()
    print("ready", flush=True)
    while True:
        packet = wrapped.recv(65536)
        if mode == "ipip" and version == "4":
            # A raw IPv4 socket gets the outer header as well.
            packet = packet[(packet[0] & 15) * 4 :]
        os.write(device, packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
