"""The Python peers of the CRC32C benchmark: prints "peer GB/s" of CPU time for
64 MiB, and the CRC of the whole file that each of them finds.

    crc32c_peers.py FILE
"""
import sys
import time

import awscrt.checksums
import crc32c

with open(sys.argv[1], "rb") as f:
    data = f.read(1 << 26)
    rest = f.read()


def measure(function):
    spent = []
    for _ in range(5):
        begun = time.process_time()
        crc = function(data)
        spent.append(time.process_time() - begun)
    return function(rest, crc), len(data) / min(spent) / 1e9


for name, prefix, peer in (("awscrt", "", awscrt.checksums.crc32c), ("python", "python_", crc32c.crc32c)):
    crc, speed = measure(peer)
    print(f"{name} {speed:.3f}")
    print(f"{prefix}crc {crc}")
