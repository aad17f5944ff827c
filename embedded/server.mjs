// The embedded TimescaleDB: PGlite (PostgreSQL in WebAssembly) behind the Postgres wire protocol.
//
//   node server.mjs --data DIR|memory --port N [--host 127.0.0.1] [--parent-pid PID]
//
// PGlite is ONE backend session. This server lets many clients use it in turn, so that each client
// seems to have a separate session. A client keeps the backend until its transaction is over.
// Prepared statements are renamed per client. Settings (SET, roles) are restored at each hand-over.
// When the server is ready, it prints one line of JSON on stdout; everything else goes to stderr.
// Exit codes: 0 stopped on request, 1 failed, 3 another process already serves the directory.
// Known limits: temporary tables, advisory *session* locks and SQL-level PREPARE names are shared
// by all clients; nothing can be cancelled; statement_timeout has no effect.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { close, execute, initialise, open } from './backend.mjs';
import { Client, clients } from './client.mjs';
import { alive, die, formerPort, lock, publish, startedAt, unlock } from './lock.mjs';
import { query } from './messages.mjs';
import { BASE_SQL } from './settings.mjs';
import { endIdleTransaction, stopTurns } from './turns.mjs';

const { values: args } = parseArgs({
  options: {
    data: { type: 'string' }, port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' }, 'parent-pid': { type: 'string' },
    init: { type: 'string' }, // only for this program itself: see prepare()
  },
});
const server = net.createServer((socket) => new Client(socket));
let stopping = false;

/** Stops accepting, finishes the running batch, rolls back what is open, closes the database. */
async function stop() {
  if (stopping) return;
  stopping = true;
  server.close();
  await stopTurns();
  for (const client of clients) client.fatal('57P01', 'the embedded engine is stopping');
  await close();
  unlock();
  process.exit(0);
}

/** Locks the directory, creates a database in it if there is none, and returns its path. */
function prepare(folder) {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const dir = fs.realpathSync(folder);
  lock(dir);
  const dataDir = path.join(dir, 'pgdata');
  if (!fs.existsSync(dataDir)) { // created beside it, then renamed: a kill leaves no partial one
    fs.rmSync(`${dataDir}.new`, { recursive: true, force: true });
    const command = [fileURLToPath(import.meta.url), '--init', `${dataDir}.new`];
    const { status } = spawnSync(process.execPath, command, { stdio: ['ignore', 2, 2] });
    if (status !== 0) throw new Error(`a database could not be created in ${dir}: see above`);
    fs.renameSync(`${dataDir}.new`, dataDir);
  }
  return dataDir;
}

async function main() {
  if (args.init) return void await initialise(args.init);
  if (!args.data) throw new Error('--data is missing; expected --data DIR or --data memory');
  const parentPid = Number(args['parent-pid'] ?? 0);
  const parent = { pid: parentPid, started: startedAt(parentPid) };
  await open(args.data === 'memory' ? null : prepare(args.data));
  // PGlite has no shared_preload_libraries. In a database that has the extension already, only its
  // loader loads the part under the Timescale licence (columnstore, policies).
  for (const sql of [BASE_SQL, "LOAD 'timescaledb'", 'CREATE EXTENSION IF NOT EXISTS timescaledb']) {
    const { error } = await execute(query(sql));
    if (error) throw error;
  }
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  const listen = (port) => new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, args.host, resolve);
  });
  if (Number(args.port)) await listen(Number(args.port));
  else await listen(formerPort).catch(() => listen(0));
  const { address: host, port } = server.address();
  publish({ host, port });
  setInterval(() => {
    if (parentPid && !alive(parent)) stop();
    endIdleTransaction();
  }, 1000);
  process.stdout.on('error', () => {}); // the parent is gone, which the interval above notices
  const answer = { ready: true, host, port, pid: process.pid };
  return void process.stdout.write(`${JSON.stringify(answer)}\n`);
}

process.on('uncaughtException', (error) => die(`engine failed: ${error.stack ?? error}`));
main().catch((error) => die(`engine could not start: ${error.message ?? error}`));
