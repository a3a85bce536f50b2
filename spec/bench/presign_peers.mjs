// The JavaScript peers of the presigning benchmark: prints "peer nanoseconds
// of CPU for each URL" and writes the URLs to the file given.
//   node presign_peers.mjs FOLDER_WITH_NODE_MODULES FILE
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";

const [, , folder, file] = process.argv;
const require = createRequire(folder + "/");
const aws4 = require("aws4");
const { Client } = require("minio");
const { S3Client, UploadPartCommand } = require("@aws-sdk/client-s3");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const accessKeyId = "AKIAIOSFODNN7EXAMPLE";
const secretAccessKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const host = "bucket.s3.us-east-1.amazonaws.com";
const key = "k".repeat(60);
const uploadId = "u".repeat(133);

const minio = new Client({
  endPoint: "s3.us-east-1.amazonaws.com", accessKey: accessKeyId, secretKey: secretAccessKey, region: "us-east-1",
  pathStyle: false,
});
const sdk = new S3Client({
  region: "us-east-1", credentials: { accessKeyId, secretAccessKey }, requestChecksumCalculation: "WHEN_REQUIRED",
});

const peers = {
  aws4: [10000, (i) => {
    const signed = aws4.sign({
      service: "s3", region: "us-east-1", method: "PUT", host, signQuery: true,
      path: `/${key}?partNumber=${i}&uploadId=${uploadId}&X-Amz-Expires=900`,
    }, { accessKeyId, secretAccessKey });
    return `https://${host}${signed.path}`;
  }],
  minio: [5000, (i) => minio.presignedUrl("PUT", "bucket", key, 900, { partNumber: String(i), uploadId })],
  "aws-sdk": [2000, (i) => getSignedUrl(sdk, new UploadPartCommand({
    Bucket: "bucket", Key: key, PartNumber: i, UploadId: uploadId,
  }), { expiresIn: 900 })],
};

const lines = [];
for (const [name, [count, sign]] of Object.entries(peers)) {
  let best = Infinity;
  let urls;
  for (let round = 0; round < 3; round++) {
    urls = [];
    const begun = process.cpuUsage();
    for (let i = 1; i <= count; i++) urls.push(await sign(i));
    const spent = process.cpuUsage(begun);
    best = Math.min(best, (spent.user + spent.system) * 1000 / count);
  }
  console.log(`${name} ${best.toFixed(1)}`);
  lines.push(...urls);
}
writeFileSync(file, lines.join("\n") + "\n");
