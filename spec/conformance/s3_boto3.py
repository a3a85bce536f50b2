"""What boto3 and botocore do, against an S3 store: prints one line per check,
exits 1 at the first that does not hold. Environment: ENDPOINT, ACCESS_KEY,
SECRET_KEY, BUCKET, FOLDER (for files); SECURE_ENDPOINT, the same store over
TLS, where CA_FILE says whom to trust."""
import hashlib
import os
import sys
import urllib.request
import urllib.error

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, bucket, folder = os.environ["ENDPOINT"], os.environ["BUCKET"], os.environ["FOLDER"]


def client(endpoint=endpoint, verify=None, **more):
    options = dict(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    options.update(more)
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                        aws_access_key_id=os.environ["ACCESS_KEY"],
                        aws_secret_access_key=os.environ["SECRET_KEY"], verify=verify,
                        config=Config(**options))


s3 = client()


def check(what, ok):
    print(("ok  " if ok else "BAD ") + what, flush=True)
    if not ok:
        sys.exit(1)


def refused(what, code, fn, *args, **kwargs):
    try:
        fn(*args, **kwargs)
    except ClientError as e:
        got = e.response["Error"]["Code"]
        check("%s is refused: %s" % (what, got), got == code)
        return e
    check("%s is refused" % what, False)


# Objects
body = os.urandom(100000)
r = s3.put_object(Bucket=bucket, Key="boto/one", Body=body, ContentType="text/x-one", CacheControl="max-age=5",
                  ContentDisposition='attachment; filename="a.txt"', Metadata={"note": "two  words", "x": "1"})
check("put answers the MD5", r["ETag"] == '"%s"' % hashlib.md5(body).hexdigest())
r = s3.get_object(Bucket=bucket, Key="boto/one")
check("get gives the bytes back", r["Body"].read() == body)
check("content headers are kept", (r["ContentType"], r["CacheControl"], r["ContentDisposition"]) ==
      ("text/x-one", "max-age=5", 'attachment; filename="a.txt"'))
check("metadata is kept", r["Metadata"]["x"] == "1")
r = s3.head_object(Bucket=bucket, Key="boto/one")
check("head gives the size", r["ContentLength"] == len(body))
r = s3.get_object(Bucket=bucket, Key="boto/one", Range="bytes=10-19")
check("a range", r["Body"].read() == body[10:20] and r["ContentRange"] == "bytes 10-19/100000")
refused("a wrong key", "NoSuchKey", s3.get_object, Bucket=bucket, Key="boto/none")
refused("If-None-Match that holds not", "304", s3.get_object, Bucket=bucket, Key="boto/one",
        IfNoneMatch=hashlib.md5(body).hexdigest())
refused("a wrong Content-MD5", "BadDigest", s3.put_object, Bucket=bucket, Key="boto/bad", Body=b"x",
        ContentMD5="XUFAKrxLKna5cZ2REBfFkg==")
refused("a wrong SHA-256", "BadDigest", s3.put_object, Bucket=bucket, Key="boto/bad", Body=b"x",
        ChecksumSHA256="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
r = s3.put_object(Bucket=bucket, Key="boto/sums", Body=b"123456789", ChecksumAlgorithm="CRC32")
check("CRC32 by the SDK", r["ChecksumCRC32"] == "y/Q5Jg==")
r = s3.put_object(Bucket=bucket, Key="boto/sums", Body=b"123456789", ChecksumAlgorithm="SHA1")
check("SHA1 by the SDK", "ChecksumSHA1" in r)

# Keys
odd = ["a b", "a+b", "a%2Bb", "a//b", "/a", "x/", "~", "é/ü", "'()*!", "a&b=c?d#e", "\u2028", "t\tab", "日本", "x" * 1024]
for key in odd:
    s3.put_object(Bucket=bucket, Key="odd/" + key[:1019] if len(key) > 1000 else "odd/" + key, Body=key.encode())
listed = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(
    Bucket=bucket, Prefix="odd/", PaginationConfig={"PageSize": 3}) for o in page["Contents"]]
want = sorted(("odd/" + k)[:1023] if len(k) > 1000 else "odd/" + k for k in odd)
check("odd keys are listed in byte order, in pages (v2)",
      listed == sorted(want, key=lambda k: k.encode()))
listed = [o["Key"] for page in s3.get_paginator("list_objects").paginate(
    Bucket=bucket, Prefix="odd/", PaginationConfig={"PageSize": 4}) for o in page["Contents"]]
check("and with v1", listed == sorted(want, key=lambda k: k.encode()))
for key in odd[:-1]:
    check("odd key %r reads back" % key, s3.get_object(Bucket=bucket, Key="odd/" + key)["Body"].read() == key.encode())
r = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
check("common prefixes", sorted(p["Prefix"] for p in r["CommonPrefixes"]) == ["boto/", "odd/"])

# Copy, delete
s3.copy_object(Bucket=bucket, Key="boto/é copy", CopySource={"Bucket": bucket, "Key": "boto/one"})
r = s3.get_object(Bucket=bucket, Key="boto/é copy")
check("a copy has bytes and metadata", r["Body"].read() == body and r["Metadata"]["note"].startswith("two"))
s3.copy_object(Bucket=bucket, Key="boto/one", CopySource={"Bucket": bucket, "Key": "boto/one"},
               MetadataDirective="REPLACE", Metadata={"new": "yes"})
r = s3.head_object(Bucket=bucket, Key="boto/one")
check("metadata is replaced in place", r["Metadata"] == {"new": "yes"})
r = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "odd/" + k} for k in odd[:3]]})
check("many are deleted at once", len(r["Deleted"]) == 3)
s3.delete_object(Bucket=bucket, Key="odd/never")
s3.delete_object(Bucket=bucket, Key="boto/é copy")
refused("what was deleted", "404", s3.head_object, Bucket=bucket, Key="boto/é copy")

