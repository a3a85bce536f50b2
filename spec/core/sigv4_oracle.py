"""Random requests, signed by botocore and by awscrt: the oracle of sigv4_spec.

    python3 sigv4_oracle.py SEED COUNT

prints COUNT lines of fields separated by tabs; texts are in hexadecimal,
lists of pairs are NAME=VALUE joined by commas.
"""
import datetime
import random
import sys
from urllib.parse import quote_from_bytes

import botocore.auth
from awscrt.auth import (AwsCredentialsProvider, AwsSignatureType,
                         AwsSignedBodyHeaderType, AwsSigningAlgorithm,
                         AwsSigningConfig, aws_sign_request)
from awscrt.http import HttpHeaders, HttpRequest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

rng = random.Random(int(sys.argv[1]))
NOW = datetime.datetime(2020, 1, 1)


class FrozenDatetime(datetime.datetime):
    @classmethod
    def utcnow(cls):
        return NOW


class FrozenModule:
    datetime = FrozenDatetime


botocore.auth.datetime = FrozenModule

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

AWKWARD = [b"a//b", b"../x", b"./", b"/..", b"+", b"%", b"%41", b"%2F", b"~", b" ", b"  ", b"*'()!", b"\xc3\xbc",
           b"\xe6\x97\xa5", b"\xff\xfe", b"\x01", b"\n", b"=", b"&", b"?", b"#", b";", b":", b"@", b",", b"\"<>\\^`{|}",
           b"$", b"[", b"]"]


def text(limit):
    parts = []
    while True:
        parts.append(rng.choice(AWKWARD) if rng.random() < 0.5 else
                     bytes(rng.randrange(1, 256) for _ in range(rng.randrange(1, 12))))
        joined = b"".join(parts)
        if rng.random() < 0.3 or len(joined) >= limit:
            return joined[:limit]


def key():
    if rng.random() < 0.05:
        return bytes(rng.choice(b"abc/+ %~\xc3") for _ in range(1024))
    return text(60)


def word():
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789-") for _ in range(rng.randrange(1, 14)))


def parameter():
    name = rng.choice([word().encode(), word().title().encode(), text(8), b"partNumber", b"uploadId", b"x-id", b"a",
                       b"a-b", b"A", b"prefix", b"uploads"])
    return name, b"" if rng.random() < 0.3 else text(30)


def header():
    name = rng.choice(["x-amz-meta-" + word(), "content-type", "content-md5", "range", "x-amz-acl", "content-length",
                       "if-match", "x-amz-meta-a"])
    value = "".join(rng.choice(["a", "B", "7", " ", "  ", "\t", ";", ",", "=", "/", "\"", ":", "%", "+", "~"])
                    for _ in range(rng.randrange(0, 20)))
    return name, value


def hexed(data):
    return (data.encode() if isinstance(data, str) else data).hex() or "-"


def pairs(items):
    return ",".join(f"{hexed(k)}={hexed(v)}" for k, v in items) or "-"


def encode(data, safe=""):
    return quote_from_bytes(data, safe=safe + "~")


def crt_sign(case, url_path, url_query, query_form):
    headers = HttpHeaders([("host", case["host"])] + [(k, v) for k, v in case["headers"]])
    request = HttpRequest(case["method"], url_path + ("?" + url_query if url_query else ""), headers)
    config = AwsSigningConfig(
        algorithm=AwsSigningAlgorithm.V4,
        signature_type=AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS if query_form else
        AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=AwsCredentialsProvider.new_static(case["access"], case["secret"], case["token"] or None),
        region=case["region"], service="s3", date=NOW.replace(tzinfo=datetime.timezone.utc),
        use_double_uri_encode=False, should_normalize_uri_path=False,
        signed_body_value=case["hash"],
        signed_body_header_type=AwsSignedBodyHeaderType.NONE if query_form else
        AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        expiration_in_seconds=case["expires"] if query_form else None)
    aws_sign_request(request, config).result(10)
    return request


for i in range(int(sys.argv[2])):
    NOW = datetime.datetime(2020, 1, 1) + datetime.timedelta(seconds=rng.randrange(0, 10 ** 9))
    kind = ["query", "header", "crt-query", "crt-header"][i % 4]
    crt = kind.startswith("crt")
    query_form = kind.endswith("query")
    names = set()
    query = []
    for name, value in (parameter() for _ in range(rng.randrange(0, 7))):
        # botocore cannot presign a repeated name, the others can.
        if kind != "query" or name not in names:
            query.append((name, value))
        names.add(name)
    headers = []
    for name, value in (header() for _ in range(rng.randrange(0, 5))):
        if name not in [n for n, _ in headers]:
            headers.append((name, value))
    scheme = rng.choice(["http", "https"])
    host = rng.choice(["s3.example.com", "bucket.s3.example.com", "127.0.0.1:9000", "[::1]:8080", "xn--bcher-kva.ch:1"])
    case = {
        "method": rng.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]), "scheme": scheme, "host": host,
        "path": b"/" + key(), "query": query, "headers": headers,
        "access": rng.choice(["AKIDEXAMPLE", "minio", "k+/=~y"]) if not crt else "AKIDEXAMPLE",
        "secret": rng.choice(["s", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "x" * 90]),
        "token": rng.choice(["", "", "FwoGZXIvYXdzE+/==abc~*"]),
        "region": rng.choice(["us-east-1", "r", "eu-central-1"]),
        "hash": "UNSIGNED-PAYLOAD" if query_form or rng.random() < 0.5 else EMPTY,
        "expires": rng.randrange(1, 604801),
    }
    if query_form and rng.random() < 0.2:
        # The payload is signed after all: botocore reads its hash from a header; as a parameter it is awscrt's.
        case["hash"] = rng.choice([EMPTY, "ab" * 32, "UNSIGNED-PAYLOAD"])
        if crt:
            query.insert(rng.randrange(len(query) + 1), (b"X-Amz-Content-Sha256", case["hash"].encode()))
        else:
            headers.append(("x-amz-content-sha256", case["hash"]))
    path = encode(case["path"], "/")
    url_query = "&".join(encode(k) + "=" + encode(v) for k, v in query)
    if crt:
        # awscrt folds no white space inside a value
        case["headers"] = headers = [(k, " ".join(v.split())) for k, v in headers]
        request = crt_sign(case, path, url_query, query_form)
        result = request.path if query_form else dict(request.headers)["Authorization"]
    else:
        url = f"{scheme}://{host}{path}" + ("?" + url_query if url_query else "")
        if query_form:  # as parameters, since botocore reads a URL as UTF-8
            url = f"{scheme}://{host}{path}"
        request = AWSRequest(method=case["method"], url=url, headers=dict(headers),
                             params=dict(query) if query_form else None)
        creds = Credentials(case["access"], case["secret"], case["token"] or None)
        if query_form:
            botocore.auth.S3SigV4QueryAuth(creds, "s3", case["region"], case["expires"]).add_auth(request)
            result = request.url[len(f"{scheme}://{host}"):]
        else:
            signer = botocore.auth.S3SigV4Auth(creds, "s3", case["region"])
            signer.payload = lambda _, h=case["hash"]: h
            signer.add_auth(request)
            result = request.headers["Authorization"]
    seconds = int((NOW - datetime.datetime(1970, 1, 1)).total_seconds())
    print("\t".join([kind, case["method"], scheme, host, hexed(case["path"]), pairs(query), pairs(headers),
                     hexed(case["access"]), hexed(case["secret"]), hexed(case["token"]), case["region"], case["hash"],
                     str(seconds), str(case["expires"]), hexed(result)]))
