#!/usr/bin/env python3
"""A relay that breaks HTTP on purpose, and a small store to break it against.

    relay.py --port P --control C [--target HOST:PORT] [--cert PEM --key PEM]

Listens on 127.0.0.1:P (TLS with --cert), forwards every request byte for byte
(Host and all other headers unchanged, so signatures stay good) to the target,
and passes the answer back. Without a target it answers itself:

    PUT, POST, PATCH, DELETE   200, ETag = "md5 of the body", X-Length
    GET, HEAD /bytes/N         N bytes: the decimal numbers 0, 1, 2 ... with
                               commas between (Range: bytes=a-b understood)
    GET anything else          200, a few bytes

Which request suffers what is a list of rules, set over the control port (one
JSON object per line, one line back):

    {"op":"rules","rules":[...]}  replaces all rules; counts start over
    {"op":"log"}                  -> {"log":[...]}: one entry per request seen:
                                  n, connection, method, target, head (as
                                  received, latin-1), length and md5 of the body
                                  bytes read from the client, status sent back
                                  (0: none), rule (index or null)
    {"op":"clear"}                forgets the log
    {"op":"target","target":"host:port"}   from the next connection on
    {"op":"open"}                 -> {"open":n}: clients' connections that have
                                  not ended, with what came of them, here

A rule is an object. Which requests it takes:
    method   "PUT"         only this method
    match    "text"        only targets that contain this text
    skip     n             not the first n that match
    times    n             only n of them (default: all)
The first rule that takes a request is the only one applied. What it does, all
that are given, N being an offset in the body:
    delay            s     waits before anything is read of the request's body
    hold             true  so too, until there are other rules (or the client
                           is gone: then the target never hears of it)
    rate             B/s   reads the request's body no faster
    flip             N     inverts a bit of byte N of the request's body
    cut              N     ends both connections after N bytes of the body
    stall            N     stops reading after N bytes of the body, for good
    status           n     answers itself, target not asked; with:
    headers          {}      more headers
    body             "text"  a body
    chunked          true    the body in chunks
    early            true    without reading the request's body; closes when
                             the client's side has the answer (which sees a
                             reset if it goes on sending)
    raw              "text" these bytes are the whole answer; then closes
    forward          true  with status or raw: the target gets the request all
                           the same, its answer is thrown away
    drop             true  the target's answer is thrown away: both
                           connections end
    delay_answer     s     waits before the answer
    hold_answer      true  the answer waits until there are other rules
    rate_answer      B/s
    flip_answer      N     inverts a bit of byte N of the answer's body
    cut_answer       N     ends both connections after N bytes of it
    stall_answer     N     stops for good after N bytes of it
    reset            true  connections end by a reset, not by a close
    close            true  the client's connection ends after the answer

For use from specs see relay.lua beside this file.
"""
import argparse
import fcntl
import hashlib
import json
import socket
import ssl
import struct
import sys
import termios
import threading
import time

CHUNK = 65536
lock = threading.Lock()
state = {"rules": [], "seen": [], "log": [], "target": None, "connections": 0, "open": 0}


class Broken(Exception):
    """The connection is to end now."""


class Stream:
    """A socket read by lines and by counted bytes."""

    def __init__(self, sock):
        self.sock = sock
        self.rest = b""

    def read(self, n):
        if self.rest:
            data, self.rest = self.rest[:n], self.rest[n:]
            return data
        return self.sock.recv(n)

    def head(self):
        """Up to and with the empty line; b"" at a clean end."""
        data = self.rest
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(CHUNK)
            if not more:
                if data:
                    raise Broken
                return b""
            data += more
            if len(data) > 1 << 20 or not data[:1].isalpha():
                raise Broken
        at = data.index(b"\r\n\r\n") + 4
        self.rest = data[at:]
        return data[:at]

    def line(self):
        data = self.rest
        while b"\n" not in data:
            more = self.sock.recv(CHUNK)
            if not more:
                raise Broken
            data += more
        at = data.index(b"\n") + 1
        self.rest = data[at:]
        return data[:at]