# Multipart, by hand and by s3transfer
r = s3.create_multipart_upload(Bucket=bucket, Key="boto/parts", ContentType="video/x", Metadata={"m": "1"})
upload = r["UploadId"]
chunks = [os.urandom(5 * 1024 * 1024), os.urandom(5 * 1024 * 1024), os.urandom(1000)]
parts = []
for i, chunk in enumerate(chunks, 1):
    e = s3.upload_part(Bucket=bucket, Key="boto/parts", UploadId=upload, PartNumber=i, Body=chunk)["ETag"]
    parts.append({"PartNumber": i, "ETag": e})
listed = [p for page in s3.get_paginator("list_parts").paginate(
    Bucket=bucket, Key="boto/parts", UploadId=upload, PaginationConfig={"PageSize": 2}) for p in page["Parts"]]
check("parts are listed in pages", [(p["PartNumber"], p["Size"]) for p in listed] ==
      [(1, 5242880), (2, 5242880), (3, 1000)])
uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
check("the upload is listed", [u["UploadId"] for u in uploads] == [upload])
refused("Complete with a wrong ETag", "InvalidPart", s3.complete_multipart_upload, Bucket=bucket, Key="boto/parts",
        UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"%s"' % ("0" * 32)}]})
refused("Complete out of order", "InvalidPartOrder", s3.complete_multipart_upload, Bucket=bucket, Key="boto/parts",
        UploadId=upload, MultipartUpload={"Parts": parts[::-1]})
r = s3.complete_multipart_upload(Bucket=bucket, Key="boto/parts", UploadId=upload, MultipartUpload={"Parts": parts})
want = hashlib.md5(b"".join(hashlib.md5(c).digest() for c in chunks)).hexdigest() + "-3"
check("Complete answers the MD5 of the MD5s", r["ETag"] == '"%s"' % want)
r = s3.get_object(Bucket=bucket, Key="boto/parts")
check("an object of parts reads back", r["Body"].read() == b"".join(chunks) and r["ContentType"] == "video/x")
r = s3.get_object(Bucket=bucket, Key="boto/parts", PartNumber=3)
check("one part reads back", r["Body"].read() == chunks[2] and r["PartsCount"] == 3)
upload = s3.create_multipart_upload(Bucket=bucket, Key="boto/gone")["UploadId"]
s3.abort_multipart_upload(Bucket=bucket, Key="boto/gone", UploadId=upload)
refused("a part of an aborted upload", "NoSuchUpload", s3.upload_part, Bucket=bucket, Key="boto/gone",
        UploadId=upload, PartNumber=1, Body=b"x")
path = os.path.join(folder, "boto.bin")
with open(path, "wb") as f:
    f.write(os.urandom(30 * 1024 * 1024 + 7))
config = TransferConfig(multipart_threshold=8 * 1024 * 1024, multipart_chunksize=8 * 1024 * 1024)
s3.upload_file(path, bucket, "boto/file", Config=config)
s3.download_file(bucket, "boto/file", path + ".back", Config=config)
same = open(path, "rb").read() == open(path + ".back", "rb").read()
check("upload_file and download_file, in parts", same)
s3.copy({"Bucket": bucket, "Key": "boto/file"}, bucket, "boto/file2", Config=config)
s3.download_file(bucket, "boto/file2", path + ".back2")
check("copy in parts", open(path, "rb").read() == open(path + ".back2", "rb").read())

# Presigned URLs
url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "boto/presigned ü"}, ExpiresIn=60)
r = urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT"))
check("a presigned PUT", r.status == 200)
url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "boto/presigned ü",
                                                      "ResponseContentDisposition": 'attachment; filename="ü.txt"'})
r = urllib.request.urlopen(url)
check("a presigned GET with another disposition", r.read() == b"by url" and
      "attachment" in r.headers["Content-Disposition"])

# Buckets
s3.create_bucket(Bucket="boto-bucket")
s3.head_bucket(Bucket="boto-bucket")
check("location", s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None)
check("buckets are listed", {"boto-bucket", bucket} <= {b["Name"] for b in s3.list_buckets()["Buckets"]})
refused("deleting a bucket with objects", "BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
s3.delete_bucket(Bucket="boto-bucket")
refused("a bucket that is not there", "404", s3.head_bucket, Bucket="boto-bucket")
refused("an ACL", "AccessControlListNotSupported", s3.put_object, Bucket=bucket, Key="a", Body=b"", ACL="public-read")
s3.put_object(Bucket=bucket, Key="boto/private", Body=b"", ACL="private")
refused("encryption", "NotImplemented", s3.put_object, Bucket=bucket, Key="a", Body=b"", ServerSideEncryption="AES256")
refused("a PUT of tags", "NotImplemented", s3.put_object_tagging, Bucket=bucket, Key="boto/one",
        Tagging={"TagSet": []})

# Over TLS botocore sends a file in chunks, with its checksum in the trailer.
secure = client(os.environ["SECURE_ENDPOINT"], os.environ["CA_FILE"])
seen = []
secure.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.headers))
for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256"):
    with open(path, "rb") as f:
        r = secure.put_object(Bucket=bucket, Key="boto/trailer", Body=f, ChecksumAlgorithm=algorithm)
    check("a body in chunks, with %s in the trailer" % algorithm, "Checksum" + algorithm in r)
check("they were chunks", all(h["x-amz-content-sha256"] == b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" or
                              h["X-Amz-Content-SHA256"] == b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" for h in seen))
secure.download_file(bucket, "boto/trailer", path + ".back3")
check("read back", open(path, "rb").read() == open(path + ".back3", "rb").read())
print("all checks hold")
