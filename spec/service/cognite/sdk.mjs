// Drives the official @cognite/sdk; sdk_spec.lua runs it, one scenario at a time:
//   SDK=folder BASE=url PROJECT=name TOKEN=token node sdk.mjs SCENARIO
// Prints what it found as one JSON object; throws when the SDK does.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(process.env.SDK + '/index.js'));
const { CogniteClient } = require('@cognite/sdk');

let asked = 0;
const client = new CogniteClient({
  appId: 'spec', project: process.env.PROJECT, baseUrl: process.env.BASE,
  oidcTokenProvider: async () => { asked++; return process.env.TOKEN; },
});

const MiB = 1048576;
const bytes = (n, seed) => {
  const b = Buffer.alloc(n);
  for (let i = 0; i < n; i++) b[i] = (i * 31 + (i >> 8) * 7 + seed) & 255;
  return b;
};
const read = async (id) => {
  const [link] = await client.files.getDownloadUrls([id]);
  const answer = await fetch(link.downloadUrl);
  return { link, status: answer.status, type: answer.headers.get('content-type'),
    body: Buffer.from(await answer.arrayBuffer()) };
};
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const failure = async (promise) => {
  try { await promise; } catch (e) { return { status: e.status, message: e.message, missing: e.missing,
    duplicated: e.duplicated, name: e.constructor.name }; }
  return null;
};
const parts = async (session, list, order) => {
  for (const i of order) await session.uploadPart(i, list[i]);
};