def headers_of(head):
    """Lower-case names; of repeated ones the last."""
    found = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found


def body_of(stream, headers, none):
    """Yields (data, raw): the body's bytes, and what goes on the wire."""
    if none:
        return
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = stream.line()
            left = int(line.split(b";")[0], 16)
            yield b"", line
            if not left:
                while True:
                    line = stream.line()
                    yield b"", line
                    if line in (b"\r\n", b"\n"):
                        return
            while left:
                data = stream.read(min(left, CHUNK))
                if not data:
                    raise Broken
                left -= len(data)
                yield data, data
            yield b"", stream.line()
    elif "content-length" in headers:
        left = int(headers["content-length"])
        while left:
            data = stream.read(min(left, CHUNK))
            if not data:
                raise Broken
            left -= len(data)
            yield data, data
    else:
        while True:
            data = stream.read(CHUNK)
            if not data:
                return
            yield data, data


class Damage:
    """What a rule does to a body that passes."""

    def __init__(self, rule, suffix):
        self.at = 0
        self.began = time.monotonic()
        self.flip = rule.get("flip" + suffix)
        self.cut = rule.get("cut" + suffix)
        self.stall = rule.get("stall" + suffix)
        self.rate = rule.get("rate" + suffix)

    def stop(self, watch):
        if self.cut is not None and self.at >= self.cut:
            raise Broken
        if self.stall is not None and self.at >= self.stall:
            stall(watch)

    def portion(self, n):
        """How much may be passed before something happens."""
        for limit in (self.cut, self.stall):
            if limit is not None:
                n = min(n, limit - self.at)
        return n

    def passes(self, data):
        if self.flip is not None and self.at <= self.flip < self.at + len(data):
            data = bytearray(data)
            data[self.flip - self.at] ^= 1
            data = bytes(data)
        self.at += len(data)
        if self.rate:
            ahead = self.at / self.rate - (time.monotonic() - self.began)
            if ahead > 0:
                time.sleep(ahead)
        return data


