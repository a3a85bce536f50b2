"""The Python peers of the presigning benchmark, and the independent signer.

    presign_peers.py time FILE   prints "peer nanoseconds of CPU for each URL",
                                 writes the URLs to FILE
    presign_peers.py check FILE  signs every URL of FILE again with awscrt
"""
import datetime
import sys
import time
from urllib.parse import parse_qs, urlsplit

import boto3
from awscrt.auth import (AwsCredentialsProvider, AwsSignatureType,
                         AwsSigningAlgorithm, AwsSigningConfig,
                         aws_sign_request)
from awscrt.http import HttpHeaders, HttpRequest
from botocore.config import Config

ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOST = "bucket.s3.us-east-1.amazonaws.com"
KEY, UPLOAD = "k" * 60, "u" * 133
provider = AwsCredentialsProvider.new_static(ACCESS, SECRET)


def config(when):
    return AwsSigningConfig(
        algorithm=AwsSigningAlgorithm.V4, signature_type=AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS,
        credentials_provider=provider, region="us-east-1", service="s3", date=when, use_double_uri_encode=False,
        should_normalize_uri_path=False, signed_body_value="UNSIGNED-PAYLOAD", expiration_in_seconds=900)


def crt_path(target, cfg, headers=HttpHeaders([("host", HOST)])):
    request = HttpRequest("PUT", target, headers)
    aws_sign_request(request, cfg).result()
    return request.path


def by_awscrt(count):
    cfg = config(datetime.datetime.now(datetime.timezone.utc))
    head, tail = f"/{KEY}?partNumber=", f"&uploadId={UPLOAD}"
    return [f"https://{HOST}" + crt_path(f"{head}{i}{tail}", cfg) for i in range(1, count + 1)]


client = boto3.client("s3", region_name="us-east-1", aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
                      config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))


def by_boto3(count):
    return [client.generate_presigned_url("upload_part", ExpiresIn=900, Params={
        "Bucket": "bucket", "Key": KEY, "UploadId": UPLOAD, "PartNumber": i}) for i in range(1, count + 1)]


def measure(file):
    for name, function, count in (("awscrt", by_awscrt, 10000), ("boto3", by_boto3, 1000)):
        best = None
        for _ in range(3):
            begun = time.process_time()
            urls = function(count)
            spent = (time.process_time() - begun) / count * 1e9
            best = spent if best is None else min(best, spent)
        print(f"{name} {best:.1f}")
        file.writelines(url + "\n" for url in urls)


def check(file):
    checked = 0
    for line in file:
        url = urlsplit(line.strip())
        query = parse_qs(url.query)
        when = datetime.datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
        target = f"{url.path}?partNumber={query['partNumber'][0]}&uploadId={query['uploadId'][0]}"
        signed = crt_path(target, config(when.replace(tzinfo=datetime.timezone.utc)))
        if parse_qs(urlsplit(signed).query)["X-Amz-Signature"] != query["X-Amz-Signature"]:
            sys.exit(f"awscrt signs otherwise: {line}")
        checked += 1
    print(f"checked {checked}")


if sys.argv[1] == "time":
    with open(sys.argv[2], "w", encoding="ascii") as out:
        measure(out)
else:
    with open(sys.argv[2], encoding="ascii") as given:
        check(given)