const scenarios = {
  // A string, a Buffer and an ArrayBuffer, each waited for.
  async forms() {
    const found = {};
    const content = bytes(300000, 3);
    for (const [name, data] of [['string', 'grüße'], ['buffer', content],
      ['arrayBuffer', content.buffer.slice(content.byteOffset, content.byteOffset + content.length)]]) {
      const file = await client.files.upload({ name: name + '.bin', mimeType: 'text/plain' }, data, false, true);
      const back = await read({ id: file.id });
      found[name] = { uploaded: file.uploaded, hasTime: file.uploadedTime instanceof Date,
        safe: Number.isSafeInteger(file.id), same: back.body.equals(Buffer.from(data)), type: back.type };
    }
    found.asked = asked;
    return found;
  },

  // Everything that a file may say, and dates that become milliseconds.
  async fields() {
    const info = {
      name: 'all.txt', externalId: 'all', source: 'spec', directory: '/a/b', mimeType: 'text/plain',
      metadata: { one: '1', 'ключ': 'значение' }, assetIds: [1, 9007199254740991], dataSetId: 9007199254740990,
      securityCategories: [5], labels: [{ externalId: 'L' }], sourceCreatedTime: new Date(1234567890123),
      sourceModifiedTime: new Date(1234567890124),
      geoLocation: { type: 'Feature', geometry: { type: 'Point', coordinates: [10.5, 59.25] },
        properties: { deep: { a: [1, null, 'x'] } } },
    };
    const file = await client.files.upload(info, 'x', false, true);
    const [same] = await client.files.retrieve([{ externalId: 'all' }]);
    const list = await client.files.list({ filter: { directoryPrefix: '/a', labels: { containsAny: [{ externalId: 'L' }] },
      sourceCreatedTime: { min: 1234567890000, max: new Date(1234567891000) } } }).autoPagingToArray();
    const [updated] = await client.files.update([{ externalId: 'all', update: {
      metadata: { add: { two: '2' }, remove: ['one'] }, source: { setNull: true }, directory: { set: '/c' },
      assetIds: { add: [7], remove: [1] } } }]);
    return { file, same, listed: list.map((f) => f.id), updated,
      dates: same.sourceCreatedTime.getTime() === 1234567890123 && same.createdTime instanceof Date };
  },

  async manual() {
    const started = await client.files.upload({ name: 'later.bin' });
    const before = await client.files.retrieve([{ id: started.id }]);
    const nothing = await failure(client.files.getDownloadUrls([{ id: started.id }]));
    const put = await fetch(started.uploadUrl, { method: 'PUT', body: 'later' });
    const after = await client.files.retrieve([{ id: started.id }]);
    return { url: started.uploadUrl, before: before[0].uploaded, nothing, put: put.status, after: after[0].uploaded,
      body: (await read({ id: started.id })).body.toString() };
  },

  async overwrite() {
    const first = await client.files.upload({ name: 'v1', externalId: 'over', metadata: { a: '1', b: '2' },
      assetIds: [1, 2], source: 'kept' }, 'old content', false, true);
    const refused = await failure(client.files.upload({ name: 'v2', externalId: 'over' }, 'new'));
    const started = await client.files.upload({ name: 'v2', externalId: 'over', metadata: { c: '3' } }, undefined, true);
    const between = (await client.files.retrieve([{ externalId: 'over' }]))[0];
    const old = (await read({ externalId: 'over' })).body.toString();
    await client.files.upload({ name: 'v3', externalId: 'over', metadata: { d: '4' } }, 'new content', true, true);
    const last = (await client.files.retrieve([{ externalId: 'over' }]))[0];
    return { first, refused, started, between, old, last, body: (await read({ externalId: 'over' })).body.toString() };
  },

  async multipart() {
    const list = [bytes(5 * MiB + 1, 1), bytes(5 * MiB, 2), bytes(1000, 3)];
    const session = await client.files.multipartUploadSession({ name: 'm.bin', externalId: 'multi',
      mimeType: 'application/x-spec' }, 3);
    const progress = [session.getNotCompletedParts()];
    await session.uploadPart(2, list[2]);
    await session.uploadPart(0, bytes(5 * MiB, 9));
    progress.push(session.getNotCompletedParts());
    await session.uploadPart(0, list[0]); // a part that is done is not sent again
    await session.uploadPart(1, list[1]);
    const late = await failure(session.uploadPart(1, list[1]));
    const back = await read({ externalId: 'multi' });
    const info = session.multiPartFileUploadResponse;
    return { progress, finished: session.getFinished(), late, type: back.type, flat: Number.isSafeInteger(info.id),
      links: info.uploadUrls.length, same: back.body.equals(Buffer.concat([bytes(5 * MiB, 9), list[1], list[2]])) };
  },

  async replaceByParts() {
    await client.files.upload({ name: 'p', externalId: 'parts' }, 'old', false, true);
    const session = await client.files.multipartUploadSession({ name: 'p2', externalId: 'parts' }, 2, true);
    await session.uploadPart(0, bytes(5 * MiB, 4));
    const old = (await read({ externalId: 'parts' })).body.toString();
    await session.uploadPart(1, Buffer.from('tail'));
    const back = await read({ externalId: 'parts' });
    return { old, size: back.body.length, tail: back.body.subarray(-4).toString() };
  },

  async mistakes() {
    const unknown = await failure(client.files.retrieve([{ id: 1 }, { externalId: 'nobody' }]));
    const ignored = await client.files.retrieve([{ id: 1 }], { ignoreUnknownIds: true });
    const name = await failure(client.files.upload({ name: 'x'.repeat(257) }));
    const parts = await failure(client.files.multipartUploadSession({ name: 'x' }, 251));
    const file = await client.files.upload({ name: 'd' }, 'd', false, true);
    const gone = await client.files.delete([{ id: file.id }]);
    return { unknown, ignored, name, parts, gone, after: await failure(client.files.delete([{ id: file.id }])) };
  },

  async pages() {
    for (let i = 0; i < 7; i++) await client.files.upload({ name: 'page', externalId: 'page' + i });
    const all = await client.files.list({ filter: { name: 'page' }, limit: 3 }).autoPagingToArray({ limit: Infinity });
    return { ids: all.map((f) => f.externalId), unique: new Set(all.map((f) => f.id)).size };
  },

  // The spec's relay answers some requests itself.
  async retries() {
    const file = await client.files.upload({ name: 'r' }, bytes(100000, 5), false, true);
    return { same: (await read({ id: file.id })).body.equals(bytes(100000, 5)) };
  },

  async partRetries() {
    const session = await client.files.multipartUploadSession({ name: 'r' }, 2);
    await parts(session, [bytes(5 * MiB, 1), bytes(10, 2)], [1, 0]);
    const back = await read({ id: session.multiPartFileUploadResponse.id });
    return { finished: session.getFinished(), size: back.body.length };
  },

  async forbidden() {
    return failure(client.files.retrieve([{ id: 1 }]));
  },
};

const found = await scenarios[process.argv[2]]();
await sleep(0);
console.log('FOUND ' + JSON.stringify(found));
process.exit(0);
