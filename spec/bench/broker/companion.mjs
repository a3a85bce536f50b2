// @uppy/companion as its documentation has it, for one bucket of our mock store.
//   node companion.mjs FOLDER_OF_NODE_MODULES PORT STORE_ENDPOINT
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [folder, port, endpoint] = process.argv.slice(2)
const require = createRequire(folder + '/')
const load = async (name) => (await import(pathToFileURL(require.resolve(name)).href)).default
process.env.NODE_ENV = 'production'

const express = await load('express')
const { app: companion } = await import(
  pathToFileURL(folder + '/node_modules/@uppy/companion/lib/companion.js').href)

const app = express()
app.use(express.json())
const made = companion({
  secret: 'a secret of the benchmark',
  filePath: '/tmp',
  server: { host: '127.0.0.1:' + port, protocol: 'http' },
  providerOptions: {},
  metrics: false,
  uploadUrls: [/^https:\/\/none\.example\//],
  corsOrigins: true,
  s3: {
    key: 'AKBENCH', secret: 'secret-of-the-benchmark', bucket: 'longshore', region: 'us-east-1',
    endpoint, forcePathStyle: true, expires: 3600,
    getKey: ({ filename }) => 'newton/acme/' + filename,
  },
})
app.use(made.app ?? made)
app.listen(Number(port), '127.0.0.1')
