-- The S3 clients of Debian against the disk store: what they upload they read
-- back, byte for byte. The store runs in nginx (LuaJIT) whatever runs this
-- file, so it runs once, on Lua 5.4.
if rawget(_G, "jit") then return end

local diskstore = require "spec.support.diskstore"
local support = require "spec.support"

describe("Debian's S3 clients on the disk store", function()
  local store, secure, folder, small, large, env
  local q = support.quote

  -- Runs a command with the clients' environment; its output, which must be a success.
  local function run(command)
    local code, out = support.run("cd " .. q(folder) .. " && " .. env .. command)
    assert(code == 0, ("%s\nexit code %d\n%s\n%s"):format(command, code, out, store:log()))
    return out
  end

  local function same(a, b)
    assert.equal(0, (support.run(("cmp %s/%s %s/%s"):format(folder, a, folder, b))))
  end

  setup(function()
    store = diskstore.start { min_part = 5 * 1024 * 1024, buckets = { "longshore", "second", "boto" } }
    folder = support.tmpdir()
    support.run(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
      .. "-addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem"):format(folder, folder))
    -- The same folder served twice would be one server too many: this one has its own.
    secure = diskstore.start { buckets = { "boto" }, tls = { certificate = folder .. "/cert.pem",
      key = folder .. "/key.pem" } }
    small, large = folder .. "/small.bin", folder .. "/large.bin"
    support.run("head -c 70000 /dev/urandom > " .. small)
    support.run("head -c 30000001 /dev/urandom > " .. large)
    support.run(("mkdir -p %s/tree/sub && cp %s %s/tree/sub/'a b+c.bin' && echo x > %s/tree/é.txt"):format(
      folder, small, folder, folder))
    support.write_file(folder .. "/s3cfg", ("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = 127.0.0.1:%d\n"
      .. "host_bucket = 127.0.0.1:%d\nuse_https = False\nsignature_v2 = False\nbucket_location = us-east-1\n"):format(
        store.access_key, store.secret_key, store.port, store.port))
    support.write_file(folder .. "/rclone.conf", ("[ls]\ntype = s3\nprovider = Other\naccess_key_id = %s\n"
      .. "secret_access_key = %s\nendpoint = %s\nregion = us-east-1\n"):format(
        store.access_key, store.secret_key, store.endpoint))
    env = ("env -u AWS_CA_BUNDLE HOME=%s AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null "
      .. "AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s "
      .. "AWS_DEFAULT_REGION=us-east-1 LC_ALL=C.UTF-8 AWS_MAX_ATTEMPTS=1 "):format(
        folder, store.access_key, q(store.secret_key))
  end)

  teardown(support.cleanup)

  it("aws-cli uploads (single and in parts), lists, copies, reads back, signs and deletes", function()
    local aws = "/usr/bin/aws --endpoint-url " .. store.endpoint .. " "
    run(aws .. "s3 cp small.bin s3://longshore/aws/small --metadata a=1")
    run(aws .. "s3 cp large.bin 's3://longshore/aws/large file'")
    local listed = run(aws .. "s3 ls --recursive s3://longshore/aws/")
    assert.truthy(listed:find("30000001 aws/large file", 1, true))
    assert.truthy(listed:find("70000 aws/small", 1, true))
    run(aws .. "s3 cp 's3://longshore/aws/large file' 's3://second/copied'")
    run(aws .. "s3 cp 's3://second/copied' aws.back")
    same("large.bin", "aws.back")
    run(aws .. "s3 sync tree s3://longshore/aws/tree && mkdir back && " .. env .. aws
      .. "s3 sync s3://longshore/aws/tree back")
    assert.equal(0, (support.run(("diff -r %s/tree %s/back"):format(folder, folder))))
    local head = run(aws .. "s3api head-object --bucket longshore --key aws/small")
    assert.truthy(head:find('"ContentLength": 70000', 1, true))
    local url = run(aws .. "s3 presign s3://longshore/aws/small"):match("(http%S+)")
    run("curl -sf --noproxy '*' -o presigned.back '" .. url .. "'")
    same("small.bin", "presigned.back")
    run(aws .. "s3 rm --recursive s3://longshore/aws/")
    assert.equal("", run(aws .. "s3 ls --recursive s3://longshore/ || true"):gsub("%s", ""))
  end)

  it("rclone uploads a tree and a file in parts, checks them, copies at the store, reads back", function()
    local rclone = "rclone --config rclone.conf --retries 1 "
    run(rclone .. "copy tree ls:longshore/rclone/tree")
    run(rclone .. "copyto --s3-upload-cutoff 8M --s3-chunk-size 8M large.bin ls:longshore/rclone/large")
    run(rclone .. "check tree ls:longshore/rclone/tree")
    run(rclone .. "check --download tree ls:longshore/rclone/tree")
    run(rclone .. "copyto ls:longshore/rclone/large ls:second/rclone-copy")
    run(rclone .. "copyto ls:second/rclone-copy rclone.back")
    same("large.bin", "rclone.back")
    local listed = run(rclone .. "lsf -R ls:longshore/rclone")
    assert.truthy(listed:find("tree/sub/a b+c.bin", 1, true))
    assert.truthy(listed:find("tree/é.txt", 1, true))
    run(rclone .. "mkdir ls:rclone-made && " .. env .. rclone .. "rmdir ls:rclone-made")
    run(rclone .. "purge ls:longshore/rclone")
    run(rclone .. "rcat ls:longshore/rclone-stream < small.bin")
    run(rclone .. "cat ls:longshore/rclone-stream > stream.back")
    same("small.bin", "stream.back")
  end)

  it("s3cmd uploads (single and in parts), lists, copies, reads back and deletes", function()
    local s3cmd = "s3cmd -c s3cfg --no-progress "
    run(s3cmd .. "put small.bin s3://longshore/s3cmd/small")
    run(s3cmd .. "put --multipart-chunk-size-mb=8 large.bin s3://longshore/s3cmd/large")
    local listed = run(s3cmd .. "ls s3://longshore/s3cmd/")
    assert.truthy(listed:find("30000001", 1, true))
    run(s3cmd .. "cp s3://longshore/s3cmd/large s3://second/s3cmd-copy")
    run(s3cmd .. "get s3://second/s3cmd-copy s3cmd.back")
    same("large.bin", "s3cmd.back")
    run(s3cmd .. "info s3://longshore/s3cmd/small")
    run(s3cmd .. "info s3://longshore")
    run(s3cmd .. "mb s3://s3cmd-made && " .. env .. s3cmd .. "rb s3://s3cmd-made")
    run(s3cmd .. "del --recursive --force s3://longshore/s3cmd/")
    assert.falsy(run(s3cmd .. "ls s3://longshore/s3cmd/"):find("small", 1, true))
  end)

  it("boto3 finds every operation as it expects it", function()
    local variables = ("SECURE_ENDPOINT=%s CA_FILE=%s/cert.pem ENDPOINT=%s ACCESS_KEY=%s SECRET_KEY=%s BUCKET=boto "
      .. "FOLDER=%s "):format(secure.endpoint, folder, store.endpoint, store.access_key, q(store.secret_key), folder)
    local out = run(variables .. "/usr/bin/python3 " .. support.root .. "/spec/conformance/s3_boto3.py")
    assert.truthy(out:find("all checks hold", 1, true))
  end)
end)