def there(watch):
    """Whether the client's connection has not ended; reads nothing."""
    established = 1
    return socket.socket.getsockopt(watch, socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == established


def stall(watch):
    """Reads nothing (that would let the client go on sending) until the
    client's connection ends."""
    while there(watch):
        time.sleep(0.02)
    raise Broken


def in_force(rule):
    """Whether the rules are still those that this one is of."""
    return any(one is rule for one in state["rules"])


def hold(rule, watch):
    while in_force(rule):
        if not there(watch):
            raise Broken
        time.sleep(0.005)


def arrived(sock):
    """Waits until the other side's system has everything that was sent: a
    reset that follows cannot overtake it any more."""
    while there(sock) and struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
        time.sleep(0.001)


def damaged(parts, damage, watch):
    """The same pieces with the damage done, cut where it must stop. Pieces of
    a chunked body keep their frame, so only their bytes change."""
    damage.stop(watch)
    for data, raw in parts:
        if data is not raw:
            yield data, raw
            continue
        while data:
            n = damage.portion(len(data))
            if n > 0:
                piece = damage.passes(data[:n])
                yield piece, piece
            damage.stop(watch)
            data = data[n:]


def wait(rule):
    """What is between the request and its answer."""
    time.sleep(rule.get("delay_answer", 0))
    while rule.get("hold_answer") and in_force(rule):
        time.sleep(0.005)


def pick(method, target):
    with lock:
        for i, rule in enumerate(state["rules"]):
            if rule.get("method", method) != method:
                continue
            if rule.get("match", "") not in target:
                continue
            state["seen"][i] += 1
            n = state["seen"][i] - rule.get("skip", 0)
            if n < 1 or n > rule.get("times", n):
                continue
            return i, rule
    return None, {}


def numbers(first, last):
    """Bytes first..last of "0,1,2,3,..."."""
    out, size, i = [], 0, 0
    while size <= last:
        text = "%d," % i
        out.append(text)
        size += len(text)
        i += 1
    return "".join(out).encode()[first:last + 1]


def own_answer(method, target, headers, digest, length):
    """(status line and headers, body) of the built-in store."""
    extra, status, body = {}, "200 OK", b"fine\n"
    path = target.split("?")[0]
    if method in ("GET", "HEAD") and path.startswith("/bytes/"):
        total = int(path[7:])
        first, last = 0, total - 1
        wanted = headers.get("range", "")
        if wanted.startswith("bytes="):
            a, _, b = wanted[6:].partition("-")
            first, last = int(a), min(int(b), last) if b else last
            status = "206 Partial Content"
            extra["Content-Range"] = "bytes %d-%d/%d" % (first, last, total)
        body = numbers(first, last)
    elif method not in ("GET", "HEAD"):
        extra["ETag"] = '"%s"' % digest
        extra["X-Length"] = str(length)
        body = b""
    return status, extra, body


def render(status, extra, body, method, chunked=False, close=False):
    lines = ["HTTP/1.1 %s" % status]
    lines += ["%s: %s" % pair for pair in extra.items()]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    else:
        lines.append("Content-Length: %d" % len(body))
    if close:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head, b"" if method == "HEAD" else body


class Connection:
    def __init__(self, sock, number):
        self.client = sock
        self.number = number
        self.stream = Stream(sock)
        self.server = None
        self.server_stream = None
        self.reset = False

    def connect(self):
        if self.server is None and state["target"]:
            host, _, port = state["target"].rpartition(":")
            self.server = socket.create_connection((host, int(port)), 30)
            self.server.settimeout(None)
            self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.server_stream = Stream(self.server)

    def end(self):
        for sock in (self.client, self.server):
            if sock is None:
                continue
            try:
                if self.reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif isinstance(sock, ssl.SSLSocket):
                    sock.settimeout(1)
                    sock.unwrap()
            except (OSError, ValueError):
                pass
            try:
                sock.close()
            except OSError:
                pass

    def run(self):
        try:
            while self.request():
                pass
        except (Broken, OSError, ValueError):
            pass
        finally:
            self.end()

    def request(self):
        head = self.stream.head()
        if not head:
            return False
        method, target, _ = head.decode("latin-1").split("\r\n")[0].split(" ", 2)
        headers = headers_of(head)
        index, rule = pick(method, target)
        self.reset = bool(rule.get("reset"))
        entry = {"connection": self.number, "method": method, "target": target, "head": head.decode("latin-1"),
                 "length": 0, "md5": None, "status": 0, "rule": index}
        with lock:
            entry["n"] = len(state["log"]) + 1
            state["log"].append(entry)
        if rule.get("delay"):
            time.sleep(rule["delay"])
        if rule.get("hold"):
            hold(rule, self.client)
        if headers.get("expect", "").lower() == "100-continue" and not rule.get("early"):
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        answers_itself = "status" in rule or "raw" in rule
        forward = state["target"] and (not answers_itself or rule.get("forward"))
        if rule.get("early"):
            self.answer(rule, entry, method, True)
            arrived(self.client)
            return False
        digest = hashlib.md5()
        if forward:
            self.connect()
            lines = head.split(b"\r\n")
            self.server.sendall(b"\r\n".join(x for x in lines if not x.lower().startswith(b"expect:")))
        none = "content-length" not in headers and "transfer-encoding" not in headers
        for data, raw in damaged(body_of(self.stream, headers, none), Damage(rule, ""), self.client):
            digest.update(data)
            entry["length"] += len(data)
            if forward:
                self.server.sendall(raw)
        entry["md5"] = digest.hexdigest()
        close = rule.get("close") or headers.get("connection", "").lower() == "close"
        if not forward and not answers_itself:
            status, extra, body = own_answer(method, target, headers, entry["md5"], entry["length"])
            return self.send(rule, entry, status, extra, body, method, close)
        if forward:
            alive = self.backward(rule, entry, method, answers_itself)
            if not answers_itself:
                return alive and not close
        return self.answer(rule, entry, method, close)

    def answer(self, rule, entry, method, close):
        """The rule's own answer."""
        wait(rule)
        if "raw" in rule:
            self.client.sendall(rule["raw"].encode("latin-1"))
            return False
        status = "%d Answer" % rule["status"]
        return self.send(rule, entry, status, rule.get("headers") or {}, rule.get("body", "").encode("latin-1"), method,
                         close)

    def send(self, rule, entry, status, extra, body, method, close):
        if rule.get("drop"):
            raise Broken
        if "status" not in rule:
            wait(rule)
        head, body = render(status, extra, body, method, rule.get("chunked"), close)
        entry["status"] = int(status[:3])
        self.client.sendall(head)
        pieces = ((body[i:i + CHUNK],) * 2 for i in range(0, len(body), CHUNK))
        for data, raw in damaged(pieces, Damage(rule, "_answer"), self.client):
            if rule.get("chunked"):
                raw = b"%x\r\n%s\r\n" % (len(data), data)
            self.client.sendall(raw)
        if rule.get("chunked"):
            self.client.sendall(b"0\r\n\r\n")
        return not close

    def backward(self, rule, entry, method, discard):
        """Passes the target's answer on, or throws it away."""
        while True:
            head = self.server_stream.head()
            if not head:
                raise Broken
            code = int(head[9:12])
            if code >= 200:
                break
        headers = headers_of(head)
        none = method == "HEAD" or code in (204, 304)
        parts = body_of(self.server_stream, headers, none)
        if discard or rule.get("drop"):
            for _ in parts:
                pass
            if rule.get("drop"):
                raise Broken
            return True
        wait(rule)
        entry["status"] = code
        self.client.sendall(head)
        for _, raw in damaged(parts, Damage(rule, "_answer"), self.client):
            self.client.sendall(raw)
        framed = none or "content-length" in headers or "transfer-encoding" in headers
        return framed and headers.get("connection", "").lower() != "close"


def control(sock):
    for line in sock.makefile("r", encoding="utf-8"):
        command = json.loads(line)
        reply = {"ok": True}
        with lock:
            if command["op"] == "rules":
                state["rules"] = command["rules"]
                state["seen"] = [0] * len(command["rules"])
            elif command["op"] == "log":
                reply["log"] = state["log"]
                reply["connections"] = state["connections"]
            elif command["op"] == "clear":
                state["log"] = []
            elif command["op"] == "open":
                reply["open"] = state["open"]
            elif command["op"] == "target":
                state["target"] = command["target"]
            else:
                reply = {"error": "unknown op"}
            text = json.dumps(reply)
        sock.sendall(text.encode() + b"\n")


def listen(port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The kernel would take megabytes on its own, whatever the rules say.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262144)
    sock.bind(("127.0.0.1", port))
    sock.listen(512)
    return sock


def serve(sock, handle):
    while True:
        client, _ = sock.accept()
        with lock:
            state["open"] += 1
        threading.Thread(target=handle, args=(client,), daemon=True).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--target")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    args = parser.parse_args()
    state["target"] = args.target
    context = None
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert, args.key)

    def handle(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with lock:
            state["connections"] += 1
            number = state["connections"]
        if context:
            try:
                sock.settimeout(120)
                sock = context.wrap_socket(sock, server_side=True)
                sock.settimeout(None)
            except (OSError, ssl.SSLError):
                sock.close()
                return
        Connection(sock, number).run()

    def counted(sock):
        try:
            handle(sock)
        finally:
            with lock:
                state["open"] -= 1

    main_sock = listen(args.port)
    control_sock = listen(args.control)
    threading.Thread(target=serve, args=(main_sock, counted), daemon=True).start()
    while True:
        threading.Thread(target=control, args=(control_sock.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
