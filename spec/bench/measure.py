#!/usr/bin/env python3
"""measure.py COMMAND...: runs it and prints "wall cpu rss exit" (seconds,
seconds of user and system time, peak resident KiB) as its last line; the
command's own output goes to stderr."""
import os
import sys
import time

before = time.perf_counter()
pid = os.fork()
if pid == 0:
    os.dup2(2, 1)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        print(error, file=sys.stderr)
        os._exit(127)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - before
print("%.4f %.4f %d %d" % (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status)))
